"""Our blocks in Ultralytics' networks: the table of blocks, the parser, folding, and what layers tell the loss."""
