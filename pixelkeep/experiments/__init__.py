"""Experiments that combine several commands: comparisons of models, contrasts and the demo."""
