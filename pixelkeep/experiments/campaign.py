"""Contrasts one after the other, in as many processes as wanted and as long as there is time, and what they come to."""

from __future__ import annotations

import json
import math
from argparse import Namespace
from pathlib import Path

from ultralytics.utils import LOGGER

from pixelkeep.errors import DataError, OptionError
from pixelkeep.experiments.contrasts import Contrast, read_contrasts
from pixelkeep.experiments.deadline import Deadline
from pixelkeep.experiments.evidence import ON_VAL, Begun, Place, begin
from pixelkeep.experiments.keeping import keep
from pixelkeep.experiments.ledger import Ledger
from pixelkeep.experiments.side_by_side import end_with_parent, shares, side_by_side
from pixelkeep.experiments.summary import summarize
from pixelkeep.report.evidence import as_text
from pixelkeep.ultra.running.environment import cpu_count

RESERVE, SHARE = 120.0, 0.15  # seconds, and share of the time, that are kept for comparing at the end
PASSED_ON = ("form", "path", "device", "seeds", "project", "contrasts", "jobs")


def work(options: Namespace) -> None:
    """Be one of the processes: train what nobody else does, contrast by contrast, until the time is over."""
    end_with_parent()
    until = Deadline(_seconds(options))
    place = _place(options)
    for contrast in read_contrasts(options.contrasts, options.only):
        begun = begin(contrast, place)
        if isinstance(begun, Begun):
            begun.train(until)
        if until.passed:
            break


def run(options: Namespace, script: Path) -> str:
    """Run the contrasts, and return what to print: how far each is and what it says.

    Args:
        options: Of the command line of scripts/evidence.py.
        script: That file, which is what runs in each process.

    Raises:
        PixelkeepError: A contrast, its data, or an option cannot be used.
    """
    _check(options)
    contrasts, place = read_contrasts(options.contrasts, options.only), _place(options)
    ledger = Ledger.read(options.project / "ledger.json", options.out)
    seconds = _seconds(options)
    until = Deadline(None if seconds is None else seconds - min(RESERVE, SHARE * seconds))
    begun, waiting = _begin_all(contrasts, place)
    for each in begun.values():
        each.forget_failures()
    while any(_trainable(each) for each in begun.values()) and not until.passed:
        before = _done(begun)
        _train_all(options, script, place, until, begun)
        for each in begun.values():
            _compared(each)
        begun, waiting = _begin_all(contrasts, place)
        if _done(begun) == before:
            break
    summaries = []
    for each in begun.values():
        documents = _compared(each) | _scored(each, ledger, place, again=options.again)
        summary = summarize(each, documents) | {"command": _told(options, place)}
        summaries.append(summary)
        if options.out:
            keep(each, summary, options.out, place, weights=options.weights)
    return as_text(summaries, waiting)


def _train_all(options: Namespace, script: Path, place: Place, until: Deadline, begun: dict[str, Begun]) -> None:
    words = [str(script), *options.only]
    for key in PASSED_ON:
        value = getattr(options, key)
        if value is not None:
            words += [f"--{key}", str(value)]
    left = -until.over
    if math.isfinite(left):
        words += ["--minutes", f"{left / 60:.3f}"]
    logs = place.root / "logs"
    LOGGER.info(f"{options.jobs} side by side; what the trainings say is in {logs}")
    told = {_done(begun)}

    def watch() -> None:
        if (now := _done(begun)) not in told:
            told.add(now)
            LOGGER.info(f"{now[1]} of {sum(len(each.grid.cells) for each in begun.values())} trainings are done")

    side_by_side(words, options.jobs, until, logs, gpu=_gpu(options.device), watch=watch)


def _begin_all(contrasts: list[Contrast], place: Place) -> tuple[dict[str, Begun], dict[str, str]]:
    """Return the contrasts that can be run, and of the others what they wait for."""
    begun, waiting = {}, {}
    for contrast in contrasts:
        found = begin(contrast, place)
        if isinstance(found, Begun):
            begun[contrast.name] = found
        else:
            waiting[contrast.name] = found
    return begun, waiting


def _trainable(begun: Begun) -> bool:
    return bool(set(begun.missing) - set(begun.failed()))


def _done(begun: dict[str, Begun]) -> tuple[int, int]:
    return len(begun), sum(len(each.grid.cells) - len(each.missing) for each in begun.values())


def _compared(begun: Begun) -> dict[str, dict]:
    """Return the comparison on dev, made anew only where there is more to compare; nothing if there is nothing yet."""
    try:
        return {"dev": _unchanged(begun) or begun.on_dev().document}
    except DataError as error:
        LOGGER.info(f"{begun.contrast.name}: {error}")
        return {}


def _unchanged(begun: Begun) -> dict | None:
    """Return the comparison that is there, if it is of all that has been trained."""
    file = begun.grid.folder / "comparison.json"
    if not file.is_file():
        return None
    document = json.loads(file.read_text(encoding="utf-8"))
    there = {(arm["name"], seed) for arm in document["arms"] for seed in arm["seeds"]}
    if there != {(cell.arm, cell.seed) for cell in begun.grid.cells if cell.done}:
        return None
    begun.mark_whole()
    return document


def _scored(begun: Begun, ledger: Ledger, place: Place, *, again: bool) -> dict[str, dict]:
    """Return the comparison on val, where the contrast asks for it and all is trained; it is scored once."""
    if begun.form.split != "val" or begun.missing:
        return {}
    folder, trainings = begun.grid.folder / ON_VAL, begun.trainings()
    if ledger.has(begun, trainings) and (folder / "comparison.json").is_file() and not again:
        return {"val": json.loads((folder / "comparison.json").read_text(encoding="utf-8"))}
    ledger.open(begun, trainings, again=again)
    return {"val": begun.on_val().document}


def _check(options: Namespace) -> None:
    if options.jobs < 1 or (options.seeds is not None and options.seeds < 1):
        raise OptionError(f"--jobs {options.jobs}, --seeds {options.seeds}: give 1 or more")
    if options.minutes is not None and not options.minutes > 0:
        raise OptionError(f"--minutes {options.minutes:g}: give more than 0")


def _seconds(options: Namespace) -> float | None:
    return None if options.minutes is None else options.minutes * 60


def _place(options: Namespace) -> Place:
    gpu = _gpu(options.device)
    _, workers = shares(options.jobs, cpu_count(), gpu)
    machine = {"device": options.device or ("0" if gpu else "cpu"), "workers": workers}
    form = options.form or ("full" if gpu else "early")
    return Place(options.project.resolve(), form, machine, options.path, options.seeds)


def _gpu(device: str | None) -> bool:
    """Whether trainings are on a GPU."""
    import torch

    return torch.cuda.is_available() if device is None else device != "cpu"


def _told(options: Namespace, place: Place) -> str:
    """Return the command that does it again, with no folder of this machine in it."""
    given = [*options.only, "--form", place.form, *(["--path", "FOLDER"] if place.path else [])]
    for key in ("seeds", "jobs", "minutes"):
        if (value := getattr(options, key)) is not None:
            given += [f"--{key}", f"{value:g}"]
    return " ".join(["python scripts/evidence.py", *given])
