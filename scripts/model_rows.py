"""Operations on the rows of Ultralytics' model definitions, from which derive_models.py derives our variants."""

from __future__ import annotations

from collections.abc import Iterator

Row = list  # [from, repeats, module, arguments]


def is_strided(row: Row) -> bool:
    """Return whether a row is a convolution with stride 2."""
    return row[2] == "Conv" and len(row[3]) > 2 and row[3][2] == 2


def strides(rows: list[Row]) -> Iterator[int]:
    """Yield each row's output stride."""
    seen: list[int] = []
    for source, _, module, _args in rows:
        stride = seen[source[0] if isinstance(source, list) else source] if seen else 1
        if is_strided([source, 1, module, _args]) or module in {"Focus", "SpaceToDepth", "SPDConv", "SliceSamp", "LIP"}:
            stride *= 2
        elif module in {"nn.Upsample", "SliceUpsamp"}:
            stride //= 2
        seen.append(stride)
        yield stride


def renumber(source: int | list[int], last: int, new: int) -> int | list[int]:
    """Return a row's "from" as it is after ``new`` rows have been inserted behind row number ``last``."""
    if isinstance(source, list):
        return [renumber(each, last, new) for each in source]
    return source + new if source > last else source


def with_p2(stock: dict) -> dict:
    """Return the definition with a further level of detection at stride 4, built like the existing levels.

    The rows from P3 up to stride 4 are made like those from P4 up to P3, and the rows back down like those from P3 down
    to P4. They are inserted between the top-down part, which ends with the block of P3, and the bottom-up part.
    """
    backbone, head = stock["backbone"], stock["head"]
    split, width = len(backbone), 128  # channels of stride 4 at scale 1
    levels, *detect = head[-1]
    p3 = levels[0]
    _, repeats, block, args = head[p3 - split]
    shallow = next(number for number, row in enumerate(backbone) if row[2:] == [block, [width]])
    up = [[-1, 1, "Conv", [width, 1, 1]], [-1, 1, "nn.Upsample", ["None", 2, "nearest"]]]
    up += [[[-1, shallow], 1, "Concat", [1]], [-1, repeats, block, [width, *args[1:]]]]
    down = [[-1, 1, "Conv", [width, 3, 2]], [[-1, p3 + 1], 1, "Concat", [1]], [-1, repeats, block, args]]
    new = len(up) + len(down)
    below = [[renumber(source, p3, new), *row] for source, *row in head[p3 + 1 - split : -1]]
    heads = [[p3 + len(up), *(level + new for level in levels)], *detect]
    return stock | {"head": [*head[: p3 + 1 - split], *up, *down, *below, heads]}


def one_level_finer(stock: dict) -> dict:
    """Return the definition with detection at stride 4 and none at stride 32, whose features remain as context.

    At stride 4, stock's head costs about as much as all of yolov5-n. In this head a box is four distances instead of
    four distributions (``reg_max: 1``), and the class branches are depthwise. Ultralytics builds depthwise branches for
    every network with a C3k2, so the block of stride 4 becomes one.
    """
    made = with_p2(stock)
    *rows, (levels, *detect) = made["head"]
    first, last = (level - len(made["backbone"]) for level in (levels[0], levels[-2]))
    source, repeats, _, args = rows[first]
    rows[first] = [source, repeats, "C3k2", args]
    return made | {"reg_max": 1, "head": [*rows[: last + 1], [levels[:-1], *detect]]}
