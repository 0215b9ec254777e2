"""Writing: the parts that write to an open volume.  Each has one subject; all share one `VolumeState`.

    state       what the parts share: the files, the counters, the tail, and the locks that guard them
    file_check  are the open files still there, and as long as what was written to them?
    syncing     making it last: syncs and checkpoints
    appending   whole needles and other records at the tail, and taking back what a failed write has left
    extents     needles that arrive piece by piece
    marks       deletions, later stamps, and buckets
    handover    what the switch to the next generation asks of the present one

Each part calls parts above it in this list, and none below.  `Volume` puts them together for an actor,
`NextGeneration` for a compaction.
"""
