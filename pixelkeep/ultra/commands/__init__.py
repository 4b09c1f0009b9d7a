"""The work of train, val and detect, as functions from settings to a result."""
