"""Rescue: what is left when the catalog is not?

Tools for the bad days, run while no actor does: everything that an object needs is in the volume files, and
here is who reads it from there.

    staging    what was found on the disks, in a temporary SQLite file: memory does not grow with it
    reading    one volume, read-only, record by record, into the staging
    choosing   which versions, uploads and buckets count (pure)
    survey     all of the above: start here to use this room
    rebuild    a new catalog from the volumes           `warehouse rebuild`
    export     plain files from the volumes             `warehouse export`
    backup     one file with catalog and keys, online   `warehouse backup`
    restore    the way back from it                     `warehouse restore`

Nothing here changes a volume file, and nothing that was there before is deleted: what has to make room is
moved aside, under a name that says when.
"""
