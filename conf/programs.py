"""Programs: how one program of ours starts another one.  Every start of a module goes through here.

`python -m NAME` puts the working folder first on Python's path.  A user's project may hold a `conf.py`, and
a folder that others can write may hold anything: neither is ours to run.  So modules are started with `-P`
(the working folder stays off the path), and their environment says the same to whatever they start.

`PYTHONPATH` counts as before, because a checkout is run through it.  Its empty entries are left out: Python
takes them for the working folder, and they come from `PYTHONPATH=$PYTHONPATH:more`, not from a wish.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence


def module_command(module: str, *arguments: str, title: str | None = None) -> list[str]:
    """The words that run a module in a process of its own.

    Args:
        module: as after `python -m`.
        title: words that the process list shows and Python ignores, so that `pgrep -f TITLE` finds it.
    """
    shown: Sequence[str] = () if title is None else ("-X", title)
    return [sys.executable, *shown, "-P", "-m", module, *arguments]


def module_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment that goes with `module_command`."""
    kept = dict(os.environ if environ is None else environ)
    kept["PYTHONSAFEPATH"] = "1"
    if "PYTHONPATH" in kept:
        entries = [entry for entry in kept["PYTHONPATH"].split(os.pathsep) if entry]
        kept["PYTHONPATH"] = os.pathsep.join(entries)
    return kept
