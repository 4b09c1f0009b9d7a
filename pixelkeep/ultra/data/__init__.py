"""Data for Ultralytics' loops, read by this project's own readers, and what augmentation adds or ignores."""
