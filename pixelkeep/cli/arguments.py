"""Rewrite YOLOv5's spellings of options that Typer cannot read, and parse the values of the rewritten options.

``--imgsz 512 640`` becomes ``--imgsz 512,640``, and likewise for ``--freeze 0 1 2`` and ``--classes 0 2``. A bare
``--cache`` becomes ``--cache ram``, and a bare ``--track`` becomes ``--track small-objects``.
"""

from __future__ import annotations

import typer

SEVERAL = ("--imgsz", "--img", "--freeze", "--classes")  # options that may be followed by several whole numbers
IMPLIED = {"--cache": "ram", "--track": "small-objects"}  # options whose value may be omitted, and its default
AUTO = "auto"  # --conf: each class's own, as stored in the weights; --tile: at the scale of training
SMALLEST = 32  # pixels, one cell of the deepest feature map


def respell(arguments: list[str]) -> list[str]:
    """Return the command-line arguments in the form that Typer reads."""
    spelt: list[str] = []
    reading = False  # whether the last argument is a number that belongs to an option in SEVERAL
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
    """Parse an image size in pixels: ``640``, or height and width as ``512,640``."""
    sides = _whole_numbers(text)
    if not 1 <= len(sides) <= 2 or min(sides) < SMALLEST:
        raise typer.BadParameter(f"'{text}' is not a number of pixels, or height and width, of at least {SMALLEST}")
    return sides[0] if len(sides) == 1 else sides


def layers(text: str) -> int | list[int]:
    """Parse which layers to freeze: a number of first layers, ``10``, or layer numbers, ``0,1,2``."""
    numbers = _whole_numbers(text)
    if not numbers:
        raise typer.BadParameter(f"'{text}' is not a number of layers, or several layer numbers")
    return numbers[0] if len(numbers) == 1 else numbers


def checkpoint(text: str) -> str | bool:
    """Parse the name of a checkpoint; return False for none, which is written as an empty text or ``False``."""
    return False if text.lower() in ("", "false") else text


def confidence(text: str) -> float | str:
    """Parse a confidence: a number from 0 to 1, or ``auto``."""
    try:
        value = AUTO if text == AUTO else float(text)
    except ValueError:
        value = -1.0
    if value != AUTO and not 0 <= value <= 1:
        raise typer.BadParameter(f"'{text}' is not a number from 0 to 1, or {AUTO}")
    return value


def tile(text: str) -> int | str:
    """Parse a tile size: a number of pixels, or ``auto``."""
    if text != AUTO and not text.isdecimal():
        raise typer.BadParameter(f"'{text}' is not a number of pixels, or {AUTO}")
    return AUTO if text == AUTO else int(text)


def _whole_numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.strip("[]").split(",")]
    return [int(part) for part in parts] if all(part.isdecimal() for part in parts) else []
