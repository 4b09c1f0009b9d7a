"""Image files: reading pixels of any depth, decoding every file once before training, reading window by window."""
