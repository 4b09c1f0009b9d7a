"""Run folders: none that is taken is used, the right one is found again, and files are complete or absent."""

from __future__ import annotations

import errno
import json
import os

import pytest

from pixelkeep.errors import OptionError, SourceError, StorageError, WeightsError
from pixelkeep.ultra.running import runs


@pytest.fixture(autouse=True)
def cwd(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_run(path, *, at, weights=("last.pt", "best.pt"), finished=False):
    """Create a run folder whose weights were written at the time ``at``, in seconds."""
    (path / "weights").mkdir(parents=True)
    for name in weights:
        (path / "weights" / name).touch()
        os.utime(path / "weights" / name, (at, at))
    if finished:
        (path / "metrics.json").write_text("{}")
    return path


def test_new_run__numbered_when_taken(cwd):
    """The first run is exp, later ones are exp2 and exp3, gaps are filled, and existing files stay."""
    first = runs.new_run(None, None, kind="train")
    (first / "mine.txt").write_text("kept")
    assert [runs.new_run(None, None, kind="train").name for _ in range(2)] == ["exp2", "exp3"]
    (cwd / "runs/train/exp2").rmdir()
    assert runs.new_run(None, None, kind="train") == (cwd / "runs/train/exp2").resolve()
    assert (first / "mine.txt").read_text() == "kept"
    assert runs.new_run(None, None, kind="val") == (cwd / "runs/val/exp").resolve()


def test_new_run__project_and_name(cwd):
    """Project and name give the folder; a taken name is numbered too, and a file of that name counts as taken."""
    assert runs.new_run("out", "a", kind="detect") == (cwd / "out/a").resolve()
    assert runs.new_run("out", "a", kind="detect").name == "a2"
    (cwd / "out/b").write_text("a file")
    assert runs.new_run("out", "b", kind="detect").name == "b2"
    assert (cwd / "out/b").read_text() == "a file"


def test_new_run__exist_ok_reuses(cwd):
    """With exist_ok the folder is used again and its files are kept."""
    first = runs.new_run(None, "a", kind="train", exist_ok=True)
    (first / "mine.txt").write_text("kept")
    assert runs.new_run(None, "a", kind="train", exist_ok=True) == first
    assert (first / "mine.txt").read_text() == "kept"


def test_new_run__project_is_a_file(cwd):
    """A project that is a file cannot hold runs, and is not touched."""
    (cwd / "out").write_text("kept")
    with pytest.raises(OptionError, match=r"cannot create the run folder .*: Not a directory"):
        runs.new_run("out", None, kind="train")
    assert (cwd / "out").read_text() == "kept"


def test_newest_weights__by_time_of_best(cwd):
    """The newest best.pt wins, whatever the runs' names and numbers."""
    make_run(cwd / "runs/train/exp2", at=100)
    expected = make_run(cwd / "runs/train/exp", at=200)
    make_run(cwd / "runs/train/exp3", at=300, weights=("last.pt",))
    assert runs.newest_weights().resolve() == (expected / "weights/best.pt").resolve()


def test_newest_weights__of_the_demo(cwd):
    """The demo's training counts as a trained run."""
    expected = make_run(cwd / "runs/demo/exp/train", at=100)
    assert runs.newest_weights().resolve() == (expected / "weights/best.pt").resolve()


def test_newest_weights__none(cwd):
    """If nothing has been trained, the error says what to do."""
    with pytest.raises(WeightsError, match=r"no trained run in runs: pass --weights FILE, or train first"):
        runs.newest_weights()


def test_resume__newest_unfinished(cwd):
    """If no run is named, the newest one that has a last.pt and no metrics.json is resumed."""
    make_run(cwd / "runs/train/exp", at=100)
    expected = make_run(cwd / "runs/train/exp2", at=200)
    make_run(cwd / "runs/train/exp3", at=300, finished=True)
    make_run(cwd / "runs/train/exp4", at=400, weights=("best.pt",))
    assert runs.run_to_resume(None) == expected.resolve()
    assert runs.run_to_resume(None, name="exp").name == "exp"


@pytest.mark.parametrize("given", ["out/a", "out/a/weights/last.pt"])
def test_resume__named(cwd, given):
    """The run to resume is given by its folder or by its last.pt."""
    expected = make_run(cwd / "out/a", at=100)
    assert runs.run_to_resume(given) == expected.resolve()
    assert runs.run_to_resume(None, project="out") == expected.resolve()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nowhere", "--resume nowhere: no such run"),
        ("nowhere/weights/last.pt", "no such run"),
        ("empty", "last.pt is missing, so nothing can be resumed"),
        ("done", "this run is finished"),
        (None, "no unfinished run in runs.train; name one: --resume RUN_FOLDER"),
    ],
)
def test_resume__nothing_there(cwd, given, message):
    """A run that cannot be resumed is refused with the reason."""
    (cwd / "empty").mkdir()
    make_run(cwd / "done", at=100, finished=True)
    with pytest.raises(WeightsError, match=message):
        runs.run_to_resume(given)


