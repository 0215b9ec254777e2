"""Client: what does a user write?

The async library (`store.py`) and the command line (`cli.py`) over it.

    leases.py, headers.py     rules, pure
    control.py                the conversation with the master
    puts.py, uploads.py       small puts; large ones, in chunks
    shared_puts.py            small puts of one moment, in one request
    locator.py                from keys to places, and to small objects that are read at one moment
    reads.py                  from a key to verified bytes
    batches.py, batch_reads.py   many small objects in few requests; flows.py keeps their order
    transfers.py, copies.py, lanes.py   copies of files and folders, for the command line
    syncing.py, walks.py      what has changed between two folders
    maintenance.py            compactions, verifications, events
    sources.py, files.py, leftovers.py   where uploads come from, where downloads go, what killed ones left
    tasks.py                  nurseries whose errors leave plain
"""
