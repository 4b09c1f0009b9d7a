"""pixelkeep models lists names, sizes and who defines the models, as a table and as JSON."""

from __future__ import annotations

import json

import pytest
from ultralytics.nn.tasks import DetectionModel

from pixelkeep.cli.main import run
from pixelkeep.ultra.costs import catalogue
from pixelkeep.ultra.costs.catalogue import model_names

PATTERN = "yolov5*-n"


def output(args: list[str], capsys: pytest.CaptureFixture) -> str:
    with pytest.raises(SystemExit) as ended:
        run(["models", *args])
    out, err = capsys.readouterr()
    assert not ended.value.code, err
    return out


def test_table__names_and_sizes(capsys):
    """A glob selects models; each row has definer, parameters and GFLOPs, and the baseline comes first."""
    table, note = output([PATTERN], capsys).split("\n\n")
    header, rule, *rows = table.splitlines()
    assert "80 classes" in note
    assert header.split() == ["model", "defined", "by", "params", "(M)", "GFLOPs", "at", "640", "active"]
    assert max(map(len, [header, rule, *rows])) <= 80
    cells = [row.split() for row in rows]
    names = [row[0] for row in cells]
    assert names == [name for name in model_names() if name.startswith("yolov5") and name.endswith("-n")]
    assert [row[1] for row in cells] == ["Ultralytics"] + ["pixelkeep"] * (len(cells) - 1)
    for name in ("yolov5-n", "yolov5-spd-n"):
        network = DetectionModel(f"{name}.yaml", nc=80, verbose=False)
        millions = sum(p.numel() for p in network.parameters()) / 1e6
        assert cells[names.index(name)][2] == f"{millions:.2f}"
    assert all(float(row[3]) > 0 for row in cells)


def test_json__says_what_the_table_says(capsys):
    """--json prints one document with the same models and unrounded figures."""
    rows = [row.split()[:4] for row in output([PATTERN], capsys).split("\n\n")[0].splitlines()[2:]]
    document = json.loads(output([PATTERN, "--json"], capsys))
    assert (document["schema"], document["imgsz"]) == (1, 640)
    assert [
        [m["name"], "Ultralytics" if m["stock"] else "pixelkeep", f"{m['params'] / 1e6:.2f}", f"{m['gflops']:.1f}"]
        for m in document["models"]
    ] == rows


def test_part_of_a_name__selects_with_baselines(capsys):
    """Part of a name selects every model that contains it, together with Ultralytics' own baselines."""
    listed = [row.split()[0] for row in output(["yolov5-slicesamp-up"], capsys).split("\n\n")[0].splitlines()[2:]]
    assert listed == [f"{family}-{scale}" for family in ("yolov5", "yolov5-slicesamp-up") for scale in "nsmlx"]


def test_progress__where_something_is_counted(capsys, monkeypatch, tmp_path):
    """A progress bar on standard error ends at all models the first time; cached figures need none."""
    monkeypatch.setattr(catalogue.assets, "home", lambda: tmp_path)
    for shown in (True, False):
        with pytest.raises(SystemExit):
            run(["models", "yolov5-spd-[ns]", "--json"])
        out, err = capsys.readouterr()
        assert len(json.loads(out)["models"]) == 4
        assert ("counting parameters and GFLOPs, once: 100%" in err and "4/4" in err) == shown


def test_cache__of_another_form_is_passed_over(capsys, monkeypatch, tmp_path):
    """A cache file that holds something else is ignored and does not fail the command."""
    monkeypatch.setenv("PIXELKEEP_HOME", str(tmp_path))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "models.json").write_text("[1, 2]")
    assert "yolov5-n" in output(["yolov5-n"], capsys)
