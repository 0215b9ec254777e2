"""How do bytes live on a disk?  Volumes of needles that survive what crashes and years do to them.

No trio, no sockets: blocking calls, files reached through `disk.Disk` alone.  Start with `volume`: it says
what each call promises.  From the bottom up:

    disk, beneath      the door to the file system; files below a folder, and no link
    kernel_sync        fdatasync that the kernel runs asynchronously
    identity, epoch    whose directory it is, and its lock; whether disk and catalog have seen the same
    presence           are the files that are written to still those that the next start will find?
    format/            needle      one record, to the byte      superblock   what a volume is; manifest
                       stamp       the order of versions        crc_combine  the CRC of two parts joined
    index, voids       where needles are, on file; ids that are gone for good
    entries            the same, with what is not durable yet
    scan               all records of a file, in whatever state
    recovery           after a crash: is the end of a file torn, or is it damage?
    files, opening     which files a volume has; from what a crash has left to what is true
    extent, reader     a needle that arrives in pieces; a part of a needle, checked
    generation         the open files of one generation, and all that reads them
    writing/           what writes to an open volume: appending, extents, marks, syncing
    volume             all of it together
    compaction/        the next generation, the switch to it, and the scrub

The format to the byte is in docs/format.md.
"""
