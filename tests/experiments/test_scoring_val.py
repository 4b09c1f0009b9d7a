"""When val is scored: once, after dev has decided on the seeds, and without failed trainings; training is a stub."""

from __future__ import annotations

import json

import pytest
from pretending import run

from pixelkeep.errors import DataError
from pixelkeep.experiments import campaign


def test_run__val_is_scored_once(options, pretended, tmp_path):
    """With more seeds val would be scored a second time, which is refused before they are trained, unless asked for."""
    run(options)
    options.seeds = 3
    pretended.trained.clear()
    text = " ".join(run(options).split())
    assert "1-a: not run, val was scored for it on" in text and "for 4 trainings and not for these 6" in text
    assert "2-b: not run, val was scored for it on" in text and not pretended.trained
    options.again = True
    run(options)
    ledger = json.loads((tmp_path / "out" / "ledger.json").read_text())
    assert [(entry["contrast"], entry["again"]) for entry in ledger[:2]] == [("1-a", False), ("2-b", False)]
    assert [entry["again"] for entry in ledger[2:]] == [True, True]
    assert len(ledger[2]["trainings"]) == 6


def test_run__one_refusal_leaves_the_others_alone(options, pretended, tmp_path):
    """A contrast for which val was scored is left out, while another one is still trained and summarised."""
    options.only = ["1-a"]
    run(options)
    options.only, options.seeds = [], 3
    pretended.trained.clear()
    text = " ".join(run(options).split())
    assert "1-a: not run, val was scored" in text and "2-b (full): 6 of 6 trainings" in text
    assert "nwd seed2" in pretended.trained and "yolov5-n seed2" not in pretended.trained


def test_run__the_kept_ledger_counts_elsewhere(options, pretended, tmp_path):
    """On another machine the ledger of the kept results refuses a second scoring of val before anything is trained."""
    run(options)
    options.project = tmp_path / "elsewhere"
    pretended.trained.clear()
    assert "for 4 trainings and not for these 4" in " ".join(run(options).split())
    assert not pretended.trained


def test_run__the_checkouts_ledger_counts_for_its_contrasts(options, pretended, tmp_path):
    """Another project folder without --out does not open val again for the contrasts of the same checkout."""
    (tmp_path / "configs").mkdir()
    options.contrasts = options.contrasts.rename(tmp_path / "configs" / "contrasts")
    script, options.out = tmp_path / "scripts" / "evidence.py", None
    campaign.run(options, script)
    assert len(json.loads((tmp_path / "docs" / "results" / "ledger.json").read_text())) == 2
    options.project = tmp_path / "elsewhere"
    pretended.scored.clear()
    assert "val was scored" in campaign.run(options, script) and not pretended.scored


def test_run__a_damaged_ledger_is_told(options, pretended, tmp_path):
    """Val is not scored where a damaged ledger leaves open whether it has been scored before."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "ledger.json").write_text('[{"contrast": 1}]')
    with pytest.raises(DataError, match=r"ledger\.json: the ledger of val is damaged"):
        run(options)


def test_run__a_training_that_fails_is_tried_twice_and_named(options, pretended, tmp_path):
    """A training that fails twice holds up neither val nor later contrasts; summary and ledger list it as missing."""
    pretended.fails = {"yolov5-spd-n seed1"}
    text = " ".join(run(options).split())
    assert "yolov5-spd-n seed 1 failed, and is missing: yolov5-spd-n seed1 cannot be." in text
    assert "1-a (full): 3 of 4 trainings" in text and "2-b (full): 3 of 4 trainings" in text
    assert pretended.trained.count("yolov5-spd-n seed1") == 2
    assert (
        pretended.trained.index("yolov5-n seed1") < len(pretended.trained) - 2
    )  # failed trainings are tried after the others
    ledger = json.loads((tmp_path / "out" / "ledger.json").read_text())
    assert [entry["failed"] for entry in ledger] == [["yolov5-spd-n seed 1"], ["plain seed 1"]]
    summary = json.loads((tmp_path / "out" / "full" / "1-a" / "summary.json").read_text())
    assert not summary["done"] and summary["failed"][0]["training"] == "yolov5-spd-n seed 1"
    pretended.trained.clear()
    pretended.fails = set()
    assert run(options) and not pretended.trained  # val was scored without it: training it now would mean a second look


def test_run__what_failed_is_tried_again_by_the_next_command(options, pretended):
    """Before val is scored, the same command again retries failed trainings."""
    options.form, pretended.fails = "early", {"yolov5-spd-n seed1"}
    run(options)
    pretended.fails = set()
    pretended.trained.clear()
    assert "1-a (early): 4 of 4 trainings" in run(options) and pretended.trained == ["yolov5-spd-n seed1"]


def test_run__without_a_baseline_there_is_nothing_to_say(options, pretended, tmp_path):
    """Where every training of the baseline fails, val stays closed for this contrast alone."""
    pretended.fails = {"yolov5-n seed0", "yolov5-n seed1"}
    text = run(options)
    assert "1-a (full): 2 of 4 trainings" in text
    ledger = json.loads((tmp_path / "out" / "ledger.json").read_text())
    assert [entry["contrast"] for entry in ledger] == ["2-b"]


@pytest.mark.parametrize(
    ("seeds", "wanted", "opens"), [(None, 5, False), (2, 5, True), (None, None, True)], ids=["more", "given", "useless"]
)
def test_run__dev_says_how_many_seeds_before_val(options, pretended, tmp_path, monkeypatch, seeds, wanted, opens):
    """Val stays closed while more seeds would help, unless their number was given; if none would help it is opened."""
    answer = {"done": False, "seeds": wanted}
    monkeypatch.setattr(campaign, "answers_of", lambda document: [answer])
    options.only, options.seeds = ["1-a"], seeds
    text = " ".join(run(options).split())
    assert bool(pretended.scored) == opens == (tmp_path / "out" / "ledger.json").exists()
    assert ("val stays closed: on dev it takes about 5 seeds of each arm" in text) != opens
    if not opens:
        assert "--seeds 5 trains them first, --seeds 2 scores val with those that are there." in text
        options.seeds = 5
        run(options)
        (entry,) = json.loads((tmp_path / "out" / "ledger.json").read_text())
        assert entry["why"] == "it was asked for with 5 seeds" and len(entry["trainings"]) == 10
