"""Checks of constructor arguments that several blocks share."""

from __future__ import annotations


def odd_kernel(block: str, kernel_size: int) -> int:
    """Return ``kernel_size``; raise ValueError unless it is a positive odd integer.

    Only an odd kernel with padding ``kernel_size // 2`` and stride 1 keeps height and width.
    """
    if not isinstance(kernel_size, int) or kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"{block}: kernel_size must be a positive odd integer (1, 3, 5, ...), got {kernel_size!r}")
    return kernel_size
