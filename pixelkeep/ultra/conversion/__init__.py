"""Conversion of a checkpoint into one of another model that computes the same function where that is possible."""
