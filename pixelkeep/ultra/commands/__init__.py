"""What train, val and detect do, as functions from settings to a result."""
