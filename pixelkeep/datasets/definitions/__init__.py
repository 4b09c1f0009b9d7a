"""Dataset YAMLs: finding, reading and checking them, the formats they can describe, and the names of the classes."""
