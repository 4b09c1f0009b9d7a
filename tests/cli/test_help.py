"""What a newcomer types first: the command alone, --help, --version."""

from __future__ import annotations

import re

import pytest
import typer.main

from pixelkeep import __version__
from pixelkeep.cli.main import app, run

COMMANDS = ["", *sorted(typer.main.get_command(app).commands)]
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z0-9-]*")


def output(args: list[str], capsys: pytest.CaptureFixture) -> str:
    """Return a command's standard output, asserting status 0 and an empty standard error."""
    with pytest.raises(SystemExit) as ended:
        run(args)
    out, err = capsys.readouterr()
    assert (ended.value.code, err) == (0, "")
    return out


def panels(text: str) -> dict[str, list[str]]:
    """Return the lines of each panel of a help text, by the panel's title and in order."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if match := re.match(r"╭─ (.+?) ─+╮$", line):
            found[match[1]] = []
        elif line.startswith("│"):
            found[list(found)[-1]].append(line.strip("│ *"))  # a star marks required options
    return found


def declared(command: str) -> list[str]:
    """Return all the names that a command's options are declared with, sorted."""
    group = typer.main.get_command(app)
    params = (group.commands[command] if command else group).params
    names = [name for p in params for name in (*p.opts, *p.secondary_opts) if name.startswith("-")]
    return sorted([*names, "--help"])


@pytest.mark.parametrize("command", COMMANDS)
def test_help__fits_and_is_complete(command, capsys):
    """The help of every command fits 80 columns, has no empty panel, and names every option once."""
    text = output([*command.split(), "--help"], capsys)
    assert max(map(len, text.splitlines())) <= 80
    shown = panels(text)
    assert shown and all(shown.values())
    # An option's own line starts with its names; a description further right may mention others.
    starts = [re.match(r"((--?[a-z][a-z0-9-]*)[, ]*)+", line) for lines in shown.values() for line in lines]
    named = sorted(name for start in starts if start for name in OPTION.findall(start[0]))
    assert named == declared(command)
    assert "…" not in text  # no text is cut


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in ("", "yolo")])
def test_help__json_and_verbose_stand_with_the_first(command, capsys):
    """--json is in the first panel of options of every command with a result, --verbose in all of these but models."""
    options = "\n".join(panels(output([command, "--help"], capsys))["Options"])
    assert "--json " in options
    assert ("--verbose " in options) == (command != "models")


@pytest.mark.parametrize("args", [[], ["--help"]], ids=["nothing", "help"])
def test_start__shows_the_commands(args, capsys):
    """Without a command the list of commands is shown as by --help, and this is no error."""
    commands = "\n".join(panels(output(args, capsys))["Commands"])
    assert all(re.search(rf"^{command} ", commands, re.M) for command in COMMANDS[1:])


def test_version__is_the_packages(capsys):
    """--version prints the name and the version, and nothing else."""
    assert output(["--version"], capsys) == f"pixelkeep {__version__}\n"
