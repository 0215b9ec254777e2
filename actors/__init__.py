"""Actors: who owns what, and decides?

Each actor is one process and one Trio event loop, a thin shell over the rooms below.  `master` owns the
catalog, `volume` owns one disk, `cluster` owns the processes of one machine.
"""