def test_storage__sweeps_before_and_after(cwd):
    """Half-written files of a killed run are removed at the start, those of this run at the end; all others stay."""
    kept = [cwd / "weights" / "last.pt", cwd / ".hidden", cwd / "a.partial"]
    old = [cwd / "weights" / ".partial" / "best.pt", cwd / ".a.json.123.partial"]
    for path in (*kept, *old):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with runs.storage(cwd):
        assert not any(path.exists() for path in old) and not old[0].parent.exists()
        old[1].touch()
    assert {path for path in cwd.rglob("*") if path.is_file()} == set(kept)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "x"), r"RUN: No space left on device \(\d+\.\d MB free\); make room there"),
        (OSError(errno.EDQUOT, "x"), r"RUN: Disk quota exceeded \(.* MB free\); make room there"),
        (OSError(errno.EFBIG, "x"), r"RUN: File too large; raise the limit"),
        (OSError(errno.EROFS, "x", "/mnt/a.pt"), r"^/mnt/a.pt: Read-only file system; allow it, or choose"),
        (OSError(errno.EACCES, "x", "/mnt/a.pt"), r"^/mnt/a.pt: Permission denied; allow it, or choose"),
        (RuntimeError("[enforce fail at inline_container.cc:1] . PytorchStreamWriter failed"), r"RUN: No space left"),
    ],
)
def test_storage__one_line(cwd, error, line):
    """A failed write is reported with the file or folder and with what to do."""
    with pytest.raises(StorageError, match=line.replace("RUN", str(cwd))), runs.storage(cwd):
        raise error


@pytest.mark.parametrize("error", [OSError(errno.EIO, "x"), RuntimeError("shape mismatch"), KeyError("x")])
def test_storage__other_errors_pass(cwd, error):
    """Errors that have nothing to do with the disk are passed on unchanged."""
    with pytest.raises(type(error)) as raised, runs.storage(cwd):
        raise error
    assert raised.value is error


def test_write_json__no_nan(cwd):
    """JSON is strict: a figure that is not a number is refused instead of written, and the old file stays."""
    runs.write_json(cwd / "a.json", {"AP": None})
    with pytest.raises(ValueError):
        runs.write_json(cwd / "a.json", {"AP": float("nan")})
    assert json.loads((cwd / "a.json").read_text()) == {"AP": None}


def test_environment__names_the_versions(cwd):
    """environment.json holds the versions that figures depend on."""
    from importlib.metadata import version

    runs.write_environment(cwd)
    packages = json.loads((cwd / "environment.json").read_text())["packages"]
    assert (packages["torch"], packages["ultralytics"]) == (version("torch"), version("ultralytics"))


@pytest.mark.parametrize("text", [None, "", "{}", "[]", '{"interrupted": true}'])
def test_resume__detection_with_a_damaged_summary(cwd, text):
    """A detection run is finished only if its summary says so; a damaged summary does not."""
    folder = cwd / "runs" / "detect" / "exp"
    folder.mkdir(parents=True)
    (folder / "settings.yaml").touch()
    if text is not None:
        (folder / "detections.json").write_text(text)
    assert runs.detection_to_resume(None, summary="detections.json") == folder.resolve()
    (folder / "detections.json").write_text('{"interrupted": false}')
    with pytest.raises(SourceError, match="no unfinished run"):
        runs.detection_to_resume(None, summary="detections.json")
