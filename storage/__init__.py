"""How do bytes live on a disk?  Volumes of needles that survive what crashes and years do to them.

No trio, no sockets: blocking calls, files reached through `disk.Disk` alone.  From the bottom up:

    stamp       the order of versions
    beneath     files below a folder, and no link  identity    whose directory it is, and its lock
    disk        the door to the file system
    needle      one record, to the byte            superblock  what a volume is; manifest
    index       where needles are, on file         entries     the same, with what is not durable yet
    scan        all records, in whatever state     recovery    torn, or damaged?
    files       which files a volume has           opening     from what a crash left to what is true
    extent      a needle that arrives in pieces    reader      a part of a needle, checked
    volume      all of it together: start here to use this room

The format to the byte is in docs/format.md.
"""
