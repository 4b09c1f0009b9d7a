"""Pixelkeep's blocks in Ultralytics' networks: the table of blocks, the parser, folding, and auxiliary losses."""
