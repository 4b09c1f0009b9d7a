"""The progress of detection in tiles: a bar with tiles, images, detections and the time left."""

from __future__ import annotations

import time

from pixelkeep.ultra.running.console import A_MINUTE, Bar


class TileBar:
    """Appears with the first tile that is done, unless it is switched off.

    The time left is that of the images, or frames, that are known of, and of an image goes down with its tiles; what
    has no end, a stream, shows none. Where there is no terminal, a line a minute takes its place.
    """

    def __init__(self) -> None:
        self.total: int | None = None
        self.enabled = False
        self._bar: Bar | None = None
        self._tiles = self._found = 0
        self._gone_by = self._began = 0.0  # images and frames; seconds

    def start(self, total: int | None) -> None:
        """Switch the bar on: ``total`` images and frames are to come, None where nobody knows."""
        self.enabled, self.total, self._began = True, total, time.time()

    def tile(self, done: int, total: int) -> None:
        """Take note that ``done`` of an image's ``total`` tiles are done."""
        self._tiles = total
        self._show(f"tile {done}/{total}", self._gone_by + done / (total + 1))  # merging them is left

    def image(self, found: int, gone_by: float = 1) -> None:
        """Take note that an image is done, with so many detections; ``gone_by`` counts it and frames left out."""
        self._gone_by += gone_by
        self._found += found
        self._show(f"{self._tiles} tiles", self._gone_by)

    def pass_over(self, count: int) -> None:
        """Take note that so many images are left out."""
        self._gone_by += count
        if self._bar is not None and count:
            self._show(f"{self._tiles} tiles", self._gone_by)

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _show(self, tiles: str, gone_by: float) -> None:
        if not self.enabled:
            return
        if self._bar is None:
            self._bar = Bar(desc="detecting", every=A_MINUTE, total=self.total, unit="img")
            self._bar.start_t = self._began
        self._bar.desc = f"detecting  {tiles}  {self._found} found"
        self._bar.n = gone_by
        self._bar.update(0)
