"""Programs: how one program of ours starts another one.  Every start of a module goes through here.

`python -m NAME` puts the working folder first on Python's path.  A user's project may hold a `conf.py`, and
a folder that others can write may hold anything: neither is ours to run.  So modules are started with `-P`
(the working folder stays off the path), and their environment says the same to whatever they start.

`PYTHONPATH` counts as before.  Its empty entries are left out: Python takes them for the working folder, and
they come from `PYTHONPATH=$PYTHONPATH:more`, not from a wish.  A checkout is put in front of it: nothing else
says where the package is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

import warehouse

PACKAGE = os.path.dirname(os.path.abspath(warehouse.__file__))  # its rooms are links in a checkout only


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
    entries = [entry for entry in kept.pop("PYTHONPATH", "").split(os.pathsep) if entry]
    home = os.path.dirname(PACKAGE)
    if os.path.islink(os.path.join(PACKAGE, "actors")) and home not in entries:
        entries.insert(0, home)
    if entries:
        kept["PYTHONPATH"] = os.pathsep.join(entries)
    return kept
