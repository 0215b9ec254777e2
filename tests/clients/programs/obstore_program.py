"""obstore: the object store of Rust's arrow project, for Python."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from client_program import World, command, run

MIB = 1024 * 1024


def connect(world: World) -> tuple[Any, Any]:
    store = import_module("obstore.store").S3Store(
        world.bucket,
        endpoint=world.url,
        access_key_id=world.key_id,
        secret_access_key=world.secret,
        region=world.region,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    return import_module("obstore"), store


@command("put with mode create and with mode update; get, head, delete")
def modes(world: World) -> None:
    obstore, store = connect(world)
    errors = import_module("obstore.exceptions")
    first, second = os.urandom(100_000), os.urandom(100_000)
    made = obstore.put(store, "a/ü +", first, mode="create")
    try:
        obstore.put(store, "a/ü +", second, mode="create")
    except errors.AlreadyExistsError:
        pass
    else:
        raise AssertionError("made twice")
    stale = {"e_tag": made["e_tag"]}
    obstore.put(store, "a/ü +", second, mode=stale)
    try:
        obstore.put(store, "a/ü +", first, mode=stale)
    except errors.PreconditionError:
        pass
    else:
        raise AssertionError("replaced another one's object")
    assert obstore.get(store, "a/ü +").bytes().to_bytes() == second
    assert obstore.head(store, "a/ü +")["size"] == len(second)
    obstore.delete(store, "a/ü +")
    try:
        obstore.head(store, "a/ü +")
    except FileNotFoundError:
        pass
    else:
        raise AssertionError("still there")


@command("get_range, get_ranges")
def ranges(world: World) -> None:
    obstore, store = connect(world)
    data = os.urandom(3 * MIB)
    obstore.put(store, "k", data, use_multipart=False)
    assert obstore.get_range(store, "k", start=10, end=99).to_bytes() == data[10:99]
    starts = [0, 5000, 2 * MIB]
    found = obstore.get_ranges(store, "k", starts=starts, lengths=[10, 1000, MIB])
    assert [one.to_bytes() for one in found] == [
        data[at : at + length] for at, length in zip(starts, (10, 1000, MIB), strict=True)
    ]


@command("list, list_with_delimiter, delete of many, copy, rename")
def listing(world: World) -> None:
    obstore, store = connect(world)
    keys = sorted(["a/1", "a/2 &", "b/ü", "c"])
    for key in keys:
        obstore.put(store, key, key.encode())
    listed = [one["path"] for page in obstore.list(store, chunk_size=2) for one in page]
    assert listed == keys
    level = obstore.list_with_delimiter(store)
    assert (list(level["common_prefixes"]), [one["path"] for one in level["objects"]]) == (["a", "b"], ["c"])
    obstore.copy(store, "a/2 &", "copy")
    obstore.rename(store, "copy", "renamed")
    assert obstore.get(store, "renamed").bytes().to_bytes() == b"a/2 &"
    obstore.delete(store, [*keys, "renamed"])
    assert [one for page in obstore.list(store) for one in page] == []


@command("put of 12 MiB (multipart)")
def multipart(world: World) -> None:
    obstore, store = connect(world)
    data = os.urandom(12 * MIB)
    obstore.put(store, "large", data, use_multipart=True, chunk_size=5 * MIB)
    assert obstore.get(store, "large").bytes().to_bytes() == data


if __name__ == "__main__":
    run(globals())
