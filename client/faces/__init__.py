"""Faces: how does a program without Trio use the library?

One implementation runs in a Trio loop of its own, in a thread of a connection.  A face hands calls over.

loop.py             the thread, and calls that it runs for others
exchange.py         many items and results in few calls: `put_many` and `get_many`
sync_methods.py, aio_methods.py   written by generate.py from the classes of the library: one call, one answer
held.py             a block of the library that stays open between calls
sync_link.py, aio_link.py         how callers hand calls over, and wait
sync.py, aio.py     the rest of both faces: iterators, streams, sources
"""
