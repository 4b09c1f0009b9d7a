"""What the commands leave untouched: the network and the user's home, data, settings and temporary folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from pixelkeep.datasets.demo import write_demo

ROOT = Path(__file__).resolve().parent.parent
# Audit events see every network call made through Python's socket module, and child processes inherit the hook.
HOOK = """
import os, sys
def _log(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    if str(host) not in ("None", "localhost", "127.0.0.1", "::1"):
        with open(os.environ["NETWORK_LOG"], "a") as file:
            file.write(f"{event} {host}\\n")
sys.addaudithook(_log)
"""
SETTINGS = {"settings_version": "0.0.6", "datasets_dir": "/data/of/mine", "uuid": "0" * 64, "sync": True}


@dataclass
class User:
    """A user with a home, Ultralytics settings, a dataset, a temporary folder and a working directory."""

    root: Path

    def __post_init__(self):
        for name in ("home", "cache", "temp", "cwd", "hook"):
            (self.root / name).mkdir()
        (self.root / "hook" / "sitecustomize.py").write_text(HOOK)
        self.settings = self.root / "home" / ".config" / "Ultralytics" / "settings.json"
        self.settings.parent.mkdir(parents=True)
        self.settings.write_text(json.dumps(SETTINGS))
        self.data = write_demo(self.root / "data", splits={"train": 6, "val": 4, "test": 2})
        self.log = self.root / "network.log"

    @property
    def runs(self) -> Path:
        return self.root / "cwd" / "runs"

    def python(self, *args: str, prefix: tuple[str, ...] = ()) -> str:
        """Run Python as this user and return what it prints."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root / "home"),
            "TMPDIR": str(self.root / "temp"),
            "PIXELKEEP_HOME": str(self.root / "cache"),
            "PYTHONPATH": f"{ROOT}{os.pathsep}{self.root / 'hook'}",
            "NETWORK_LOG": str(self.log),
            "OMP_NUM_THREADS": "1",
        }
        line = [*prefix, sys.executable, *args]
        done = subprocess.run(line, cwd=self.root / "cwd", env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def work(self, prefix: tuple[str, ...] = ()) -> None:
        """Import the package, then train, validate, detect and compare."""
        small = ["--imgsz", "64", "--data", str(self.data)]
        pictures, video = self.data.parent / "images" / "test", self.data.parent / "demo.mp4"
        saving = ["--save-txt", "--save-crop", "--save-json", "--conf", "0.001", "--max-det", "3"]
        run = partial(self.python, prefix=prefix)
        run("-c", "import pixelkeep")
        run("-m", "pixelkeep", "train", "--epochs", "1", "--batch", "2", *small)
        run("-m", "pixelkeep", "val", *small)
        run("-m", "pixelkeep", "detect", "--source", str(pictures), "--source", str(video), *saving)
        compared = ["yolov5-n", "yolov5-spd-n", "--seeds", "1", "--epochs", "1", "--batch", "2"]
        run("-m", "pixelkeep", "compare", *compared, *small)


def snapshot(folder: Path) -> dict[str, tuple]:
    """Return mode, size and modification time of everything below a folder, by path."""
    paths = (path for path in folder.rglob("*") if "__pycache__" not in path.parts)
    stats = ((path, path.lstat()) for path in paths)
    return {str(path): (stat.st_mode, stat.st_size, stat.st_mtime_ns) for path, stat in stats}


def read_only(folder: Path) -> tuple[str, ...]:
    """Make a folder read-only and return the command prefix this takes: root ignores permissions and needs a mount."""
    if os.getuid():
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        return ()
    mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && ! touch "$0/written" 2>/dev/null && exec "$@"'
    prefix = ("unshare", "-m", "sh", "-c", mount, str(folder))
    if not shutil.which("unshare") or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("root can make a folder read-only by a mount only")
    return prefix


@pytest.fixture(scope="module", params=["writable", pytest.param("read-only", marks=pytest.mark.slow)])
def worked(request, tmp_path_factory):
    """A user who has run every command, on writable or read-only data, and the state of the folders before that."""
    user = User(tmp_path_factory.mktemp("user"))
    prefix = read_only(user.data.parent) if request.param == "read-only" else ()
    before = {name: snapshot(user.root / name) for name in ("home", "data", "temp", "cwd")}
    user.work(prefix)
    yield user, before
    for path in (user.data.parent, *user.data.parent.rglob("*")):
        path.chmod(0o755)


def test_network__nothing_is_looked_up(worked):
    """Import, train, val, detect and compare resolve no host and connect to none, and the hook would notice it."""
    user, _ = worked
    assert not user.log.exists(), user.log.read_text()
    user.python("-c", "import socket\ntry: socket.getaddrinfo('a.invalid', 80)\nexcept OSError: pass")
    assert user.log.read_text() == "socket.getaddrinfo a.invalid\n"
    user.log.unlink()


def test_files__nothing_outside_the_run_and_the_cache(worked):
    """Home, data and temporary folder stay as they were, and the working directory gains nothing but runs."""
    user, before = worked
    for name in ("home", "data", "temp"):
        assert snapshot(user.root / name) == before[name]
    assert [path.name for path in (user.root / "cwd").iterdir()] == ["runs"]
    assert {path.parent.name for path in user.runs.glob("*/exp")} == {"train", "val", "detect", "compare"}


def test_settings__of_the_users_ultralytics_are_kept(worked):
    """The user's Ultralytics settings stay the same, and pixelkeep keeps its own elsewhere."""
    user, _ = worked
    assert json.loads(user.settings.read_text()) == SETTINGS
    assert list(user.settings.parent.iterdir()) == [user.settings]
    assert (user.root / "cache" / "ultralytics" / "Ultralytics" / "settings.json").is_file()


@pytest.mark.slow
def test_network__none_at_all(tmp_path):
    """Every command works without any network, even without a loopback interface."""
    alone = ("unshare", "-rn") if os.getuid() else ("unshare", "-n")
    if not shutil.which("unshare") or subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("the network can only be taken away by unshare -n")
    user = User(tmp_path)
    user.work(alone)
    assert len(list(user.runs.glob("*/exp"))) == 4


def test_address__downloaded_for_the_run_only(worked):
    """An image that the user requests by URL is left neither in the working directory nor anywhere else."""
    user, before = worked
    served = user.data.parent / "images" / "test"
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=str(served)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        name = next(served.iterdir()).name
        address = f"http://127.0.0.1:{server.server_address[1]}/{name}"
        text = user.python("-m", "pixelkeep", "detect", "--source", address, "--name", "fetched", "--json")
    finally:
        server.shutdown()
        server.server_close()
    assert json.loads(text)["images"] == 1
    left = {path.name for path in (user.runs / "detect" / "fetched").rglob("*")}
    assert left == {name, "settings.yaml", "detections.json"}
    assert [path.name for path in (user.root / "cwd").iterdir()] == ["runs"]
    assert snapshot(user.root / "temp") == before["temp"]


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass
