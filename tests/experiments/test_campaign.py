"""Contrasts from their files to their answers, with stubs for training: order, shared arms, and what is kept."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import pytest
import yaml
from pretending import FIRST, FORMS, SECOND, run

from pixelkeep.errors import OptionError
from pixelkeep.experiments import campaign, document, evidence, grid


def write(folder: Path, name: str, contrast: dict) -> None:
    (folder / "contrasts" / f"{name}.yaml").write_text(yaml.safe_dump(contrast))


def test_run__both_contrasts_to_their_answers(options, pretended, tmp_path):
    """Every arm is trained once, the second contrast with the first's best family, and val is scored once for each."""
    text = run(options)
    assert pretended.trained == [
        "yolov5-n seed0", "yolov5-spd-n seed0", "yolov5-n seed1", "yolov5-spd-n seed1", "nwd seed0", "nwd seed1"
    ]  # fmt: skip
    assert "The best family on dev is yolov5-spd." in text and max(map(len, text.splitlines())) <= 80
    first = json.loads((tmp_path / "out" / "full" / "1-a" / "summary.json").read_text())
    (answer,) = first["answers"]
    assert (answer["arm"], answer["verdict"], first["split"]) == ("yolov5-spd-n", "better", "val")
    document = json.loads((tmp_path / "out" / "full" / "1-a" / "val" / "comparison.json").read_text())
    values = [arm["figures"]["AP_S"]["mean"] for arm in document["arms"]]
    assert answer["value"] == pytest.approx(values[1] - values[0]) and answer["low"] > 0
    assert document["images"] == 12 and first["arms"][0]["least_s"] == [20, 20]
    ledger = json.loads((tmp_path / "out" / "ledger.json").read_text())
    assert [entry["contrast"] for entry in ledger] == ["1-a", "2-b"] and not any(entry["again"] for entry in ledger)


def test_run__again_does_nothing(options, pretended):
    """The same command again prints the same text, trains nothing and does not score val."""
    first = run(options)
    pretended.trained.clear()
    pretended.scored.clear()
    assert run(options) == first
    assert not pretended.trained and not pretended.scored


def test_run__early_does_not_look_at_val(options, pretended, tmp_path):
    """Early training is judged on dev, gives no verdict, and says so."""
    options.form = "early"
    text = run(options)
    assert not pretended.scored and not (tmp_path / "out" / "ledger.json").exists()
    summary = json.loads((tmp_path / "out" / "early" / "1-a" / "summary.json").read_text())
    assert (summary["split"], summary["notice"]) == ("dev", "early training, no verdict")
    assert "better" not in text and text.count("early training, no verdict") == 4


def test_run__in_the_order_of_names(options, pretended, tmp_path, contrast_data):
    """A contrast that waited for another starts as soon as it can, before those whose names come after it."""
    third = FIRST | {
        "data": str(contrast_data),
        "arms": {"yolov5-n": "yolov5-n", "nwd": {"model": "yolov5-n", "nwd": 0.25}},
    }
    (tmp_path / "contrasts" / "3-c.yaml").write_text(yaml.safe_dump(third))
    run(options)
    assert pretended.folders == ["1-a"] * 4 + ["2-b"] * 2 + ["3-c"] * 2


def test_run__another_project_folder_is_measured_where_it_is(options, pretended, tmp_path, monkeypatch):
    """Latency is measured on the checkpoints in the project folder, wherever that folder has been moved to."""
    run(options)
    for seed in options.project.glob("*/*/*/seed?"):
        (seed / "weights").mkdir(exist_ok=True)
        (seed / "weights" / "best.pt").touch()
    moved = options.project.rename(tmp_path / "moved")
    options.project, options.again = moved, True
    measured = []
    monkeypatch.setattr(document, "measure_latency", lambda networks, *_: (measured.append(networks), ({}, {}))[1])
    for path in moved.rglob("comparison.json"):
        path.unlink()
    run(options)
    assert measured and all(weights.is_relative_to(moved) for each in measured for weights, _ in each.values())


def test_run__bf16_is_left_out_where_there_is_none(options, pretended, tmp_path, monkeypatch, contrast_data):
    """On a CPU without bf16 a form that asks for it trains without, and the summary says so."""
    forms = {"early": FORMS["early"] | {"amp": "bf16"}}
    for there, told in ((False, "fp32"), (True, "bf16")):
        monkeypatch.setattr(campaign, "has_bf16", lambda there=there: there)
        options.project = tmp_path / told
        options.form, options.only = "early", ["1-a"]
        (tmp_path / "contrasts" / "1-a.yaml").write_text(
            yaml.safe_dump(FIRST | {"data": str(contrast_data), "forms": forms})
        )
        run(options)
        settings = yaml.safe_load(
            (tmp_path / told / "early" / "1-a" / "yolov5-n" / "seed0" / "settings.yaml").read_text()
        )
        summary = json.loads((tmp_path / "out" / "early" / "1-a" / "summary.json").read_text())
        assert (settings.get("amp", True) == "bf16", summary["precision"], "amp" in summary["settings"]) == (
            there, told, there
        )  # fmt: skip


def test_work__latency_is_matched_on_a_quiet_machine(options, pretended, tmp_path, contrast_data, monkeypatch):
    """A contrast whose arms need measuring is not started while others train, but between two rounds of trainings."""
    forms = {"full": FORMS["full"] | {"match": ["latency"]}}
    write(tmp_path, "2-b", SECOND | {"data": str(contrast_data), "forms": forms})
    rounds, begin = [], campaign.begin

    def noted(contrast, place):
        rounds.append((contrast.name, at_work[-1]))
        return begin(contrast, place)

    def work(given):
        at_work.append(True)
        trained(given)
        at_work.append(False)

    at_work, trained = [False], campaign.work
    monkeypatch.setattr(campaign, "begin", noted)
    monkeypatch.setattr(campaign, "work", work)
    monkeypatch.setattr(evidence, "plan", lambda *given: grid.plan(*given[:-1]))  # the search itself has its own tests
    assert "2-b (full): 4 of 4 trainings" in run(options)
    first = next(place for place, (name, _) in enumerate(rounds) if name == "2-b" and at_work)
    assert [busy for name, busy in rounds[first:] if name == "2-b"][:2] == [False, False]  # it waits, then it begins


@pytest.mark.parametrize("group", ["zzz", r"(\d+)\.webp$"])
def test_run__a_group_that_is_in_no_name_is_told_at_once(options, pretended, tmp_path, contrast_data, group):
    """A group pattern without a match is refused before any training, also for a contrast that waits for another."""
    (tmp_path / "contrasts" / "2-b.yaml").write_text(
        yaml.safe_dump(SECOND | {"data": str(contrast_data), "group": group})
    )
    with pytest.raises(OptionError, match=r"contrast 2-b: .*: group .* does not match its name"):
        run(options)
    assert not pretended.trained


def test_run__missing_data_names_the_scripts_option(options, tmp_path):
    """The message for missing data names --path, the option of this script."""
    own = tmp_path / "own.yaml"
    own.write_text("path: nowhere\ntrain: a\nval: b\nnames: [x]\n")
    for path in (tmp_path / "contrasts").iterdir():
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"data": str(own)}))
    with pytest.raises(OptionError, match=r"contrast 1-a: .*give it with --path FOLDER"):
        run(options)


def test_told__the_command_with_all_that_was_given(options, pretended, tmp_path):
    """The summary's command has every option given, so that it can be repeated, and no folder of the machine."""
    options.only, options.weights, options.out = ["1-a"], False, tmp_path / "out"
    run(options)
    summary = json.loads((tmp_path / "out" / "full" / "1-a" / "summary.json").read_text())
    assert (
        summary["command"] == ("python scripts/evidence.py 1-a --form full --jobs 1 --device cpu --out ./out")
        and summary["total_s"] == 82
    )  # four trainings of 20.4 s


def test_run__no_time_trains_nothing(options, pretended):
    """When the time is over before a training begins, nothing is trained, and the table says "not run"."""
    options.minutes = 1e-6
    text = run(options)
    assert not pretended.trained and text.count("not run") == 5


def test_run__arms_that_are_alike_are_trained_once(options, pretended, tmp_path):
    """An arm equal to one of an earlier contrast is not trained again: its folder links there, with equal figures."""
    run(options)
    plain = tmp_path / "made" / "full" / "2-b" / "plain"
    assert plain.is_symlink() and plain.resolve() == tmp_path / "made" / "full" / "1-a" / "yolov5-spd-n"
    summaries = [json.loads((tmp_path / "out" / "full" / name / "summary.json").read_text()) for name in ("1-a", "2-b")]
    assert summaries[1]["arms"][0]["dev"] == summaries[0]["arms"][1]["dev"]
    assert not (tmp_path / "made" / "full" / "2-b" / "nwd").is_symlink()
    report = (tmp_path / "out" / "full" / "2-b" / "dev" / "comparison.md").read_text()
    assert "- nwd is yolov5-spd-n with nwd 0.5\n" in report and "plain is" not in report


def test_keep__no_path_of_the_machine(options, pretended, tmp_path):
    """Kept files name no folder of this machine, and hold figures, epochs and settings of every training."""
    run(options)
    kept = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sum(path.name == "metrics.json" for path in kept) == 16  # eight trainings, each on dev and on val
    assert sum(path.name in ("results.csv", "settings.yaml") for path in kept) == 16
    for path in kept:
        assert str(tmp_path) not in path.read_text(), path
    assert not any(path.name == "predictions.json" for path in kept)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"jobs": 0}, "--jobs 0"),
        ({"seeds": 0}, "--seeds 0"),
        ({"minutes": 0.0}, "--minutes 0"),
        ({"minutes": float("nan")}, "--minutes nan"),
    ],
)
def test_run__odd_options_are_refused(options, changes, told):
    """Options whose numbers make no sense are refused by name."""
    with pytest.raises(OptionError) as error:
        run(Namespace(**{**vars(options), **changes}))
    assert told in str(error.value)
