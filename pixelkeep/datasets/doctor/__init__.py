"""What a dataset asks of a detector, found out before training: object sizes, anchors, duplicates, advice."""
