"""Killed runs and full disks: the files in a run folder are complete, and the run can be continued."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
import torch
import yaml
from PIL import Image

from pixelkeep.datasets.demo import write_demo

resource = pytest.importorskip("resource")  # process limits, available on Unix only

ROOT = Path(__file__).resolve().parent.parent
TINY = ["--imgsz", "64", "--batch", "4", "--set", "optimizer=SGD", "--set", "mosaic=0"]
PARTIAL = ".partial"


class Command:
    """A pixelkeep command in its own process; ``said`` is what it has written to standard error."""

    def __init__(self, cwd: Path, *args: str, limit: int | None = None):
        self.log = cwd / "stderr.log"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pixelkeep", *args],
                cwd=cwd,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=log,
                preexec_fn=None if limit is None else lambda: limit_files(0, limit),
            )

    @property
    def said(self) -> str:
        return self.log.read_text()

    def changes(self, folder: Path) -> Iterator[int]:
        """Yield a growing count of how often the content of a folder has changed while the command runs."""
        count, former = 0, None
        while self.process.poll() is None:
            now = listing(folder)
            if now == former:
                time.sleep(0.001)
                continue
            count, former = count + 1, now
            yield count

    def kill(self, folder: Path, after: int, since: Path | None = None) -> None:
        """Kill the command after ``after`` changes of a folder, counted from when the file ``since`` exists."""
        first = 0
        for count in self.changes(folder):
            if since is not None and not since.exists():
                first = count
            elif count - first >= after:
                self.process.kill()
        self.process.wait()

    def succeed(self) -> None:
        assert self.process.wait() == 0, self.said

    def fail_for_space(self, folder: Path) -> None:
        """Expect the command to fail with one line that names a path in the folder and the problem with the disk."""
        assert self.process.wait() == 2, self.said
        line = self.said.splitlines()[-1]
        assert line.startswith("pixelkeep: ") and str(folder) in line, self.said
        assert "No space left" in line or "too large" in line or "room" in line, line
        assert "Traceback" not in self.said and "Exception" not in self.said, self.said


def limit_files(process: int, size: int) -> None:
    """Let a process write no file larger than ``size`` bytes; writing more fails as it does on a full disk."""
    resource.prlimit(process, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def listing(folder: Path) -> frozenset:
    """Return names, sizes and modification times of all files below a folder."""
    found = []
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                stat = os.stat(os.path.join(root, name))
            except FileNotFoundError:
                continue
            found.append((root, name, stat.st_size, stat.st_mtime_ns))
    return frozenset(found)


def rows(folder: Path) -> list[list[str]]:
    path = folder / "results.csv"
    return list(csv.reader(path.read_text().splitlines())) if path.is_file() else []


def epochs(folder: Path) -> list[str]:
    return [row[0] for row in rows(folder)[1:]]


def read_picture(path: Path) -> None:
    with Image.open(path) as picture:
        picture.load()


def read_video(path: Path) -> None:
    video = cv2.VideoCapture(str(path))
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    assert count > 0 and all(video.read()[0] for _ in range(count)) and not video.read()[0], path


def read_table(path: Path) -> None:
    text = path.read_text()
    assert text.endswith("\n") and len({len(row) for row in csv.reader(text.splitlines())}) == 1, path


def read_labels(path: Path) -> None:
    text = path.read_text()
    assert text.endswith("\n") and {len(line.split()) for line in text.splitlines()} == {5}, path


def read_mapping(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text()), dict), path


def read_journal(path: Path) -> None:
    assert all(isinstance(json.loads(line), dict) for line in path.read_text().splitlines()), path


READERS = {
    ".jsonl": read_journal,
    ".pt": lambda path: torch.load(path, weights_only=False),
    ".json": lambda path: json.loads(path.read_text()),
    ".csv": read_table,
    ".yaml": read_mapping,
    ".txt": read_labels,
    ".jpg": read_picture,
    ".png": read_picture,
    ".mp4": read_video,
}


def results(folder: Path) -> list[Path]:
    """Return the files of a run folder that have their final names."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return [p for p in files if not any(part.endswith(PARTIAL) for part in p.relative_to(folder).parts)]


def assert_whole(folder: Path) -> None:
    """Read every result in a run folder to its end, which fails for a truncated one."""
    for path in results(folder):
        READERS[path.suffix](path)


