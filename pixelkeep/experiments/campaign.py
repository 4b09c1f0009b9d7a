"""Runs contrasts one after the other, in several processes and within a time limit, and summarises their results."""

from __future__ import annotations

import json
import math
import time
from argparse import Namespace
from pathlib import Path

from ultralytics.utils import LOGGER

from pixelkeep.errors import DataError, OptionError, choices
from pixelkeep.experiments.cells import is_open
from pixelkeep.experiments.contrasts import Contrast, read_contrasts
from pixelkeep.experiments.deadline import Deadline
from pixelkeep.experiments.document import SCHEMA
from pixelkeep.experiments.evidence import BF16, ON_VAL, Begun, Place, begin
from pixelkeep.experiments.identity import FILE
from pixelkeep.experiments.keeping import keep, portable
from pixelkeep.experiments.ledger import Ledger
from pixelkeep.experiments.side_by_side import end_with_parent, shares, side_by_side
from pixelkeep.experiments.stopping import decide
from pixelkeep.experiments.summary import answers_of, summarize
from pixelkeep.report.evidence import as_text
from pixelkeep.ultra.running.environment import cpu_count
from pixelkeep.ultra.trainers.cpu import has_bf16

RESERVE, SHARE = 120.0, 0.15  # the smaller is kept for the final comparison: seconds, share of the time
PASSED_ON = ("form", "path", "device", "seeds", "project", "contrasts", "jobs")  # options that the processes are given
FLAGS = ("weights", "again")
WAIT = 5.0  # seconds until a process without work looks for some again


def work(options: Namespace) -> None:
    """Run as one of the processes: train what no other process holds, contrast by contrast, until the time is over."""
    end_with_parent()
    until, place = Deadline(_seconds(options)), _place(options)
    contrasts, begun = read_contrasts(options.contrasts, options.only), {}
    while not until.passed:
        if _train_first(contrasts, place, begun, until):
            continue
        if not any(each.open for each in begun.values()):
            break
        time.sleep(WAIT)  # other processes hold the remaining trainings; contrasts may wait for these


def _train_first(contrasts: list[Contrast], place: Place, begun: dict[str, Begun], until: Deadline) -> bool:
    """Do the first training that can be done, in the order of the contrasts' names; return whether there was one.

    A contrast that waits for others begins as soon as these are done.
    """
    for contrast in contrasts:
        if contrast.name not in begun and not _is_for_a_quiet_machine(contrast, place):
            found = begin(contrast, place)
            begun |= {contrast.name: found} if isinstance(found, Begun) else {}
        if contrast.name in begun and begun[contrast.name].train_next(until):
            return True
    return False


def _is_for_a_quiet_machine(contrast: Contrast, place: Place) -> bool:
    """Return whether a contrast still has to match latency, which must not happen while other processes train."""
    return "latency" in contrast.form(place.form).match and not (place.folder(contrast.name) / FILE).is_file()


def run(options: Namespace, script: Path) -> str:
    """Run the contrasts and return the text to print: the progress and the answers of each.

    Args:
        options: Command-line options of scripts/evidence.py.
        script: Path of scripts/evidence.py, which each process runs.

    Raises:
        PixelkeepError: A contrast, its data, or an option cannot be used.
    """
    _check(options)
    contrasts, place = read_contrasts(options.contrasts, options.only), _place(options)
    _tell_precision(contrasts, place)
    ledger = Ledger.read(_ledgers(options, script))
    seconds = _seconds(options)
    until = Deadline(None if seconds is None else seconds - min(RESERVE, SHARE * seconds))
    begun, waiting = _begin_all(contrasts, place)
    refused = {} if options.again else _refused(contrasts, begun, place, ledger)
    contrasts = [contrast for contrast in contrasts if contrast.name not in refused]
    begun, waiting = ({k: v for k, v in part.items() if k not in refused} for part in (begun, waiting))
    for name, each in begun.items():
        if options.again or not ledger.has(name, place.form):
            each.forget_failures()
    while any(each.open for each in begun.values()) and not until.passed:
        before = _done(begun)
        _train_all(options, [contrast.name for contrast in contrasts], script, place, until, begun)
        begun, waiting = _begin_all(contrasts, place)
        if _done(begun) == before:
            break
    summaries = []
    for each in begun.values():
        documents, closed = _documents(each, ledger, options)
        summary = summarize(each, documents, closed) | {"command": _told(options, place)}
        summaries.append(summary)
        if options.out:
            keep(each, summary, options.out, place, weights=options.weights)
    return as_text(summaries, waiting | refused)


def _ledgers(options: Namespace, script: Path) -> list[Path]:
    """Return the folders of the ledgers: project, kept results, and docs/results for contrasts of this checkout."""
    checkout = script.resolve().parent.parent
    own = options.contrasts.resolve().is_relative_to(checkout / "configs")
    return [options.project, *([options.out] if options.out else []), *([checkout / "docs" / "results"] if own else [])]


