"""YOLOv5's spellings for which Typer has no form, turned into ones that it has, and the values read back.

``--imgsz 512 640`` becomes ``--imgsz 512,640``, likewise ``--freeze 0 1 2`` and ``--classes 0 2``; a bare ``--cache``
becomes ``--cache ram``, and a bare ``--track`` ``--track small-objects``.
"""

from __future__ import annotations

import typer

SEVERAL = ("--imgsz", "--img", "--freeze", "--classes")  # options that may be followed by several whole numbers
IMPLIED = {"--cache": "ram", "--track": "small-objects"}  # options whose value may be left out, and what it is then
AUTO = "auto"  # of confidences: each class's own, as the weights have it; of tiles: at the scale of the training
SMALLEST = 32  # pixels, one cell of the deepest feature map


def respell(arguments: list[str]) -> list[str]:
    """Return a command line in the form that Typer reads."""
    spelt: list[str] = []
    reading = False  # whether the last word is a number of an option in SEVERAL
    for argument in arguments:
        if reading and argument.isdecimal():
            spelt[-1] += f",{argument}"
            continue
        last = spelt[-1] if spelt else ""
        if last in IMPLIED and argument.startswith("-"):
            spelt.append(IMPLIED[last])
        name, _, value = argument.partition("=")
        reading = (last in SEVERAL and argument.isdecimal()) or (name in SEVERAL and value.isdecimal())
        spelt.append(argument)
    return [*spelt, IMPLIED[spelt[-1]]] if spelt and spelt[-1] in IMPLIED else spelt


def image_size(text: str) -> int | list[int]:
    """Read ``640``, or height and width as ``512,640``."""
    sides = _whole_numbers(text)
    if not 1 <= len(sides) <= 2 or min(sides) < SMALLEST:
        raise typer.BadParameter(f"'{text}' is not a number of pixels, or height and width, of at least {SMALLEST}")
    return sides[0] if len(sides) == 1 else sides


def layers(text: str) -> int | list[int]:
    """Read how many of the first layers, ``10``, or which layers, ``0,1,2``."""
    numbers = _whole_numbers(text)
    if not numbers:
        raise typer.BadParameter(f"'{text}' is not a number of layers, or several layer numbers")
    return numbers[0] if len(numbers) == 1 else numbers


def checkpoint(text: str) -> str | bool:
    """Read the name of a checkpoint; an empty one, or False, stands for none."""
    return False if text.lower() in ("", "false") else text


def confidence(text: str) -> float | str:
    """Read a number from 0 to 1, or ``auto``."""
    try:
        value = AUTO if text == AUTO else float(text)
    except ValueError:
        value = -1.0
    if value != AUTO and not 0 <= value <= 1:
        raise typer.BadParameter(f"'{text}' is not a number from 0 to 1, or {AUTO}")
    return value


def tile(text: str) -> int | str:
    """Read a number of pixels, or ``auto``."""
    if text != AUTO and not text.isdecimal():
        raise typer.BadParameter(f"'{text}' is not a number of pixels, or {AUTO}")
    return AUTO if text == AUTO else int(text)


def _whole_numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.strip("[]").split(",")]
    return [int(part) for part in parts] if all(part.isdecimal() for part in parts) else []
