"""Evidence packed for another machine: all of it in parts, or what matters most if room is short, without links."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import pytest

SCRIPT = runpy.run_path(str(Path(__file__).resolve().parents[2] / "scripts" / "carry_evidence.py"))
pack, unpack = SCRIPT["pack"], SCRIPT["unpack"]


@pytest.fixture
def project(tmp_path) -> Path:
    """Return a project of two contrasts: a finished training, an unfinished one, a linked arm, data, logs and locks."""
    made = tmp_path / "made"
    for name, content in {
        "full/1-a/grid.json": b"{}",
        "full/1-a/x/seed0/settings.yaml": b"a: 1",
        "full/1-a/x/seed0/metrics.json": b"{}",
        "full/1-a/x/seed0/predictions.json": b"[]",
        "full/1-a/x/seed0/weights/best.pt": os.urandom(5000),
        "full/1-a/x/seed0/weights/last.pt": os.urandom(5000),
        "full/1-a/x/seed1/settings.yaml": b"a: 1",
        "full/1-a/x/seed1/weights/last.pt": os.urandom(5000),
        "full/1-a/x/.seed1.lock": b"",
        "full/2-b/grid.json": b"{}",
        "data/big.webp": os.urandom(5000),
        "logs/job0.log": b"text",
        "kept/full/1-a/summary.json": b"{}",
        "ledger.json": b"[]",
    }.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(content)
    (made / "full" / "2-b" / "y").symlink_to("../1-a/x", target_is_directory=True)
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and not p.is_symlink()
    }


def test_pack__all_of_it_comes_back(project, tmp_path):
    """Everything needed to continue comes back byte for byte, in parts no larger than the given size."""
    assert pack(project, tmp_path / "parts", 1 << 20, 4096) == []
    sizes = [path.stat().st_size for path in sorted((tmp_path / "parts").iterdir())]
    assert len(sizes) > 2 and set(sizes[:-1]) == {4096} and sizes[-1] <= 4096
    unpack(tmp_path / "parts", tmp_path / "back")
    left_out = ("data/", "logs/", "full/2-b/y/", "full/1-a/x/.seed1.lock", "full/1-a/x/seed0/weights/last.pt")
    expected = {name: content for name, content in contents(project).items() if not name.startswith(left_out)}
    assert contents(tmp_path / "back") == expected


def test_pack__what_matters_most_goes_first(project, tmp_path):
    """Where not everything fits, figures are packed before checkpoints, and what is left out is named."""
    left = pack(project, tmp_path / "parts", 22_000, 100_000)
    unpack(tmp_path / "parts", tmp_path / "back")
    back = contents(tmp_path / "back")
    assert {"ledger.json", "kept/full/1-a/summary.json", "full/1-a/x/seed0/metrics.json"} <= set(back)
    assert left and all(name.startswith(("checkpoint of", "weights of")) for name in left)
    assert len(left) + sum(name.endswith(".pt") for name in back) == 2


def test_pack__again_leaves_nothing_of_before(project, tmp_path):
    """Packing again removes the parts of an earlier, larger pack."""
    pack(project, tmp_path / "parts", 1 << 20, 1024)
    pack(project, tmp_path / "parts", 1 << 20, 1 << 20)
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["evidence.part00"]


def test_unpack__what_is_no_pack_is_told(project, tmp_path):
    """A folder without parts, or with a part missing, is refused in one line."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: no parts in it, evidence\.part00 and so on"):
        unpack(tmp_path / "empty", tmp_path / "back")
    pack(project, tmp_path / "parts", 1 << 20, 4096)
    (tmp_path / "parts" / "evidence.part01").unlink()
    with pytest.raises(ValueError, match="are damaged or missing"):
        unpack(tmp_path / "parts", tmp_path / "back")
