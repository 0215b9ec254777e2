"""Sync: the library for programs without an event loop; see docs/library.md."""

from warehouse.client.faces.sync import (
    Bucket,
    DirectUpload,
    ObjectStream,
    Pages,
    Results,
    Store,
    connect,
    fail_after,
)

__all__ = ["Bucket", "DirectUpload", "ObjectStream", "Pages", "Results", "Store", "connect", "fail_after"]
