"""Working folder: keeps `python -m client` from importing what lies in the folder where it is run.

`python -m` puts that folder first on the path, where the `conf.py` of a project would take the place of ours.
It stays on the path only when our own package was found there: in a checkout.  Nothing is imported here but
what Python has loaded already.
"""

import os
import sys


def _leave_out() -> None:
    words = sys.orig_argv
    module = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
    is_ours = sys.argv[:1] == ["-m"] and module.partition(".")[0] == __name__.partition(".")[0]
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if is_ours and not sys.flags.safe_path and sys.path[0] != home:
        del sys.path[0]


_leave_out()
