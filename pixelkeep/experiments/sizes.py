"""Image sizes in steps finer than squares: height and width grow in turns, by one stride at a time.

From 640x640 to 672x672 pixels the compute grows by ten percent, from 640x640 to 640x672 by five.
"""

from __future__ import annotations

import math

Size = tuple[int, int]  # height, width in pixels


def as_size(imgsz: int | list[int] | tuple[int, int]) -> Size:
    """Return an image size as height and width.

    >>> as_size(640), as_size([480, 640])
    ((640, 640), (480, 640))
    """
    return (imgsz, imgsz) if isinstance(imgsz, int) else (imgsz[0], imgsz[1])


def rounded(size: Size, stride: int) -> Size:
    """Return the size with both sides rounded up to multiples of the stride, as the network really takes it.

    >>> rounded((100, 640), 32)
    (128, 640)
    """
    return tuple(max(1, math.ceil(side / stride)) * stride for side in size)


def size_steps(base: Size, stride: int, most: float, *, wide: bool) -> list[Size]:
    """Return the sizes of the base's shape, from the smallest to ``most`` times its area, each larger by one side.

    Args:
        base: Height and width of the base in pixels, multiples of the stride.
        stride: Stride of the network.
        most: Largest area as a multiple of the base's area.
        wide: Whether the width grows first if both sides are due, as it should if most images are wide.
    """
    sides = range(1, math.ceil(math.sqrt(most) * max(base) / stride) + 2)
    # A side reaches m strides at the growth m * stride / base. For a square, both sides do so together.
    first, second = (1, 0) if wide else (0, 1)
    rises = sorted((m * stride / base[axis], axis != first, axis) for m in sides for axis in (first, second))
    size, steps = [0, 0], []
    for *_, axis in rises:
        size[axis] += stride
        if all(size) and math.prod(size) <= most * math.prod(base):
            steps.append((size[0], size[1]))
    return steps
