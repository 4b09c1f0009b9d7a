"""Datasets for Ultralytics' loops, read by this project's own readers, with what augmentation adds or ignores."""
