"""Warehouse: what a program imports to use an object store.

    import warehouse
    from warehouse.errors import BucketExists

    async with warehouse.connect() as store:
        await store.bucket("photos").put("cat.jpg", Path("cat.jpg"))

`PUBLIC`, `warehouse.errors` and, for programs without Trio, `warehouse.sync` and `warehouse.aio` are the
whole public face; everything else may change in any version.  A name
is loaded when it is first used (PEP 562), so `import warehouse` costs nothing and loads neither Trio nor
ZeroMQ.

The other names in this folder are links to the rooms at the top of the repository.
"""

# This import comes first: the next ones must not load from the working folder.
from warehouse import working_folder as _working_folder  # noqa: F401, I001

from importlib import import_module

from warehouse.loading import load

TYPE_CHECKING = False  # type checkers take this for True; importing `typing` would cost milliseconds
if TYPE_CHECKING:
    from warehouse import aio as aio
    from warehouse import errors as errors
    from warehouse import sync as sync
    from warehouse.client.bucket import Bucket
    from warehouse.client.changes import BucketChange, StoreChange
    from warehouse.client.finding import FoundPage
    from warehouse.client.identities import NewKey
    from warehouse.client.listing import Prefix
    from warehouse.client.reading.get_many import GetResult
    from warehouse.client.reading.streams import ObjectStream
    from warehouse.client.store import Store, connect
    from warehouse.client.writing.direct_uploads import DirectUpload, UploadSlot
    from warehouse.client.writing.put_many import Put, PutResult
    from warehouse.conf.profile import Profile
    from warehouse.transport.messages import (
        AccountInfo,
        AuditEntry,
        BucketInfo,
        BucketPoint,
        DiskFigures,
        Event,
        Figures,
        HistoryPoint,
        Job,
        KeyGrant,
        KeyInfo,
        KeyLimits,
        ObjectInfo,
        ObjectWritten,
        Rates,
        Status,
    )

    __version__: str

__all__ = [
    "AccountInfo",
    "AuditEntry",
    "Bucket",
    "BucketChange",
    "BucketInfo",
    "BucketPoint",
    "DirectUpload",
    "DiskFigures",
    "Event",
    "Figures",
    "FoundPage",
    "GetResult",
    "HistoryPoint",
    "Job",
    "KeyGrant",
    "KeyInfo",
    "KeyLimits",
    "NewKey",
    "ObjectInfo",
    "ObjectStream",
    "ObjectWritten",
    "Prefix",
    "Profile",
    "Put",
    "PutResult",
    "Rates",
    "Status",
    "Store",
    "StoreChange",
    "UploadSlot",
    "connect",
]

PUBLIC = {  # name: the module that defines it
    "AccountInfo": "warehouse.transport.messages.identities",
    "AuditEntry": "warehouse.transport.messages.audit",
    "Bucket": "warehouse.client.bucket",
    "BucketChange": "warehouse.client.changes",
    "BucketInfo": "warehouse.transport.messages.objects",
    "BucketPoint": "warehouse.transport.messages.figures",
    "DirectUpload": "warehouse.client.writing.direct_uploads",
    "DiskFigures": "warehouse.transport.messages.figures",
    "Event": "warehouse.transport.messages.status",
    "Figures": "warehouse.transport.messages.figures",
    "FoundPage": "warehouse.client.finding",
    "GetResult": "warehouse.client.reading.get_many",
    "HistoryPoint": "warehouse.transport.messages.figures",
    "Job": "warehouse.transport.messages.jobs",
    "KeyGrant": "warehouse.transport.messages.identities",
    "KeyInfo": "warehouse.transport.messages.identities",
    "KeyLimits": "warehouse.transport.messages.identities",
    "NewKey": "warehouse.client.identities",
    "ObjectInfo": "warehouse.transport.messages.objects",
    "ObjectStream": "warehouse.client.reading.streams",
    "ObjectWritten": "warehouse.transport.messages.objects",
    "Prefix": "warehouse.client.listing",
    "Profile": "warehouse.conf.profile",
    "Put": "warehouse.client.writing.put_many",
    "PutResult": "warehouse.client.writing.put_many",
    "Rates": "warehouse.transport.messages.figures",
    "Status": "warehouse.transport.messages.status",
    "Store": "warehouse.client.store",
    "StoreChange": "warehouse.client.changes",
    "UploadSlot": "warehouse.client.writing.direct_uploads",
    "connect": "warehouse.client.store",
}


if not TYPE_CHECKING:  # to a type checker, a name that is not listed above is a mistake

    def __getattr__(name: str) -> object:
        if name in ("aio", "errors", "sync"):
            return import_module(f"warehouse.{name}")
        if name == "__version__":
            return import_module("warehouse.version").package_version()
        if name not in PUBLIC:
            raise AttributeError(f"module 'warehouse' has no attribute {name!r}")
        value = getattr(load(PUBLIC[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(
        {
            *__all__,
            "aio",
            "errors",
            "sync",
            "__version__",
            *(name for name in globals() if name.startswith("__")),
        }
    )
