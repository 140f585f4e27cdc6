"""Open files taken away from this process: `gone = NoFiles(); gone(True)` leaves none, `gone(False)` returns them."""

import os
import resource
from contextlib import suppress


class NoFiles:
    """A switch; whoever makes one calls it with False at the end."""

    def __init__(self) -> None:
        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._taken: list[int] = []

    def __call__(self, gone: bool) -> None:
        """Take every file that is left, or give them back."""
        while self._taken:
            os.close(self._taken.pop())
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, self._limits[1]) if gone else self._limits)
        with suppress(OSError):
            while gone:
                self._taken.append(os.dup(0))
