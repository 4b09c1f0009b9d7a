"""Costs of a network: parameters, multiply-adds, memory and latency, counted or measured the same way everywhere."""
