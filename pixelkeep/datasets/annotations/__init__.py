"""The annotations of a split: the record of each image, the problems found in it and how some of them are mended."""
