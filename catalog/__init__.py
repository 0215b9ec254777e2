"""Catalog: what exists, and where?

One SQLite file says which buckets, objects, uploads, disks, volumes and API keys there are, and which
needles are garbage that waits for its tombstone.

    names       what buckets, keys and user metadata may be called
    schema      the tables, and how an older file is brought up to date
    driver      connections, and the names of what can go wrong with them
    rows        what queries answer
    store       `Catalog`: the file, its reads, and the door to its transactions
    changes     `Transaction`: everything that changes buckets and objects; `uploads`, `registry`,
                `notes` and `upkeep` are the parts of it that deal with uploads, with disks, volumes and
                API keys, with what disks write down about buckets, and with jobs and damages
    deletion_stamps  which stamps a new version must exceed where an object was deleted
    check       recounts what is kept incrementally
    cross_check which needles of a volume the catalog knows, to compare with those that are there
    rebuilding  `NewCatalog`: a new file, filled in bulk with what was found in the volumes
    salvage     what a catalog file tells that nothing else does, read even if it is damaged
    placement   which volumes take the next bytes
    writer      `CatalogWriter`: many requests, one transaction; the only file here that knows Trio

The rule that everything else serves: every needle that was ever reported is named by exactly one object
or upload, or waits in the outbox, or is remembered as tombstoned.  None is lost, none has two owners.
"""
