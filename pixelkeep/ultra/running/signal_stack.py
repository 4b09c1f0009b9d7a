"""The stack that signal handlers run on, restored after a library has replaced it."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator


class SignalStack(ctypes.Structure):
    """``stack_t`` of Linux: address, flags and size in bytes of a thread's alternate signal stack."""

    _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def signal_stack() -> SignalStack:
    """Return this thread's alternate signal stack, on Linux only."""
    stack = SignalStack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    return stack


@contextlib.contextmanager
def signal_stack_kept() -> Iterator[None]:
    """Restore this thread's alternate signal stack at the end of the context.

    OpenVINO replaces the stack whenever a core loads its CPU plugin, and restores the stack that it found when that
    core is freed. If two cores are freed in the order in which they were created, the second restores the stack of the
    first, which no longer exists. The next signal, such as that of Ctrl-C, or the end of the process then causes a
    segmentation fault. If the original stack is restored at once, the stack in place is no longer the core's own, and
    the core leaves it alone when it is freed.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    before = signal_stack()
    try:
        yield
    finally:
        ctypes.CDLL(None).sigaltstack(ctypes.byref(before), None)
