"""Actors: who owns what, and decides?

Each actor is one process and one Trio event loop, a thin shell over the rooms below.  `master` owns the
catalog, `volume` owns one disk, `compactor` copies and verifies its volumes in the background, `cluster` owns
the processes of one machine.  What they do is in `control/`, `data/` and `background/`.
"""

if __name__ == "actors":  # `python -m actors.master` in a checkout; elsewhere the name is warehouse.actors
    import os
    import sys

    # From our own folder: what follows must not come from the working folder.
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    import warehouse  # noqa: F401

    sys.path.pop(0)
