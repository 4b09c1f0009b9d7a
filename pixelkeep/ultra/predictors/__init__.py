"""Ultralytics' predictors with this project's reading, drawing and records, one module a task."""
