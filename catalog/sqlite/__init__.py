"""The catalog as one SQLite file.

    catalog            `SqliteCatalog`: opening, transactions, checks; its reads are in
                       `object_reads` and `registry_reads`, on the connection of `reader`
    transaction        `SqliteTransaction`: changes of buckets and objects; its other parts are `uploads`,
                       `registry` (disks, volumes, API keys), `bucket_notes` (what disks have still to write
                       down about buckets) and `upkeep` (jobs, verification, damage, meta), all of them on
                       `bookkeeping`, which keeps sums, garbage and the ownership of needles straight
    disk_removal       its part that forgets a disk which is gone for good
    schema             the tables, and how an older file is brought up to date
    driver             connections, and the store's own errors for what SQLite reports
    file               the file has one owner, is private, and stays in its place
    deletion_stamps    which stamp a new version must exceed where an object was deleted
    recent_tombstones  how long tombstoned needles are remembered
    recount            recounts what is kept incrementally
    cross_check        which needles of a volume the catalog knows, to compare with those that are there

For `rescue/`, which works on files that no master has open:

    bulk_load          `NewCatalog`: a new file, filled in bulk with what was found in the volumes
    bulk               many rows with one statement
    salvage            what a catalog file tells that nothing else does, even if it is damaged
    plausibility       whether the rows of a file can be those of an honest master
"""
