"""``pixelkeep doctor``: what is wrong with a dataset, and what would help, reported before training."""
