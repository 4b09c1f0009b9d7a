"""Tracking of objects through a video: trackers, their presets, and tracks as text files."""
