"""Dataset YAMLs: found, read and checked, with the forms in which they give data and the names of the classes."""
