"""Actors: who owns what, and decides?

Each actor is one process and one Trio event loop, a thin shell over the rooms below.  `master` owns the
catalog, `volume` owns one disk, `cluster` owns the processes of one machine.
"""

import os
import sys

# First of all, and from our own folder: what follows must not come from the working folder.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import conf.working_folder  # noqa: F401

sys.path.pop(0)
