"""What is wrong with a dataset, and what would help, said before training."""
