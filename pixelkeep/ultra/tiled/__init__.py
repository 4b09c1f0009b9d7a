"""Large images in tiles: cut, looked at and merged, in detection and in validation."""
