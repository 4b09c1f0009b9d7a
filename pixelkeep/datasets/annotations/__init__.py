"""The annotations of a split: the record of an image, what is wrong with it, and what is mended."""
