"""Operations on the rows of Ultralytics' model definitions, of which derive_models.py makes our variants."""

from __future__ import annotations

from collections.abc import Iterator

Row = list  # [from, repeats, module, arguments]


def is_strided(row: Row) -> bool:
    """Whether a row is a convolution of stride 2."""
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
    """Return a "from" after ``new`` rows have been put behind the row numbered ``last``."""
    if isinstance(source, list):
        return [renumber(each, last, new) for each in source]
    return source + new if source > last else source


def with_p2(stock: dict) -> dict:
    """Return the definition with a level of stride 4: up from P3 as up from P4, and down from it as down from P3.

    The new rows stand between the way up, which ends with the block of P3, and the way down from there.
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
    """Return the definition with detection at stride 4 and none at stride 32, whose features stay as context.

    Stock's head costs at stride 4 about what all of yolov5-n does. In this one a box is four distances and no
    distributions of them (``reg_max: 1``), and the class branches are depthwise: Ultralytics builds them so for every
    network that has a C3k2, which the block of stride 4 becomes.
    """
    made = with_p2(stock)
    *rows, (levels, *detect) = made["head"]
    first, last = (level - len(made["backbone"]) for level in (levels[0], levels[-2]))
    source, repeats, _, args = rows[first]
    rows[first] = [source, repeats, "C3k2", args]
    return made | {"reg_max": 1, "head": [*rows[: last + 1], [levels[:-1], *detect]]}
