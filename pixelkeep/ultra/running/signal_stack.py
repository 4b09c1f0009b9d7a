"""The stack that signal handlers run on, kept as it is where a library exchanges it."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator


class SignalStack(ctypes.Structure):
    """``stack_t`` of Linux: where a thread's alternate signal stack is, if it has one, and its bytes."""

    _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def signal_stack() -> SignalStack:
    """Return this thread's alternate signal stack; Linux alone."""
    stack = SignalStack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    return stack


@contextlib.contextmanager
def signal_stack_kept() -> Iterator[None]:
    """Give this thread its alternate signal stack back at the end.

    OpenVINO exchanges it whenever a core loads its CPU plugin, and puts back what it found when that core is freed. Of
    two cores, freed in the order they came in, the second puts back the first one's stack, which is no more: the next
    signal, a Ctrl-C say, or a process that ends, is a segmentation fault. Put back at once, the stack is not the core's
    any more, and it leaves it alone.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    before = signal_stack()
    try:
        yield
    finally:
        ctypes.CDLL(None).sigaltstack(ctypes.byref(before), None)
