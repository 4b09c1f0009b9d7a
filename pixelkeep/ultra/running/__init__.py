"""What every command needs around its work: settings, run folders, processes, the terminal, files whole or absent."""
