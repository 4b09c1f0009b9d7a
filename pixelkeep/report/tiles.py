"""Describes tiling in words: how images were cut, and what is left of the seams."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def tile_words(tile: Mapping[str, Any] | None) -> str:
    """Return in words how images were cut into tiles, from a protocol's ``tile``; empty if they were not."""
    if not tile:
        return ""
    seen = "" if tile["imgsz"] == tile["size"] else f" seen at {tile['imgsz']}"
    whole = ", the whole image too" if tile["full_image"] else ""
    return f"tiles of {tile['size']} px{seen}, overlap {tile['overlap']:g}{whole}, merged by {tile['merge']}"


def seam_words(seams: Mapping[str, float]) -> str:
    """Return in words what became of the boxes of tiles when they were merged."""
    return (
        f"{seams['candidates']:,} boxes became {seams['objects']:,}, {seams['joined']:,} of them joined from parts; "
        f"per thousand, {seams['cut_per_thousand']:g} may be cut and {seams['doubled_per_thousand']:g} doubled"
    )


def raster_words(file: str, told: Mapping[str, Any]) -> str:
    """Return in words what an image read in windows was like: its size, tiles without data, and its map."""
    empty = f", {told['empty_tiles']:,} tiles without data left out" if told["empty_tiles"] else ""
    where = f", on the map in geojson/{told['map']}" if told["map"] else ""
    return f"{Path(file).name}: {told['width']:,} x {told['height']:,} px{empty}{where}"
