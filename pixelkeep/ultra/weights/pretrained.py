"""Ultralytics' pretrained weights: nothing is downloaded by itself, so a name of theirs is answered with the place."""

from __future__ import annotations

from pathlib import Path

RELEASES = "https://github.com/ultralytics/assets/releases"


def where_from(name: str) -> str | None:
    """Return where the file of a name can be had, or None where Ultralytics has none of it.

    ``yolov5s.pt`` is ``yolov5su.pt`` there, with another head; the original file does not fit Ultralytics' networks.
    """
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES

    file = Path(name).name
    renewed = f"{Path(file).stem}u.pt"
    if file in GITHUB_ASSETS_NAMES:
        return f"nothing is downloaded by itself: get {file} from {RELEASES}"
    if file.endswith(".pt") and renewed in GITHUB_ASSETS_NAMES:
        return f"nothing is downloaded by itself: get {renewed}, as Ultralytics calls it, from {RELEASES}"
    return None
