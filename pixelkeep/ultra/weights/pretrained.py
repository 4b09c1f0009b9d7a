"""Ultralytics' pretrained weights: nothing is downloaded automatically, so their names are answered with an address."""

from __future__ import annotations

from pathlib import Path

RELEASES = "https://github.com/ultralytics/assets/releases"


def where_from(name: str) -> str | None:
    """Return a message that says where a file can be downloaded, or None if Ultralytics has no such file.

    ``yolov5s.pt`` is published there as ``yolov5su.pt``, with another head; the original file does not fit Ultralytics'
    networks.
    """
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES

    file = Path(name).name
    renewed = f"{Path(file).stem}u.pt"
    if file in GITHUB_ASSETS_NAMES:
        return f"nothing is downloaded automatically: get {file} from {RELEASES}"
    if file.endswith(".pt") and renewed in GITHUB_ASSETS_NAMES:
        return f"nothing is downloaded automatically: get {renewed}, as Ultralytics calls it, from {RELEASES}"
    return None
