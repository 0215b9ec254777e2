"""Finding and following in a fake store: one page has all that is found, and nothing ever changes."""

from __future__ import annotations

from collections.abc import Mapping

import trio

from warehouse.transport.messages import (
    BucketChanged,
    FindObjects,
    ObjectInfo,
    ObjectsFound,
    StoreChanged,
    WatchBucket,
    WatchStore,
)


def find(objects: Mapping[str, ObjectInfo], request: FindObjects) -> ObjectsFound:
    found, prefixes = list[ObjectInfo](), set[str]()
    for key, info in objects.items():
        rest = key.removeprefix(request.prefix)
        if not key.startswith(request.prefix) or request.contains.lower() not in rest.lower():
            continue
        if request.delimiter and request.delimiter in rest:
            prefixes.add(request.prefix + rest[: rest.index(request.delimiter) + len(request.delimiter)])
        else:
            found.append(info)
    by = {
        "name": lambda info: info.key,
        "size": lambda info: (info.size, info.key),
        "time": lambda info: (info.created_ms, info.key),
    }
    found.sort(key=by[request.order], reverse=request.is_descending)
    return ObjectsFound(
        objects=found[: request.limit],
        prefixes=sorted(prefixes),
        cursor="",
        scanned_count=len(objects),
        is_complete=True,
    )


async def follow(request: WatchBucket | WatchStore) -> BucketChanged | StoreChanged:
    """The first answer comes at once; then nothing changes."""
    kind = BucketChanged if isinstance(request, WatchBucket) else StoreChanged
    if request.after < 0:
        return kind(next_after=1, is_missed=True)
    await trio.sleep(request.wait_s)
    return kind(next_after=1)
