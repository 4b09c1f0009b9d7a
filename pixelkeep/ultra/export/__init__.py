"""Folded networks in the formats of other runtimes, kept only if they agree with PyTorch."""
