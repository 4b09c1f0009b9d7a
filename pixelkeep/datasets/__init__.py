"""Datasets: one module per format (load and save), the parts they share in subpackages, demo data and doctor."""
