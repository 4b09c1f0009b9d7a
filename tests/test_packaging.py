"""Names resolve wherever the package is: in a wheel, an editable install or a checkout, and from any directory."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from ultralytics.nn.tasks import DetectionModel

from pixelkeep.ultra.weights import manifest
from pixelkeep.ultra.weights.checkpoints import save

ROOT = Path(__file__).resolve().parent.parent
CODE = (
    "import sys; sys.path.insert(0, sys.argv[1]); import pixelkeep; from pixelkeep import assets;"
    "from ultralytics import YOLO; m = YOLO('yolov5-spd-n.yaml', verbose=False);"
    "print(pixelkeep.__file__); print(assets.folder('models'));"
    "print(sum(p.numel() for p in m.model.model[:-1].parameters()))"
)

DETECT = (
    "import sys; sys.path.insert(0, sys.argv[1]); from pixelkeep.cli import main;"
    "from pixelkeep.ultra.weights.checkpoints import check_weights;"
    "main._guard(lambda: print(check_weights(sys.argv[2])))"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built without build isolation and without a network."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return next(out.glob("*.whl"))


def build_model(root: Path, cwd: Path) -> list[str]:
    command = [sys.executable, "-c", CODE, str(root)]
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout.splitlines()[-3:]


def test_wheel__holds_the_assets_and_nothing_else_at_the_top(wheel):
    """The wheel carries the YAML folders inside the package, and no top-level module called models or data."""
    names = zipfile.ZipFile(wheel).namelist()
    assert {n.split("/")[0].split("-")[0] for n in names} == {"pixelkeep"}
    for kind in ("models", "configs", "data", "weights"):
        expected = {p.name for p in (ROOT / kind).iterdir() if p.suffix in {".yaml", ".md"}}
        assert expected <= {Path(n).name for n in names if n.startswith(f"pixelkeep/_assets/{kind}/")}
    assert "pixelkeep/_assets/configs/trackers/small-objects.yaml" in names
    python = {str(p.relative_to(ROOT)) for p in (ROOT / "pixelkeep").rglob("*.py")}
    assert python <= set(names)


def test_names__resolve_from_an_unpacked_wheel(wheel, tmp_path):
    """A model name works from another working directory when only the wheel is there."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (tmp_path / "exp5s of mine").mkdir()
    file, folder, count = build_model(tmp_path / "site", tmp_path / "exp5s of mine")
    assert Path(file).is_relative_to(tmp_path) and Path(folder).is_relative_to(tmp_path)
    assert count == "2141152"


def test_published__found_in_an_unpacked_wheel(wheel, tmp_path):
    """A wheel that contains a publication provides its file, by name and verified, from another working directory."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (tmp_path / "elsewhere").mkdir()
    model = DetectionModel({"nc": 1, "backbone": [[-1, 1, "Conv", [8, 3, 2]]], "head": [[[0], 1, "Detect", ["nc"]]]})
    model.names, model.task = {0: "car"}, "detect"
    folder = tmp_path / "site" / "pixelkeep" / "_assets" / "weights"
    save({"model": model, "train_args": {}}, folder / "net.safetensors")
    size, sha = (folder / "net.safetensors").stat().st_size, manifest.sha256_of(folder / "net.safetensors")
    texts = dict.fromkeys(("model", "data", "licence", "attribution", "recipe", "metrics", "card"), "x")
    entry = manifest.Published(file="net.safetensors", bytes=size, sha256=sha, **texts)
    manifest.write_manifest(folder, {"net": entry})

    def detect(name: str) -> list[str]:
        line = [sys.executable, "-c", DETECT, str(tmp_path / "site"), name]
        done = subprocess.run(line, cwd=tmp_path / "elsewhere", capture_output=True, text=True, check=False)
        return [str(done.returncode), *(done.stdout or done.stderr).splitlines()[-1:]]

    assert detect("net") == ["0", str(folder / "net.safetensors")]
    code, told, *_ = detect("other")
    assert code == "2" and "weights 'other' not found; the published ones are net: give a" in told
    (folder / "net.safetensors").unlink()
    assert detect("net")[0] == "2" and "is missing; reinstall pixelkeep" in detect("net")[1]


def test_names__resolve_from_a_checkout(tmp_path):
    """A model name works from another working directory with a checkout, or an editable install of it, on the path."""
    file, folder, count = build_model(ROOT, tmp_path)
    assert Path(file).is_relative_to(ROOT) and Path(folder) == ROOT / "models"
    assert count == "2141152"
