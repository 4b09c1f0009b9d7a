"""Progress bar of detection in tiles, with tiles, images, detections and the time left."""

from __future__ import annotations

import time

from pixelkeep.ultra.running.console import A_MINUTE, Bar


class TileBar:
    """A progress bar that appears, once it has been started, with the first tile that is done.

    The time left covers the images or frames that are known to come, and decreases with each tile of an image. A
    stream has no end, so no time left is shown for it. Without a terminal, one line per minute replaces the bar.
    """

    def __init__(self) -> None:
        self.total: int | None = None
        self.enabled = False
        self._bar: Bar | None = None
        self._tiles = self._found = 0
        self._gone_by = self._began = 0.0  # images and frames; seconds

    def start(self, total: int | None) -> None:
        """Switch the bar on.

        Args:
            total: Number of images and frames to come; None if it is not known.
        """
        self.enabled, self.total, self._began = True, total, time.time()

    def tile(self, done: int, total: int) -> None:
        """Update the bar when ``done`` of an image's ``total`` tiles are done."""
        self._tiles = total
        self._show(f"tile {done}/{total}", self._gone_by + done / (total + 1))  # + 1 for merging

    def image(self, found: int, gone_by: float = 1) -> None:
        """Update the bar when an image is done.

        Args:
            found: Number of detections in the image.
            gone_by: Number of images or frames to advance by: this one and those left out before it.
        """
        self._gone_by += gone_by
        self._found += found
        self._show(f"{self._tiles} tiles", self._gone_by)

    def pass_over(self, count: int) -> None:
        """Advance the bar by ``count`` images that are left out."""
        self._gone_by += count
        if self._bar is not None and count:
            self._show(f"{self._tiles} tiles", self._gone_by)

    def close(self) -> None:
        """Close the bar if it is shown."""
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
