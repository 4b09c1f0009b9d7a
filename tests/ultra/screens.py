"""A standard output for tests of what is shown."""

from __future__ import annotations

import io


class Screen(io.StringIO):
    """Standard output of a process, on a terminal or not."""

    def __init__(self, terminal: bool):
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal
