"""Ultralytics' validators with this project's data and metrics, one module per task."""
