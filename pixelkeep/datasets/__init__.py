"""Datasets: one module per format to load and save, subpackages with the shared parts, demo data and the doctor."""
