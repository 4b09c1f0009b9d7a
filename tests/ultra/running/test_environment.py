"""What the commands set up: the user's settings are found where Ultralytics keeps them, on each system."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pixelkeep.ultra.running import environment

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("platform", "variables", "folder"),
    [
        ("linux", {}, "home/.config"),
        ("linux", {"XDG_CONFIG_HOME": "elsewhere"}, "elsewhere"),
        ("linux", {"XDG_CONFIG_HOME": "elsewhere", "YOLO_CONFIG_DIR": "chosen"}, "chosen"),
        ("darwin", {"XDG_CONFIG_HOME": "elsewhere"}, "home/Library/Application Support"),
        ("win32", {}, "home/AppData/Roaming"),
    ],
)
def test_datasets_dir__of_the_users_ultralytics(monkeypatch, tmp_path, platform, variables, folder):
    """The user's folder of datasets is read from where Ultralytics keeps its settings on each system."""
    monkeypatch.setattr(environment.sys, "platform", platform)
    monkeypatch.setattr(environment.Path, "home", lambda: tmp_path / "home")
    for name in ("XDG_CONFIG_HOME", "YOLO_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
        if name in variables:
            monkeypatch.setenv(name, str(tmp_path / variables[name]))
    assert environment._users_datasets_dir() == ""
    file = tmp_path / folder / "Ultralytics" / "settings.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"datasets_dir": "/data/of/mine"}))
    assert environment._users_datasets_dir() == "/data/of/mine"


def test_users_config__is_where_ultralytics_looks(tmp_path):
    """On the current system, the folder in which we look for settings is the one that Ultralytics itself uses."""
    code = (
        "from pixelkeep.ultra.running.environment import _users_config as ours\n"
        "from ultralytics.utils import USER_CONFIG_DIR as theirs\nassert ours() == theirs.parent, (ours(), theirs)"
    )
    kept = {key: value for key, value in os.environ.items() if key != "YOLO_CONFIG_DIR"}
    kept |= {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=kept, check=True)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"datasets_dir": '])
def test_datasets_dir__damaged_settings(monkeypatch, tmp_path, text):
    """Settings that cannot be read are treated as missing."""
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    (tmp_path / "Ultralytics").mkdir()
    (tmp_path / "Ultralytics" / "settings.json").write_text(text)
    assert environment._users_datasets_dir() == ""


def test_openvino__tells_nobody(tmp_path):
    """OpenVINO's converter, which reports each conversion to its makers, gets a stub in place of its telemetry."""
    pytest.importorskip("openvino")
    code = (
        "from pixelkeep.ultra.running.environment import prepare\nprepare()\n"
        "from openvino.tools.ovc import convert_impl, telemetry_utils\n"
        "print(convert_impl.tm.__name__, telemetry_utils.tm.__name__)"
    )
    kept = {**os.environ, "PIXELKEEP_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=kept, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["openvino.tools.ovc.telemetry_stub"] * 2


@pytest.mark.parametrize("first", ["pixelkeep", "ultralytics"])
@pytest.mark.parametrize(("asked", "expected"), [(None, "all"), ("3", "3")])
def test_threads__are_the_users_or_all(first, asked, expected):
    """From Python, too, threads are the number asked for or all, though Ultralytics sets OMP_NUM_THREADS to 1."""
    code = (
        f"import {first}, os; from pixelkeep import TiledDetector; "
        "from pixelkeep.ultra.running.environment import cpu_count, threads, use_all_cores; import torch; "
        "use_all_cores(); print('all' if threads() == cpu_count() else threads(), torch.get_num_threads() == threads())"
    )
    variables = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    variables |= {"PYTHONPATH": str(ROOT)} | ({"OMP_NUM_THREADS": asked} if asked else {})
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [expected, "True"]
