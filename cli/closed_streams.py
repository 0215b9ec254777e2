"""Standard streams that are closed: found at the start, before anything else gets their numbers.

`warehouse cp - wh://b/x <&-` starts without a standard input.  The next file or socket that is opened would
be number 0, and would be read in its place; number 1 would be written to.  So whatever is closed is filled
with the null device at once, and who needs it is told.
"""

from __future__ import annotations

import os
import sys

from warehouse.cli.usage import UsageError

_NAMES = ("standard input", "standard output", "standard error")
_closed: set[int] = set()


def hold() -> None:
    """Fill the numbers of standard streams that are closed; called once, first of all."""
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
