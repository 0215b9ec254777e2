"""Rescue: what is left when the catalog is not?

Tools for bad days.  They run while no actor does, except `backup`, which also runs while the master does.
Everything that an object needs is in the volume files, and here is who reads it from there.

    survey       everything on some disks, and what of it counts: start here to use this room
    reading      one volume, read-only, record by record, into the staging
    staging      what was found on the disks, in a temporary SQLite file: memory does not grow with it
    admission    which names and numbers on a disk can be those of an honest store (pure)
    choosing     which versions, uploads and buckets count (pure)

    rebuild      a new catalog from the volumes           `warehouse rebuild`
    export       plain files from the volumes             `warehouse export`
    paths        the file name of an object (pure)
    listing      export.jsonl, one line for each object
    backup       one file with catalog and keys, online   `warehouse backup`
    restore      the way back from it                     `warehouse restore`
    archive      the backup's format: written whole, checked before it is unpacked
    tar_members  the plain files of a tar archive, and nothing else that one can hold
    console      arguments, progress, reports and exit statuses of these commands

Nothing here changes a volume file, and nothing that existed before is deleted: what has to make room is moved
aside, under a name that says when.
"""
