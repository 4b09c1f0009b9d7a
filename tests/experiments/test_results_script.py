"""scripts/results.py: what it writes from kept files, and what it says about damaged ones."""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path

import pytest

from pixelkeep.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
generate = runpy.run_path(str(ROOT / "scripts" / "results.py"))["generate"]
CONTRASTS, PLAIN = ROOT / "configs" / "contrasts", Path("early/1-plain")


@pytest.fixture
def kept(tmp_path) -> Path:
    """Return a copy of the first kept results."""
    shutil.copytree(ROOT / "docs" / "results" / PLAIN, tmp_path / "results" / PLAIN)
    return tmp_path / "results"


def test_kept__are_what_the_document_shows():
    """docs/results.md and its plots are what the script generates from the kept files."""
    for path, text in generate(ROOT / "docs" / "results", CONTRASTS).items():
        assert (ROOT / "docs" / path).read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        (PLAIN / "summary.json", "{", "damaged"),
        (PLAIN / "summary.json", "[]", "damaged"),
        (PLAIN / "summary.json", '{"schema": 1}', "of another version"),
        (PLAIN / "gallery" / "gallery.json", "", "damaged"),
        ("ledger.json", "{}", "damaged"),
    ],
)
def test_damaged__is_named(kept, file, text, told):
    """A file that cannot be read is refused by name, with what is wrong."""
    (kept / file).write_text(text)
    with pytest.raises(DataError, match=rf"{Path(file).name}: {told}"):
        generate(kept, CONTRASTS)


def test_ledger__says_for_which_form(kept):
    """The ledger lists contrast and form, when val was scored, for how many trainings, whether again, and why."""
    facts = {"contrast": "1-plain", "form": "full", "when": "2026-01-02T03:04:05+00:00", "again": False}
    (kept / "ledger.json").write_text(json.dumps([facts | {"why": "enough", "trainings": ["a", "b"], "failed": []}]))
    text = generate(kept, CONTRASTS)[Path("results.md")]
    assert "| 1-plain | full | 2026-01-02T03:04:05+00:00 | 2 | no | enough |" in text


def test_whole__a_figure_of_all_that_was_trained_alike(kept):
    """A second contrast with the same settings joins the figure, with its own arms beside those of the first."""
    other = shutil.copytree(kept / PLAIN, kept / "early" / "5-others")
    summary = json.loads((other / "summary.json").read_text())
    summary["arms"] = [summary["arms"][0] | {"name": "yolo11-n", "model": "yolo11-n"}]
    (other / "summary.json").write_text(json.dumps(summary | {"contrast": "5-others"}))
    files = generate(kept, CONTRASTS)
    assert "All that was trained alike, on dev (1-plain, 5-others):" in files[Path("results.md")]
    drawing = files[Path("images/results-early-dev.svg")]
    assert all(f">{name}<" in drawing for name in ("yolov5-n", "spd-n", "yolo11-n", "stock", "published block"))
