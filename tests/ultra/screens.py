"""A fake standard output for tests of what is displayed."""

from __future__ import annotations

import io


class Screen(io.StringIO):
    """Stands in for the standard output of a process, as a terminal or not."""

    def __init__(self, terminal: bool):
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal
