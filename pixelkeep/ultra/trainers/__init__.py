"""Ultralytics' trainers with this project's data, loss and checkpoints, one module per task."""