def _refused(contrasts: list[Contrast], begun: dict[str, Begun], place: Place, ledger: Ledger) -> dict[str, str]:
    """Return by name why contrasts may not be scored on val any more, so that nothing is trained for them in vain."""
    scoring = [contrast.name for contrast in contrasts if contrast.form(place.form).split == "val"]
    why = {name: ledger.refusal(name, place.form, begun.get(name)) for name in scoring}
    return {name: reason for name, reason in why.items() if reason}


def _tell_precision(contrasts: list[Contrast], place: Place) -> None:
    wanting = [each.name for each in contrasts if BF16 in each.form(place.form).settings.items()]
    if wanting and not place.bf16:
        LOGGER.info(f"amp=bf16 is left out of {choices(wanting)}: this machine's CPU has no bf16, or a GPU is used")


def _train_all(
    options: Namespace, names: list[str], script: Path, place: Place, until: Deadline, begun: dict[str, Begun]
) -> None:
    words = [str(script), *names]
    for key in PASSED_ON:
        value = getattr(options, key)
        if value is not None:
            words += [f"--{key}", str(value)]
    left = -until.over
    if math.isfinite(left):
        words += ["--minutes", f"{left / 60:.3f}"]
    logs = place.root / "logs"
    LOGGER.info(f"{options.jobs} trainings side by side; their output is in {logs}")
    told = {_done(begun)}

    def watch() -> None:
        if (now := _done(begun)) not in told:
            told.add(now)
            LOGGER.info(f"{now[1]} of {sum(len(each.grid.cells) for each in begun.values())} trainings are done")

    side_by_side(words, options.jobs, until, logs, gpu=_gpu(options.device), watch=watch)


def _begin_all(contrasts: list[Contrast], place: Place) -> tuple[dict[str, Begun], dict[str, str]]:
    """Begin all contrasts that can be run; return these, and by name what each of the others waits for."""
    begun, waiting = {}, {}
    for contrast in contrasts:
        found = begin(contrast, place)
        if isinstance(found, Begun):
            begun[contrast.name] = found
        else:
            waiting[contrast.name] = found
    return begun, waiting


def _done(begun: dict[str, Begun]) -> tuple[int, int, int]:
    """Count the contrasts that have begun, the trainings that are done, and those that are done or given up."""
    cells = [cell for each in begun.values() for cell in each.grid.cells]
    return len(begun), sum(cell.done for cell in cells), sum(not is_open(cell) for cell in cells)


def _documents(begun: Begun, ledger: Ledger, options: Namespace) -> tuple[dict[str, dict], str | None]:
    """Return a contrast's comparisons by split, and why val is not scored although the contrast asks for it.

    Val is scored once: if the contrast asks for it, nothing is left to train and the seeds are enough. The reason is
    None if there is nothing to say.
    """
    name, form, documents = begun.contrast.name, begun.form, {}
    try:
        documents["dev"] = _unchanged(begun.grid.folder, begun) or begun.on_dev().document
        if form.split != "val" or begun.open:
            return documents, None
        if not options.again and (refusal := ledger.refusal(name, form.name, begun)):
            return documents, refusal
        opened = ledger.has(name, form.name) and not options.again
        if not opened:
            there, fixed = options.seeds or form.seeds, options.again or options.seeds is not None
            decision = decide(answers_of(documents["dev"]), there, fixed=fixed)
            if not decision.now:
                return documents, decision.why
            LOGGER.info(f"{name}: val is scored: {decision.why}")
            ledger.open(begun, decision.why)
        scored = _unchanged(begun.grid.folder / ON_VAL, begun) if opened else None
        documents["val"] = scored or begun.on_val().document
    except (DataError, OptionError) as error:  # stops this contrast only, not those after it
        LOGGER.error(f"{name}: {error}")
    return documents, None


def _unchanged(folder: Path, begun: Begun) -> dict | None:
    """Return the comparison in a folder if it covers exactly the trainings that are done, else None."""
    file = folder / "comparison.json"
    if not file.is_file():
        return None
    document = json.loads(file.read_text(encoding="utf-8"))
    there = {(arm["name"], seed) for arm in document["arms"] for seed in arm["seeds"]}
    whole = there == {(cell.arm, cell.seed) for cell in begun.grid.cells if cell.done}
    return document if whole and document["schema"] == SCHEMA else None


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
    return Place(options.project.resolve(), form, machine, not gpu and has_bf16(), options.path, options.seeds)


def _gpu(device: str | None) -> bool:
    """Return whether trainings run on a GPU."""
    import torch

    return torch.cuda.is_available() if device is None else device != "cpu"


def _told(options: Namespace, place: Place) -> str:
    """Return the command that repeats the run, without any path of this machine."""
    given = [*options.only, "--form", place.form, *(["--path", "FOLDER"] if place.path else [])]
    for key in ("seeds", "jobs", "minutes"):
        if (value := getattr(options, key)) is not None:
            given += [f"--{key}", f"{value:g}"]
    if options.device:
        given += ["--device", options.device]
    if options.out:
        out = portable(str(options.out), place)
        given += ["--out", "OUT" if Path(out).is_absolute() else out]
    given += [f"--{key}" for key in FLAGS if getattr(options, key)]
    return " ".join(["python scripts/evidence.py", *given])
