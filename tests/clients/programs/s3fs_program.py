"""s3fs, which pandas and dask use."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from client_program import World, command, run

MIB = 1024 * 1024


def connect(world: World, **options: Any) -> Any:
    return import_module("s3fs").S3FileSystem(
        key=world.key_id,
        secret=world.secret,
        endpoint_url=world.url,
        client_kwargs={"region_name": world.region},
        config_kwargs={"s3": {"addressing_style": "path"}},
        skip_instance_cache=True,
        use_listings_cache=False,
        **options,
    )


@command("ls, walk, glob, find, exists, info")
def looking(world: World) -> None:
    fs, root = connect(world), world.bucket
    for key in ("a/1.txt", "a/b/2.txt", "c é.bin"):
        fs.pipe(f"{root}/{key}", key.encode())
    assert sorted(fs.ls(root, detail=False)) == [f"{root}/a", f"{root}/c é.bin"]
    assert sorted(fs.find(root)) == [f"{root}/a/1.txt", f"{root}/a/b/2.txt", f"{root}/c é.bin"]
    assert sorted(fs.glob(f"{root}/**/*.txt")) == [f"{root}/a/1.txt", f"{root}/a/b/2.txt"]
    assert [(place, sorted(folders), sorted(files)) for place, folders, files in fs.walk(root)] == [
        (root, ["a"], ["c é.bin"]),
        (f"{root}/a", ["b"], ["1.txt"]),
        (f"{root}/a/b", [], ["2.txt"]),
    ]
    assert fs.exists(f"{root}/a/1.txt")
    assert not fs.exists(f"{root}/none")
    assert fs.info(f"{root}/a/b/2.txt")["size"] == 9


@command("put, get, cat, cat_ranges, cp, mv, rm")
def moving(world: World) -> None:
    fs, root = connect(world), world.bucket
    path, data = world.file("up/a", 400_000)
    fs.put(str(path.parent), f"{root}/up", recursive=True)
    fs.cp(f"{root}/up/a", f"{root}/copy")
    fs.mv(f"{root}/copy", f"{root}/moved é")
    assert fs.cat(f"{root}/moved é") == data
    assert fs.cat_ranges([f"{root}/up/a"] * 2, [0, 1000], [10, 2000]) == [data[:10], data[1000:2000]]
    fs.get(f"{root}/up", str(world.folder / "down"), recursive=True)
    assert (world.folder / "down" / "a").read_bytes() == data
    fs.rm(root + "/up", recursive=True)
    assert fs.find(root) == [f"{root}/moved é"]


@command("open for writing and reading, with block cache")
def blocks(world: World) -> None:
    fs, data = connect(world), os.urandom(3 * MIB)
    with fs.open(f"{world.bucket}/k", "wb") as file:
        file.write(data)
    with fs.open(f"{world.bucket}/k", "rb", block_size=200_000, cache_type="blockcache") as file:
        for at, length in ((0, 10), (1_000_000, 300_000), (len(data) - 5, 100)):
            file.seek(at)
            assert file.read(length) == data[at : at + length]


@command("object_version_info (version_aware)")
def versions(world: World) -> None:
    fs = connect(world, version_aware=True)
    fs.pipe(f"{world.bucket}/k", b"x")
    found = fs.object_version_info(f"{world.bucket}/k")
    assert [(one["Key"], one["IsLatest"]) for one in found] == [("k", True)]
    assert fs.cat(f"{world.bucket}/k") == b"x"


if __name__ == "__main__":
    run(globals())
