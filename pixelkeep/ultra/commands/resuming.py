"""``detect --resume``: find the run, its settings and what is done, and bring trackers back to their former state."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ultralytics.utils.files import increment_path

from pixelkeep.datasets.definitions.spec import read_mapping
from pixelkeep.errors import OptionError, SourceError
from pixelkeep.tiling import Seams
from pixelkeep.tiling.timed import Looked
from pixelkeep.ultra.commands.asked import Asked, option
from pixelkeep.ultra.commands.journal import NAME, Done, entries
from pixelkeep.ultra.commands.results import FILE
from pixelkeep.ultra.data.videos import Passage, Videos
from pixelkeep.ultra.predictors.base import Begun, RunPredictor, viewable
from pixelkeep.ultra.predictors.boxes import folder_of
from pixelkeep.ultra.running import runs
from pixelkeep.ultra.tiled.budget import tiles_of
from pixelkeep.ultra.tiled.predictor import TiledPredictor
from pixelkeep.ultra.tracking.frames import Tracking

CHANGEABLE = {"device", "project", "name", "verbose"}  # the machine, where to look, and what is printed


def asked_before(
    run: str | None, flags: Mapping[str, Any], others: list[str], *, requested: bool
) -> tuple[Path, dict[str, Any], Asked]:
    """Return the folder of the run to resume, its settings, and the rest of its request.

    Args:
        run: The run folder; None for the newest unfinished run.
        flags: Settings given on the command line; of those that affect the run, only the device may be set.
        others: Other options given, as spelt on the command line, which must be none.
        requested: Whether --resume was given.

    Raises:
        PixelkeepError: There is no such run, or an option is given that would make it a different run.
    """
    if not requested:
        raise OptionError(f"unexpected argument '{run}'; to go on with a run, write --resume {run}")
    off = {key for key, value in flags.items() if value is None or (value is False and key != "save")}
    given = {key: value for key, value in flags.items() if key not in off}
    fixed = [option(key, value) for key, value in given.items() if key not in CHANGEABLE] + others
    if fixed:
        raise OptionError(f"--resume goes on with the run's own settings; leave out {', '.join(fixed)}")
    folder = runs.detection_to_resume(run, FILE, given.get("project"), given.get("name"))
    settings, asked = Asked.read(read_mapping(folder / runs.ASKED))
    return folder, settings | {key: given[key] for key in ("device", "verbose") if key in given}, asked


def what_is_done(folder: Path, videos: bool) -> Done:
    """Return what a run has done; if videos are saved, only frames that the saved video can play count."""
    done = Done.read(folder / NAME)
    cut = [path for path in done.cut_off() if videos and path in done.names]
    if not cut:
        return done
    from pixelkeep.ultra.predictors.growing_mp4 import whole_frames  # loads PyAV, which few runs need

    played = {path: whole_frames(folder / f"{done.names[path]}.mp4") for path in cut}
    short = {path: frames for path, frames in played.items() if frames < done.passages[path].frames}
    return Done.read(folder / NAME, short) if short else done


def drop_crops(folder: Path, done: Done) -> None:
    """Remove the crops of images and frames that do not count, which would otherwise be written twice.

    A crop gets a number if its name is taken. Which crops count is therefore found by naming them all once more.
    """
    found = set((folder / "crops").rglob("*.jpg"))
    if not found or min(file.stat().st_mtime for file in found) < (folder / runs.ASKED).stat().st_mtime:
        return  # there are none, or some are from an earlier run in this folder
    named: set[Path] = set()
    between = inspect.signature(increment_path).parameters["sep"].default  # of name and number; depends on the release
    for size, entry in entries(folder / NAME):
        if size > done.size:
            break
        stem = f"{entry.get('name')}_{entry['frame']}" if entry.get("frame") else entry.get("name")
        for kind, count in entry.get("counts", {}).items():
            first = folder / "crops" / folder_of(kind) / f"{stem}.jpg"
            for _ in range(count):
                numbers = (first.with_name(f"{stem}{between}{n}.jpg") for n in itertools.count(2))
                named.add(first if first not in named else next(path for path in numbers if path not in named))
    for file in found - named:
        file.unlink()


def go_on(predictor: RunPredictor, done: Done, tracks: Tracking | None, folder: Path) -> None:
    """Prepare a predictor that has not started to continue after what is done.

    Args:
        predictor: Predictor of the resumed run.
        done: What the run has done so far.
        tracks: Tracking, which is given once more what was found in interrupted videos; None without it.
        folder: The run folder.
    """
    if not (folder / runs.ASKED).is_file():
        return  # a new run
    drop_crops(folder, done)
    streams = {key: (passage, done.times[key]) for key, passage in done.passages.items() if isinstance(key, int)}
    predictor.begun = Begun(done.cut_off(), streams, done.names)
    if isinstance(predictor, TiledPredictor):
        predictor.seams = Seams(**done.seams)
        predictor.rasters = dict(done.rasters)
        predictor.turned = {done.source(key): told for key, told in done.turns.items()}
        if predictor.maps is not None:
            predictor.maps.take(raster["map"] for raster in done.rasters.values())
    if tracks is None:
        return
    tracks.known = sum(done.known.values())
    for key, passage in done.passages.items():
        if isinstance(key, int):
            tracks.resume(done.source(key), passage.passed, done.identities[key])
            continue
        tracks.name(key)
        if key not in done.files:
            tracks.known -= done.known[key]
            tracks.resume(key, passage.passed)
            _repeat(tracks, predictor, key, passage, folder / NAME)


def _repeat(tracks: Tracking, predictor: RunPredictor, path: str, passage: Passage, journal: Path) -> None:
    """Give a tracker once more what was found in the frames of a video, which restores its state."""
    lines = (entry for _, entry in entries(journal) if entry["file"] == path and entry.get("frame"))
    video = Videos(path, batch=1, vid_stride=predictor.args.vid_stride, channels=predictor.channels)
    try:
        entry = next(lines, None)
        for _, (image,), _ in video:
            number = video.numbers[0]
            if entry is None or number > passage.passed:
                break
            if number < entry["frame"]:
                continue
            found = np.array(entry["seen"], entry["precision"])
            found = found if found.size else np.empty((0, 6), entry["precision"])
            tracks.repeat(path, found, viewable(image), _looked(predictor, entry, image))
            entry = next(lines, None)
    finally:
        video.close()


def _looked(predictor: RunPredictor, entry: Mapping[str, Any], image: np.ndarray) -> Looked | None:
    if "tiles" not in entry:
        return None
    windows = tiles_of(predictor.tiles, image.shape)
    now = np.zeros(len(windows), bool)
    if max(entry["tiles"], default=0) >= len(windows):
        raise SourceError(
            f"source '{entry['file']}': frame {entry['frame']} had more tiles when the run began, so this is a "
            "different video; put the original back, or start a new run"
        )
    now[entry["tiles"]] = True
    return Looked(windows, now)
