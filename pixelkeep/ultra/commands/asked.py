"""What detect is asked for besides Ultralytics' settings, and the form in which a run keeps it for going on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pixelkeep.ultra.network.choosing import STATIC
from pixelkeep.ultra.tiled.images import AUTO, Request, Tiles

WHOLE = Request()  # images as a whole
OPTIONS = {"sources": "--source", "auto_conf": "--conf auto"}  # that have another name than what they give
OF_THE_PLACE = ("project", "name", "exist_ok")  # settings that say where a run goes, not what it does


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What detect is asked for.

    Attributes:
        sources: See :func:`pixelkeep.ultra.data.sources.resolve_sources`.
        classes: Keep only these: names or numbers, separated by commas.
        save_json: Write predictions.json in COCO results form.
        save_csv: Write predictions.csv, one line a detection.
        save_masks: Write what semantic segmentation says of each pixel, as PNG.
        save_geojson: Write what is found in georeferenced images in map coordinates.
        raster_crs: Of them, those of each image's own reference system.
        show_regions: Draw dark what the network's masks leave out.
        save_video: Write annotated videos; None for files yes and webcams and streams no.
        auto_conf: Take each class's lowest confidence from the weights.
        tiling: The tiles that images are cut into; none by default.
        track: The tracker that gives what is found in videos identities, a name or file; None for none.
        fps: Frames of a video or stream that are got through a second; None for as fast as it goes.
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
        """Return the options, as on the command line, of all that is not as it is by default."""
        differing = _differing(self, Asked(sources=[])) | _differing(self.tiling, WHOLE)
        return [option(name, value) for name, value in differing.items() if name != "tiling"]

    def kept(
        self, settings: Mapping[str, Any], source: str | list[str], weights: Path, tiles: Tiles | None
    ) -> dict[str, Any]:
        """Return all of it in the form in which a run keeps it: from any folder the same files.

        Args:
            settings: Ultralytics', as given.
            source: What the sources stand for.
            weights: What is used.
            tiles: What is asked for in ``tiling`` comes to; the data that ``auto`` goes by may not be there later.
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
        """Return the settings, and what else was asked for, of what :meth:`kept` returned."""
        others = {key: value for key, value in kept.items() if key not in ("settings", "tiling")}
        return dict(kept["settings"]), cls(**others, tiling=Request(**kept["tiling"]))


def _differing(one: Any, other: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that are not as in another one."""
    return {each.name: value for each in fields(one) if (value := getattr(one, each.name)) != getattr(other, each.name)}


def option(name: str, value: Any) -> str:
    """Return the option of detect, as on the command line, that gives what has a name here, or is a setting."""
    return OPTIONS.get(name) or ("--no-" if value is False else "--") + name.replace("_", "-")


def _from_anywhere(name: str) -> str:
    """Return the name of a file, or of anything else, so that it is found from another folder."""
    return str(Path(name).resolve()) if Path(name).is_file() else name
