"""What a network costs: parameters, multiply-adds, memory and latency, counted and measured the same everywhere."""
