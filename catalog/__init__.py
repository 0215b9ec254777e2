"""Catalog: what exists, and where?

A catalog says which buckets, objects, uploads, disks, volumes and API keys there are, and which needles are
garbage that waits for its tombstone.

    interface   `Catalog` reads, `Transaction` changes: what every engine promises to the master
    records     what queries answer, as plain values
    names       what buckets, keys and user metadata may be called
    listing     where in the order of keys a page begins, and what hides behind a common prefix
    placement   which volumes take the next bytes
    writer      `CatalogWriter`: many requests, one transaction; the only file here that knows Trio
    sqlite/     the engine: one SQLite file

A second engine is a folder next to `sqlite/` that satisfies `interface`, and one line in
`tests/kits/catalog_kit.py` for the contract test to run on it.
"""
