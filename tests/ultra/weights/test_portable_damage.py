"""Damaged and hostile portable checkpoints: one clear line each, nothing executed, no memory without end."""

from __future__ import annotations

import resource
import socket
import subprocess

import hostile
import hostile_portable
import pytest
import torch

from pixelkeep.cli.main import run
from pixelkeep.errors import PixelkeepError
from pixelkeep.ultra.weights.checkpoints import check_weights, forget, load

GROWTH = 600_000  # kilobytes by which a refusal may raise the peak memory of the process


@pytest.fixture(autouse=True)
def nothing_outside(monkeypatch):
    """Fail a test that starts a process or looks up a host."""

    def refuse(*args, **keywords):
        raise AssertionError(f"reached outside: {args[1:]}")

    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    forget()


@pytest.mark.parametrize("name", hostile_portable.CASES)
def test_case__one_line(tmp_path, name):
    """Each file is refused in one line that says what is wrong; its code does not run, and memory stays bounded."""
    write, told = hostile_portable.CASES[name]
    path, canary = tmp_path / "evil.safetensors", tmp_path / "canary"
    write(path, canary)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PixelkeepError) as error:
        check_weights(path)
    message = str(error.value)
    assert told in message and "evil.safetensors'" in message
    assert len(message.splitlines()) == 1 and len(message) < 600
    assert not canary.exists()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GROWTH


def test_unchanged__loads(tmp_path):
    """The counterproof: a file taken apart and put together unchanged is good, so each refusal is due to its change."""
    hostile_portable.changed(lambda values, tensors: None)(tmp_path / "same.safetensors", tmp_path)
    hostile_portable.header(lambda said: None)(tmp_path / "other.safetensors", tmp_path)
    for name in ("same.safetensors", "other.safetensors"):
        found = load(tmp_path / name)["model"].state_dict()
        expected = hostile.checkpoint()["model"].state_dict()
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_cut_anywhere__refused(tmp_path):
    """A file that is cut off at any of two hundred places is refused in one line."""
    hostile_portable.good(tmp_path / "whole.safetensors")
    content = (tmp_path / "whole.safetensors").read_bytes()
    for part in range(200):
        (tmp_path / "cut.safetensors").write_bytes(content[: len(content) * part // 200])
        with pytest.raises(PixelkeepError, match=r"damaged|truncated|empty"):
            load(tmp_path / "cut.safetensors")


def test_bits_anywhere__refused(tmp_path):
    """A single wrong bit, in header or tensors, is refused, although safetensors itself has no checksum."""
    hostile_portable.good(tmp_path / "whole.safetensors")
    content = (tmp_path / "whole.safetensors").read_bytes()
    places = torch.randint(len(content), (60,), generator=torch.Generator().manual_seed(0)).tolist()
    for place in [*range(0, 8), *places]:
        wrong = bytearray(content)
        wrong[place] ^= 1 << place % 8
        (tmp_path / "bit.safetensors").write_bytes(wrong)
        with pytest.raises(PixelkeepError):
            load(tmp_path / "bit.safetensors")


@pytest.mark.parametrize("name", ["module os.system", "a bit changed"])
def test_commands__refuse(tmp_path, monkeypatch, capfd, name):
    """train, val and detect end with the same line, status 2 and no run folder."""
    hostile.write_workplace(tmp_path)
    monkeypatch.chdir(tmp_path)
    write, told = hostile_portable.CASES[name]
    write(tmp_path / "evil.safetensors", tmp_path / "canary")
    for command, line in hostile.WEIGHTS.items():
        if "resume" in command:
            continue
        with pytest.raises(SystemExit) as end:
            run(line.format(file="evil.safetensors").split())
        error = capfd.readouterr().err
        assert end.value.code == 2 and told in error and "Traceback" not in error
        assert error.splitlines()[-1].startswith("pixelkeep: ")
    assert not (tmp_path / "runs").exists() and not (tmp_path / "canary").exists()
