"""A checkpoint made into one of another model, with the same function where that is possible."""
