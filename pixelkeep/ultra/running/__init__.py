"""What every command needs around its work: settings, run folders, processes, terminal output, atomic file writes."""
