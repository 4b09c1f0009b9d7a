"""The requests to detect besides Ultralytics' settings, and the form in which a run keeps them for --resume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pixelkeep.ultra.network.choosing import STATIC
from pixelkeep.ultra.tiled.images import AUTO, Request, Tiles

WHOLE = Request()  # images as a whole
OPTIONS = {"sources": "--source", "auto_conf": "--conf auto"}  # options not named after their field
OF_THE_PLACE = ("project", "name", "exist_ok")  # settings that say where a run goes, not what it does


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What detect is asked for besides Ultralytics' settings.

    Attributes:
        sources: Sources as given; see :func:`pixelkeep.ultra.data.sources.resolve_sources`.
        classes: Names or numbers, separated by commas, of the classes to keep; None for all.
        save_json: Whether to write predictions.json in COCO results form.
        save_csv: Whether to write predictions.csv, one line per detection.
        save_masks: Whether to write the class map of semantic segmentation as PNG.
        save_geojson: Whether to write detections in georeferenced images in map coordinates.
        raster_crs: Whether these coordinates are in each image's own reference system, not in WGS 84.
        show_regions: Whether to darken what the network's masks leave out.
        save_video: Whether to write annotated videos; None writes them for files, not for webcams and streams.
        auto_conf: Whether to take the lowest confidence of each class from the weights.
        tiling: Tiles that images are cut into; none by default.
        track: Name or file of the tracker that gives objects in videos identities; None for no tracking.
        fps: Frames of a video or stream to get through per second; None for as many as possible.
        fold: What is folded of a network in PyTorch; see :mod:`pixelkeep.ultra.network.choosing`.
    """

    sources: list[str]
    classes: str | None = None
    save_json: bool = False
    save_csv: bool = False
    save_masks: bool = False
    save_geojson: bool = False
    raster_crs: bool = False
    show_regions: bool = False
    save_video: bool | None = None
    auto_conf: bool = False
    tiling: Request = WHOLE
    track: str | None = None
    fps: float | None = None
    fold: str = STATIC

    def given(self) -> list[str]:
        """Return the options, as on the command line, of all fields that differ from their defaults."""
        differing = _differing(self, Asked(sources=[])) | _differing(self.tiling, WHOLE)
        return [option(name, value) for name, value in differing.items() if name != "tiling"]

    def kept(
        self, settings: Mapping[str, Any], source: str | list[str], weights: Path, tiles: Tiles | None
    ) -> dict[str, Any]:
        """Return the whole request in the form in which a run keeps it, with paths that are valid from any folder.

        Args:
            settings: Ultralytics' settings, as given.
            source: Files, or the live source, that the sources stand for.
            weights: The weights file in use.
            tiles: Tiles that ``tiling`` amounts to. They are kept for ``auto``, as the data that it is derived from may
                be missing later.
        """
        auto = {"auto": [tiles.size, tiles.imgsz]} if tiles and self.tiling.tile == AUTO else {}
        lasting = {key: value for key, value in settings.items() if key not in OF_THE_PLACE}
        return {
            **asdict(self),
            "tiling": asdict(self.tiling) | auto,
            "settings": lasting | {"weights": str(weights.resolve())},
            "sources": source if isinstance(source, list) else [_from_anywhere(source)],
            "track": _from_anywhere(self.track) if self.track else None,
        }

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> tuple[dict[str, Any], Asked]:
        """Return the settings and the request that :meth:`kept` turned into a mapping."""
        others = {key: value for key, value in kept.items() if key not in ("settings", "tiling")}
        return dict(kept["settings"]), cls(**others, tiling=Request(**kept["tiling"]))


def _differing(one: Any, other: Any) -> dict[str, Any]:
    """Return the fields, by name, in which a dataclass differs from another one."""
    return {each.name: value for each in fields(one) if (value := getattr(one, each.name)) != getattr(other, each.name)}


def option(name: str, value: Any) -> str:
    """Return the command-line option of detect that sets a field of `Asked` or `Request`, or a setting."""
    return OPTIONS.get(name) or ("--no-" if value is False else "--") + name.replace("_", "-")


def _from_anywhere(name: str) -> str:
    """Return the absolute path if ``name`` is a file, so that it is found from another folder; else ``name``."""
    return str(Path(name).resolve()) if Path(name).is_file() else name
