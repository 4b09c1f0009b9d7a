"""Hostile files: every command that could take one refuses or ignores it, and nothing in it is ever executed.

``python -m pytest -m "slow or not slow" -rP tests/ultra/test_hostile_files.py -k counts`` runs every file through every
command, and prints how many there are and what became of them.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import socket
import subprocess
from collections import Counter

import hostile
import pytest

from pixelkeep.cli.main import run

CASES = {case.name: case for case in hostile.corpus()}
HARMLESS = ("uname", "fc-list")  # programs that platform.platform() and Matplotlib start


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Return a folder with good data and good weights."""
    folder = tmp_path_factory.mktemp("template")
    hostile.write_workplace(folder)
    return folder


@pytest.fixture
def reached(monkeypatch):
    """Refuse and record processes that are started and host names that are looked up."""
    calls = []

    start = subprocess.Popen.__init__

    def refuse(*args, **keywords):
        if args[1:2] and args[1][0] in HARMLESS:
            return start(*args, **keywords)
        calls.append(str(args[1:]))
        raise OSError(f"refused: {args[1:]}")

    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **_: refuse(None, *args))
    return calls


def prepared(case, template, folder):
    """Write a case into a new folder beside good data; return the path of its canary and its command lines."""
    shutil.copytree(template, folder)
    canary = folder / "canary"
    return canary, case.prepare(folder, canary)


def outcome(line, folder, monkeypatch):
    """Run a command line; return whether it refused its file in one line or ran without using the hostile part."""
    monkeypatch.chdir(folder)
    error = io.StringIO()
    with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()), pytest.raises(SystemExit) as end:
        run(line.split())
    text = error.getvalue()
    assert end.value.code in (0, 2), text
    if end.value.code == 0:
        return hostile.IGNORED
    *before, last = text.splitlines()
    assert last.startswith("pixelkeep: ") and len(last) < 1000, text
    assert "Traceback" not in text and not any(other.startswith("pixelkeep: ") for other in before)
    assert not (folder / "runs").exists(), "a run folder was made for a file that is refused"
    return hostile.REFUSED


def tally(template, folder, monkeypatch, reached, *, every):
    """Run each file through every command that takes it, or through one in rotation, and count the outcomes."""
    counts, wrong = Counter(files=len(CASES), commands=0, refused=0, ignored=0, executed=0, reached=0), []
    for number, (name, case) in enumerate(CASES.items()):
        canary, lines = prepared(case, template, folder / str(number))
        for command in list(lines) if every else [list(lines)[number % len(lines)]]:
            reached.clear()
            found = outcome(lines[command], canary.parent, monkeypatch)
            counts.update(["commands", found])
            counts["executed"] += canary.exists()
            counts["reached"] += bool(reached)
            if found != case.outcome or canary.exists() or reached:
                wrong.append((name, command, found, canary.exists(), list(reached)))
            shutil.rmtree(canary.parent / "runs", ignore_errors=True)
            canary.unlink(missing_ok=True) if canary.is_file() else shutil.rmtree(canary, ignore_errors=True)
        shutil.rmtree(canary.parent)
    return counts, wrong


@pytest.mark.parametrize(
    "every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["by turns", "every command"]
)
def test_the_corpus_counts(template, tmp_path, monkeypatch, reached, every):
    """No file is executed, starts a process (as an installation would) or reaches the network; each is refused in
    one line, or its hostile part is never read."""
    counts, wrong = tally(template, tmp_path, monkeypatch, reached, every=every)
    print("hostile files:", ", ".join(f"{count} {key}" for key, count in counts.items()))
    assert not wrong
    assert counts["files"] >= 30 and counts["commands"] >= counts["files"]
    assert counts["refused"] + counts["ignored"] == counts["commands"]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.bite])
def test_bite__creates_the_canary(template, tmp_path, monkeypatch, name):
    """Read in the unsafe way, the same file does create its canary, so the check above can fail."""
    monkeypatch.chdir(template)
    canary, _ = prepared(CASES[name], template, tmp_path / "case")
    with contextlib.suppress(Exception):  # errors after the call do not matter
        CASES[name].bite(canary.parent / CASES[name].file)
    assert canary.exists()


def test_good_files__pass(template, tmp_path, monkeypatch, reached):
    """Every command accepts the good files beside the hostile ones, so those are not the reason for a refusal."""
    shutil.copytree(template, tmp_path / "case")
    case = hostile.Case("good", lambda path, _: hostile.save(path, hostile.checkpoint()), hostile.WEIGHTS, "mine.pt")
    lines = case.prepare(tmp_path / "case", tmp_path)
    lines |= {"model": hostile.MODEL["train --model"].format(file="rows.yaml")}
    assert {command: outcome(line, tmp_path / "case", monkeypatch) for command, line in lines.items()} == dict.fromkeys(
        lines, hostile.IGNORED
    )
    assert not reached
