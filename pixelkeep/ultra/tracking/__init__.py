"""Objects followed through a video: trackers, their presets, and tracks as text."""