def assert_tidy(folder: Path) -> None:
    """Expect complete results and no partial files in a run folder."""
    assert_whole(folder)
    assert set(results(folder)) == {path for path in folder.rglob("*") if path.is_file()}
    assert not list(folder.rglob(PARTIAL))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A demo dataset of a few images and a video."""
    return write_demo(tmp_path_factory.mktemp("data") / "tiny", splits={"train": 8, "val": 4, "test": 3})


@pytest.fixture(scope="module")
def weights(data, tmp_path_factory) -> Path:
    """A checkpoint trained for one epoch."""
    folder = tmp_path_factory.mktemp("trained")
    Command(folder, *training(data, folder, 1), "--set", "plots=false").succeed()
    return folder / "exp" / "weights" / "best.pt"


def training(data: Path, project: Path, length: int) -> list[str]:
    return ["train", "--data", str(data), "--epochs", str(length), "--project", str(project), "--exist-ok", *TINY]


def validation(data: Path, project: Path, weights: Path) -> list[str]:
    return ["val", "--data", str(data), "--weights", str(weights), "--project", str(project), "--exist-ok", *TINY[2:4]]


def detection(data: Path, project: Path, weights: Path) -> list[str]:
    sources = ["--source", str(data.parent / "images" / "test"), "--source", str(data.parent / "demo.mp4")]
    saving = ["--save-txt", "--save-crop", "--save-json", "--conf", "0.001", "--max-det", "2", "--imgsz", "64"]
    return ["detect", *sources, "--weights", str(weights), "--project", str(project), "--exist-ok", *saving]


def resuming(folder: Path, otherwise: list[str]) -> list[str]:
    """Return the arguments that resume a training, or ``otherwise`` if it has not written its first checkpoint."""
    there = (folder / "weights" / "last.pt").is_file() and not (folder / "metrics.json").is_file()
    return ["train", "--resume", str(folder)] if there else otherwise


def count_changes(cwd: Path, folder: Path, args: list[str]) -> int:
    """Run a command to its end and return how often its run folder has changed."""
    command = Command(cwd, *args)
    count = max(command.changes(folder))
    command.succeed()
    return count


@pytest.mark.parametrize(
    ("kills", "plots"), [(2, "false"), pytest.param(12, "true", marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_training__killed_at_any_moment(data, tmp_path, kills, plots):
    """No file with its final name is ever half-written, and after resuming, results.csv has every epoch once."""
    length, chance = 3 + kills // 2, random.Random(kills)
    begin = [*training(data, tmp_path, length), "--set", f"plots={plots}"]
    folder, before = tmp_path / "exp", []
    for turn in range(kills):
        args = resuming(folder, begin)
        command = Command(tmp_path, *args)
        # Every other turn kills late enough for a checkpoint to exist from which training can be resumed.
        command.kill(folder, chance.randint(1, 20), since=None if turn % 2 else folder / "weights" / "last.pt")
        assert "Traceback" not in command.said, command.said
        assert_whole(folder)
        assert epochs(folder) == [str(n + 1) for n in range(len(epochs(folder)))]
        if "--resume" in args:  # the last row may be newer than the checkpoint; that epoch is repeated
            assert rows(folder)[: len(before) - 1] == before[:-1], "a finished epoch has been lost"
        before = rows(folder)
    if not (folder / "metrics.json").is_file():
        Command(tmp_path, *resuming(folder, begin)).succeed()
    assert epochs(folder) == [str(n + 1) for n in range(length)]
    assert (folder / "metrics.json").is_file()
    assert_tidy(folder)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [6])
def test_validation__killed_at_any_moment(data, weights, tmp_path, kills):
    """A killed validation leaves complete files, and a new run gives the same results as an undisturbed one."""
    args, folder, chance = validation(data, tmp_path, weights), tmp_path / "exp", random.Random(kills)
    total = count_changes(tmp_path, folder, args)
    expected = (folder / "predictions.json").read_bytes()
    names = {path.name for path in results(folder)}
    for _ in range(kills):
        Command(tmp_path, *args).kill(folder, chance.randint(2, total))
        assert_whole(folder)
    Command(tmp_path, *args).succeed()
    assert (folder / "predictions.json").read_bytes() == expected
    assert {path.name for path in results(folder)} == names >= {"metrics.json", "confusion_matrix.png"}
    assert_tidy(folder)


@pytest.mark.parametrize("kills", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_detection__killed_at_any_moment(data, weights, tmp_path, kills):
    """A killed detection leaves complete images, labels and crops and a playable video, and can be resumed."""
    args, folder, chance = detection(data, tmp_path, weights), tmp_path / "exp", random.Random(kills)
    total = count_changes(tmp_path, folder, args)
    expected = {path.relative_to(folder) for path in results(folder)}
    assert {path.suffix for path in expected} == {".jpg", ".txt", ".json", ".mp4", ".yaml"}
    for _ in range(kills):
        shutil.rmtree(folder)
        Command(tmp_path, *args).kill(folder, chance.randint(2, total))
        assert_whole(folder)
        begun = (folder / "settings.yaml").is_file() and not (folder / "detections.json").is_file()
        Command(tmp_path, *(["detect", "--resume", str(folder)] if begun else args)).succeed()
        assert expected == {path.relative_to(folder) for path in results(folder)}
    assert_tidy(folder)


class Disk:
    """A place that runs out of space: a small file system, or a limit on the size of files."""

    def __init__(self, folder: Path, mounted: bool):
        self.folder, self.mounted = folder, mounted

    def fill(self, process: int) -> None:
        if not self.mounted:
            limit_files(process, 200_000)  # less than a checkpoint, more than the log
            return
        with open(self.folder / "filler", "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
            except OSError:
                pass

    def free(self) -> None:
        (self.folder / "filler").unlink(missing_ok=True)


@pytest.fixture(params=["limit", pytest.param("mounted", marks=pytest.mark.slow)])
def disk(request, tmp_path) -> Iterator[Disk]:
    """A disk that can be filled."""
    if request.param == "limit":
        yield Disk(tmp_path, mounted=False)
        return
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", str(folder)]
    if not sys.platform.startswith("linux") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system can only be mounted by root on Linux")
    yield Disk(folder, mounted=True)
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_training__full_disk(data, disk, tmp_path):
    """A full disk ends training with a one-line error; with free space again, --resume continues from there."""
    command, folder = Command(tmp_path, *training(data, disk.folder, 5)), disk.folder / "exp"
    for _ in command.changes(folder):
        if len(rows(folder)) > 2 and (folder / "weights" / "last.pt").is_file():
            disk.fill(command.process.pid)
            break
    command.fail_for_space(folder)
    assert_tidy(folder)
    disk.free()
    Command(tmp_path, "train", "--resume", str(folder)).succeed()
    assert epochs(folder) == ["1", "2", "3", "4", "5"]
    assert json.loads((folder / "metrics.json").read_text())["model"] == "yolov5-spd-n"  # not "last", from last.pt
    assert_tidy(folder)


@pytest.mark.slow
def test_training__full_before_the_first_checkpoint(data, tmp_path):
    """If not even one checkpoint fits, the error says so, and the same command succeeds once there is space."""
    args = training(data, tmp_path, 1)
    Command(tmp_path, *args, limit=1_000_000).fail_for_space(tmp_path / "exp")
    assert_tidy(tmp_path / "exp")
    Command(tmp_path, *args).succeed()
    assert_tidy(tmp_path / "exp")


@pytest.mark.parametrize("limit", [20_000, pytest.param(60_000, marks=pytest.mark.slow)])
def test_validation__full_disk(data, weights, tmp_path, limit):
    """A full disk ends a validation with a one-line error, and no metrics.json is left."""
    args = validation(data, tmp_path, weights)
    Command(tmp_path, *args, limit=limit).fail_for_space(tmp_path / "exp")
    assert_tidy(tmp_path / "exp")
    assert not (tmp_path / "exp" / "metrics.json").exists()


@pytest.mark.parametrize("source", ["images/test", "demo.mp4"])
def test_detection__full_disk(data, weights, tmp_path, source):
    """A full disk ends a detection with a one-line error and leaves no partial image or video; it can be resumed."""
    args, folder = ["detect", "--source", str(data.parent / source), "--weights", str(weights)], tmp_path / "exp"
    args += ["--imgsz", "64", "--project", str(tmp_path)]
    Command(tmp_path, *args, limit=20_000).fail_for_space(folder)
    if source == "images/test":
        assert not folder.exists()
        return
    assert {path.name for path in results(folder)} == {"settings.yaml", "frames.jsonl"}
    Command(tmp_path, "detect", "--resume", str(folder)).succeed()
    assert_tidy(folder)
    assert (folder / "demo.mp4").is_file()


@pytest.mark.slow
def test_detection__video_on_a_small_disk(data, weights, tmp_path):
    """A video that outgrows its disk gives a one-line error, is playable up to that point, and can be resumed."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]).returncode:
        pytest.skip("a file system can only be mounted by root on Linux")
    args = ["detect", "--source", str(data.parent / "demo.mp4"), "--weights", str(weights), "--imgsz", "64"]
    try:
        Command(tmp_path, *args, "--project", str(folder)).fail_for_space(folder)
        assert_whole(folder)
        assert (folder / "exp" / "demo.mp4").is_file()
        subprocess.run(["mount", "-o", "remount,size=20m", str(folder)], check=True)
        Command(tmp_path, "detect", "--resume", str(folder / "exp")).succeed()
        assert_tidy(folder / "exp")
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
