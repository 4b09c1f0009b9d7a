"""Image sizes between the squares: height and width grow in turns, by one stride at a time.

From 640 to 672 pixels a side is ten percent of the compute, from 640x640 to 640x672 five.
"""

from __future__ import annotations

import math

Size = tuple[int, int]  # height, width in pixels


def as_size(imgsz: int | list[int] | tuple[int, int]) -> Size:
    """Return height and width.

    >>> as_size(640), as_size([480, 640])
    ((640, 640), (480, 640))
    """
    return (imgsz, imgsz) if isinstance(imgsz, int) else (imgsz[0], imgsz[1])


def rounded(size: Size, stride: int) -> Size:
    """Return the size that a network of this stride really takes: rounded up.

    >>> rounded((100, 640), 32)
    (128, 640)
    """
    return tuple(max(1, math.ceil(side / stride)) * stride for side in size)


def size_steps(base: Size, stride: int, most: float, *, wide: bool) -> list[Size]:
    """Return the sizes of the base's shape, from the smallest to ``most`` times its area, each larger by one side.

    Args:
        base: Height and width, multiples of the stride.
        stride: Of the network.
        most: Times the area.
        wide: Whether the width grows first where both are due: as most images are wide, or high.
    """
    sides = range(1, math.ceil(math.sqrt(most) * max(base) / stride) + 2)
    # a side of m strides is due at the growth m * stride / base; both together for a square
    first, second = (1, 0) if wide else (0, 1)
    rises = sorted((m * stride / base[axis], axis != first, axis) for m in sides for axis in (first, second))
    size, steps = [0, 0], []
    for *_, axis in rises:
        size[axis] += stride
        if all(size) and math.prod(size) <= most * math.prod(base):
            steps.append((size[0], size[1]))
    return steps
