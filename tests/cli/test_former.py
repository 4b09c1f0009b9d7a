"""YOLOv5's options that are spelt differently here are answered with the spelling that works."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pixelkeep.cli.former import INSTEAD, refusal
from pixelkeep.cli.main import run
from pixelkeep.ultra.running.settings import merge

EVERY = [(command, option) for command, options in INSTEAD.items() for option in options]


@pytest.fixture(scope="module")
def frozen() -> dict[str, list[str]]:
    return json.loads((Path(__file__).parents[1] / "frozen_options.json").read_text())


@pytest.mark.parametrize(("command", "option"), EVERY, ids=map(" ".join, EVERY))
def test_instead__is_there_and_the_option_is_not(command, option, frozen):
    """No refused option exists here, and each option and setting named in its place takes effect."""
    instead = INSTEAD[command][option]
    assert option not in frozen[command]
    if instead.startswith("-"):
        assert set(re.findall(r"--[a-z][a-z0-9-]*", instead)) <= set(frozen[command])
        for given in re.findall(r"--set ([a-z_]+=[A-Za-z0-9.]+)", instead.replace("=N", "=1")):
            key, value = given.split("=")
            assert str(merge({}, command=command, assignments=[given])[key]) == value


LINES = {
    "detect --nosave": "pixelkeep: --nosave is --no-save here; see --help",
    "detect --source a.png --line-thickness=2": "pixelkeep: --line-thickness is --line-width N here; see --help",
    "detect --save_conf": "pixelkeep: --save_conf is --save-txt --set save_conf=True here; see --help",
    "train --hyp x.yaml": "pixelkeep: --hyp is --config FILE (or --set KEY=VALUE) here; see --help",
    "val --task test": "pixelkeep: --task is --split NAME (train, val or test) here",
    "train --noautoanchor": "--noautoanchor has no counterpart here: the heads have no anchor boxes to fit; see --help",
    "val --nosuch": "No such option: --nosuch",
}


@pytest.mark.parametrize(("line", "expected"), LINES.items(), ids=LINES)
def test_refusal__one_line(capsys, line, expected):
    """The one line of the refusal names what to write instead."""
    with pytest.raises(SystemExit) as ended:
        run(line.split())
    err = capsys.readouterr().err
    assert ended.value.code == 2 and err.count("\n") == 1 and expected in err


def test_refusal__of_that_command_alone():
    """An option is refused only in the command in which YOLOv5 has it."""
    assert refusal("val", "--nosave") is None and refusal("models", "--nosave") is None
