"""Ultralytics' predictors with this project's image reading, drawing and result records, one module per task."""
