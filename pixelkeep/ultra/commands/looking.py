"""Detection once everything is checked: process the source, keep records, and end cleanly whatever ends it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from typing import Any

from ultralytics.utils import LOGGER

from pixelkeep.errors import SourceError
from pixelkeep.ultra.commands.asked import Asked
from pixelkeep.ultra.commands.journal import NAME, Done
from pixelkeep.ultra.commands.recording import Record, write_predictions
from pixelkeep.ultra.commands.results import write_document
from pixelkeep.ultra.commands.summary import OBJECTS, Summary
from pixelkeep.ultra.data.videos import Passage
from pixelkeep.ultra.predictors.base import RunPredictor
from pixelkeep.ultra.running import runs
from pixelkeep.ultra.running.console import A_MINUTE, Bar
from pixelkeep.ultra.tiled.predictor import TiledPredictor
from pixelkeep.ultra.tracking import frames as tracking
from pixelkeep.writing import PARTIAL, write_text

NO_FRAME = "no picture or frame can be read from it; it may be damaged"


def look(
    predictor: RunPredictor,
    source: str | list[str],
    summary: Summary,
    asked: Asked,
    kept: dict[str, Any],
    done: Done,
    tracks: tracking.Tracking | None = None,
) -> Summary:
    """Process what is left of a source, and write the results for the whole source.

    Args:
        predictor: Predictor, which has been told what is done.
        source: Files, or a live source.
        summary: Summary of the run, completed in place.
        asked: Request, which says what is written besides annotated copies.
        kept: The whole request in the form in which a run keeps it for --resume.
        done: What earlier runs have done.
        tracks: Tracking, which gives objects identities; None without it.

    Returns:
        The completed summary.

    Raises:
        SourceError: Nothing in the source can be read.
    """
    folder = summary.folder

    def keep(started: RunPredictor) -> None:
        runs.write_yaml(folder / runs.ASKED, kept | {"fold": started.folding})

    predictor.add_callback("on_predict_start", keep)
    rows = asked.save_json or asked.save_csv or isinstance(source, list)  # live sources get rows on request only
    record = Record(folder, rows, asked.save_masks, done)
    left = [file for file in source if file not in done.files] if isinstance(source, list) else source
    try:
        if left:
            _go_through(predictor, left, summary, record)
        else:
            predictor.setup_model(None, verbose=False)  # for the facts on it in the summary
        predictor.finish_videos()
        if not summary.interrupted:
            record.end_videos(getattr(predictor.dataset, "passages", {}))
    finally:
        with suppress(OSError):  # a full disk, which has been reported
            predictor.finish_videos()
        record.close()
        if not record.images:  # nothing to resume
            (folder / runs.ASKED).unlink(missing_ok=True)
    summary.images, summary.detections = record.images, record.detections
    if isinstance(left, list) and not summary.interrupted:
        missing = (file for file in left if file not in record.files)
        summary.unreadable = {file: _reason(predictor, file) for file in missing}
    if summary.unreadable and not summary.images:
        file, reason = next(iter(summary.unreadable.items()))
        raise SourceError(f"source '{file}': {reason}")
    write_predictions(folder, asked.save_json, asked.save_csv, tracks is not None, summary.task == "obb")
    _complete(summary, predictor, record, done, tracks)
    write_document(folder, summary.to_dict(), summary.task in {task.name for task in OBJECTS}, rows)
    if not summary.interrupted:
        (folder / NAME).unlink(missing_ok=True)
    return summary


def _go_through(predictor: RunPredictor, source: str | list[str], summary: Summary, record: Record) -> None:
    """Run the predictor over the whole source until its end or an interruption."""
    if isinstance(source, list):  # Ultralytics reads videos from a list file, but not from a list
        listed = summary.folder / PARTIAL / "sources.txt"
        write_text(listed, "".join(f"{file}\n" for file in source))
        source = str(listed)
    stop = Stop()
    predictor.record, predictor.undivided = record, stop.held
    try:
        with stop.listening(), predictor.reading(), closing(_shown(predictor, source)) as results:
            for _ in results:
                pass
    except KeyboardInterrupt:
        LOGGER.info("Interrupted: keeping what has been found")
        summary.interrupted = True
    except (ConnectionError, FileNotFoundError) as error:
        reason = str(error).splitlines()[0]
        raise SourceError(f"source '{source}' cannot be opened ({reason}); is it there and connected?") from error


def _reason(predictor: RunPredictor, file: str) -> str:
    """Return why no image or frame of a file was processed."""
    passage = getattr(predictor.dataset, "passages", {}).get(file, Passage())
    if 0 < passage.passed < predictor.args.vid_stride and not passage.broken:
        return f"it has fewer frames than --vid-stride {predictor.args.vid_stride}"
    return predictor.unreadable.get(file, NO_FRAME)


class Stop:
    """Handler that lets Ctrl-C and SIGTERM end the work, but not in the middle of a step that must not be divided."""

    def __init__(self) -> None:
        self._held = self._asked = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Raise KeyboardInterrupt inside the context on either signal."""
        if threading.current_thread() is not threading.main_thread():  # Python allows handlers only there
            yield
            return
        former = {number: signal.signal(number, self._end) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Postpone the interruption until the end of the context."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._asked:
            raise KeyboardInterrupt

    def _end(self, *_: object) -> None:
        self._asked = True
        if not self._held:
            raise KeyboardInterrupt


def _shown(predictor: RunPredictor, source: str) -> Generator:
    """Detect in ``source`` with a progress bar, which appears with the first result."""
    bar, start, left_out = None, time.time(), 0
    without = predictor.args.verbose or isinstance(predictor, TiledPredictor)  # which has its own bar
    with closing(predictor(source, stream=True)) as results:
        try:
            for result in results:
                if bar is None:
                    bar = Bar(desc="detecting", every=A_MINUTE, total=_pictures(predictor), unit="img", disable=without)
                    bar.start_t = start  # the first batch may be the only one
                bar.update(1 + len(predictor.unreadable) - left_out)  # unreadable images are done too
                left_out = len(predictor.unreadable)
                yield result
        finally:
            if bar is not None:
                bar.update(len(predictor.unreadable) - left_out)
                bar.close()


def _pictures(predictor: RunPredictor) -> int | None:
    """Return the number of images to process; None if there is a video, as its frames have not been counted."""
    videos = getattr(predictor.dataset, "video_flag", None)
    return len(videos) if videos and not any(videos) else None


def _complete(
    summary: Summary, predictor: RunPredictor, record: Record, done: Done, tracks: tracking.Tracking | None
) -> None:
    """Add tiles, tracks, precision, folding, speed and the progress through videos to the summary."""
    if isinstance(predictor, TiledPredictor):
        summary.seams = predictor.seams.report()
        summary.rasters = predictor.rasters
    summary.track = tracks and tracks.report()
    if predictor.model is not None:  # it is None if the run was interrupted before loading it
        summary.precision, summary.format, summary.folding = predictor.ran()
    summary.speed_ms = {key: round(value, 3) for key, value in (predictor.speed or {}).items()}
    if summary.interrupted:  # frames may have been read ahead, and one may have been under way
        summary.videos = _videos(Done.read(summary.folder / NAME), {}, {})
    else:
        summary.videos = _videos(done, record.passages, getattr(predictor, "turns", dict)())


def _videos(done: Done, passages: Mapping[str, Passage], turns: Mapping[Any, dict[str, Any]]) -> dict[str, Any]:
    """Return the progress through videos and streams: that of earlier runs, overridden by newer facts on the same."""
    gone = {**{_named(done.source(key)): passage for key, passage in done.passages.items()}, **passages}
    turned = {**{done.source(key): told for key, told in done.turns.items()}, **turns}
    tiles = {_named(key): told for key, told in turned.items()}
    return {key: _told(passage) | tiles.get(key, {}) for key, passage in gone.items()}


def _named(key: Any) -> str:
    """Return the name by which a :class:`Record` knows a video or stream."""
    return f"{key[0]}: {key[1]}" if isinstance(key, tuple) else str(key)


def _told(passage: Passage) -> dict[str, Any]:
    """Return the progress through a video or stream, with the fields that belong in the summary."""
    told = {key: value for key, value in asdict(passage).items() if key in ("frames", "skipped", "broken", "lost")}
    return {**told, "damage": passage.damage() if passage.ended else None}
