"""Datasets: one file per format (load and save), the checks, and the generated demo dataset."""
