"""Working folder: our programs import nothing from the folder in which they are run.

`python -m` puts that folder first on the path, so a project's `trio.py` would be loaded in place of the
library.  The folder stays on the path only if our own package was found there, in a checkout.  An empty entry
of `PYTHONPATH` means the same folder; it comes from `PYTHONPATH=$PYTHONPATH:more`, and nobody means it.

The package imports this module first.  It imports only modules that Python has already loaded.  For a program
that uses us as a library, the path does not change.
"""

import os
import sys

PROGRAMS = ("warehouse", "actors", "bench")  # packages whose modules `python -m` may run


def _leave_out() -> None:
    try:
        here = os.getcwd()
    except OSError:
        return  # it was deleted, so nothing is in it
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    words = sys.orig_argv
    module = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
    is_module = sys.argv[:1] == ["-m"] and _is_ours(module.partition(".")[0], home)
    script = os.path.abspath(sys.argv[0]) if sys.argv[:1] and not is_module else ""
    is_script = os.path.basename(script) in ("warehouse", "warehouse.exe") and os.path.dirname(script) != here
    if here == home or not (is_module or is_script):
        return
    if is_module and not sys.flags.safe_path and here in sys.path:
        sys.path.remove(here)  # the first one, which -m has added
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    is_named = any(os.path.abspath(entry) == here for entry in entries if entry)
    if "" in entries and not is_named and here in sys.path:
        sys.path.remove(here)


def _is_ours(package: str, home: str) -> bool:
    """Not the `bench` or the `actors` of a project that imports us."""
    file = getattr(sys.modules.get(package), "__file__", None)
    return package in PROGRAMS and file is not None and os.path.abspath(file).startswith(home + os.sep)


_leave_out()
