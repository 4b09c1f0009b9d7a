"""Find out before training what a dataset asks of a detector: object sizes, anchor points, duplicates, advice."""
