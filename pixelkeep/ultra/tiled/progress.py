"""The progress of detection in tiles: a bar with tiles, images, detections and the time left."""

from __future__ import annotations

from pixelkeep.ultra.running.console import Bar


class TileBar:
    """Appears with the first tile that is done, unless it is switched off.

    The time left is that of the images, or frames, that are known of; what has no end, a stream, shows none.
    """

    def __init__(self) -> None:
        self.total: int | None = None
        self.enabled = False
        self._bar: Bar | None = None
        self._images = self._tiles = self._found = 0

    def start(self, total: int | None) -> None:
        """Switch the bar on: ``total`` images and frames are to come, None where nobody knows."""
        self.enabled, self.total = True, total

    def tile(self, done: int, total: int) -> None:
        """Take note that ``done`` of an image's ``total`` tiles are done."""
        self._tiles = total
        self._show(f"tile {done}/{total}")

    def image(self, found: int) -> None:
        """Take note that an image is done, with so many detections."""
        self._images += 1
        self._found += found
        self._show(f"{self._tiles} tiles")
        if self._bar is not None:
            self._bar.update()

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _show(self, tiles: str) -> None:
        if not self.enabled:
            return
        if self._bar is None:
            self._bar = Bar(desc="detecting", total=self.total, unit="img")
        self._bar.set_description(f"detecting  {tiles}  {self._found} found")
