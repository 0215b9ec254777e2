"""Asyncio: the library for programs on asyncio; see docs/library.md."""

from warehouse.client.faces.aio import (
    Bucket,
    DirectUpload,
    ObjectStream,
    Pages,
    Results,
    Store,
    connect,
)

__all__ = ["Bucket", "DirectUpload", "ObjectStream", "Pages", "Results", "Store", "connect"]
