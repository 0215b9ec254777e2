"""Programs: how one of our programs starts another.  Every start of a module goes through this file.

`python -m NAME` puts the working folder first on Python's path.  A user's project may have a `conf.py`, and
a folder that others can write may contain anything: we must run neither.  So modules are started with `-P`,
which keeps the working folder off the path, and their environment passes this on to what they start.

`PYTHONPATH` keeps its meaning, without its empty entries: Python takes those for the working folder, and
nobody means them, because they come from `PYTHONPATH=$PYTHONPATH:more`.  A checkout is put first, because
nothing else says where the package is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

import warehouse

PACKAGE = os.path.dirname(os.path.abspath(warehouse.__file__))  # its rooms are links in a checkout only


def module_command(module: str, *arguments: str, title: str | None = None) -> list[str]:
    """The command line that runs a module in its own process.

    Args:
        module: as after `python -m`.
        title: words that the process list shows and Python ignores, so that `pgrep -f TITLE` finds it.
    """
    shown: Sequence[str] = () if title is None else ("-X", title)
    return [sys.executable, *shown, "-P", "-m", module, *arguments]


def module_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a `module_command`."""
    kept = dict(os.environ if environ is None else environ)
    kept["PYTHONSAFEPATH"] = "1"
    entries = [entry for entry in kept.pop("PYTHONPATH", "").split(os.pathsep) if entry]
    home = os.path.dirname(PACKAGE)
    if os.path.islink(os.path.join(PACKAGE, "actors")) and home not in entries:
        entries.insert(0, home)
    if entries:
        kept["PYTHONPATH"] = os.pathsep.join(entries)
    return kept
