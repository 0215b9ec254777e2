"""Rescue: what is left when the catalog is not?

Tools for the bad days, run while no actor does: everything that an object needs is in the volume files, and
here is who reads it from there.

    staging    what was found on the disks, in a temporary SQLite file: memory does not grow with it
    reading    one volume, read-only, record by record, into the staging
    choosing   which versions, uploads and buckets count (pure)
    survey     all of the above: start here to use this room
    rebuild    a new catalog from the volumes           `python -m rescue.rebuild`
    export     plain files from the volumes             `python -m rescue.export`
    backup     one file with catalog and keys, online   `python -m rescue.backup`
    restore    the way back from it                     `python -m rescue.restore`

Nothing here changes a volume file, and nothing that was there before is deleted: what has to make room is
moved aside, under a name that says when.
"""

import os
import sys

# First of all, and from our own folder: what follows must not come from the working folder.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import conf.working_folder  # noqa: F401

sys.path.pop(0)
