"""Ultralytics' validators with this project's data and figures, one module a task."""
