"""Runs several commands as one."""
