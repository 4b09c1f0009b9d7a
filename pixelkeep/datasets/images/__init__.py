"""Image files: pixels of any depth, every file decoded once before training, images read window by window."""
