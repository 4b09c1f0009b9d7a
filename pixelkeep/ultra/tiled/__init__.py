"""Detection and validation of large images in tiles, whose boxes are merged."""
