"""Closed standard streams: detected at the start, before anything else gets their numbers.

`warehouse cp - wh://b/x <&-` starts without a standard input.  The next file or socket would get number 0 and
would be read in its place; number 1 would be written to.  So the null device takes the number of each closed
stream at once, and a command that needs the stream refuses to run.
"""

from __future__ import annotations

import os
import sys

from warehouse.cli.usage import UsageError

_NAMES = ("standard input", "standard output", "standard error")
_closed: set[int] = set()


def hold() -> None:
    """Open the null device in place of closed standard streams; called once, before anything else."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
            _closed.add(number)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  # as long as the process lives
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def require_open(number: int) -> None:
    """Raises UsageError: that stream is closed."""
    if number in _closed:
        raise UsageError(f"{_NAMES[number]} is closed")
