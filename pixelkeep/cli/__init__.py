"""The commands, one module each: they parse options and show results; other packages do the work."""
