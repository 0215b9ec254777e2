"""Make the golden files: what release 0.1.0 wrote, for the tests of every later release to read.

    git worktree add /tmp/warehouse-0.1.0 0626ad2
    python tests/golden/make.py /tmp/warehouse-0.1.0 [--into DIR]

The source of that checkout does everything. Its modules have the names that they had then (`client`, `auth`,
...), so they are imported by name, and a renaming in today's source leaves this script alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sqlite3
import sys
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import partial
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

SETTINGS = """
[store]
chunk_size = "4KiB"
volume_size = "4MiB"
disk_reserve = 0
upload_expires_s = "30d"
[compaction]
automatic = "off"
[verification]
automatic = "off"
"""
DISKS = 2
NOW_S = 1_800_000_000  # when the tokens are valid


def content_of(name: str, size: int) -> bytes:
    return Random(name).randbytes(size)


# --- the data folder --------------------------------------------------------------------------------


async def fill(warehouse: Any) -> None:
    """Everything that a put, a delete or an upload leaves behind, before the compaction."""
    for name in ("photos", "films", "empty", "gone"):
        await warehouse.create_bucket(name)
    photos, films = warehouse.bucket("photos"), warehouse.bucket("films")
    for number in range(24):
        await photos.put(f"{number % 3}/{number}.jpg", content_of(f"first {number}", 100 + 90 * number))
    for number in range(0, 24, 3):
        await photos.put(f"{number % 3}/{number}.jpg", content_of(f"second {number}", 700))
    for number in range(0, 24, 4):
        assert await photos.delete(f"{number % 3}/{number}.jpg")
    await photos.put("nothing", b"")
    await photos.put("été/schön 雪.txt", b"snow", content_type="text/plain; charset=utf-8")
    await photos.put(
        "named", b"with metadata", content_type="text/plain", metadata={"farbe": "grün", "n": "1"}
    )
    async for result in photos.put_many(
        (f"many/{number}", content_of(f"many {number}", 60)) for number in range(10)
    ):
        assert result.error is None
    await films.put("long", content_of("long", 18_000), content_type="video/mp4", metadata={"title": "Long"})
    await films.put("replaced", content_of("replaced", 9_000))
    await films.put("replaced", b"short")
    await films.put("grown", b"short")
    await films.put("grown", content_of("grown", 10_000))
    await films.put("deleted", content_of("deleted", 9_000))
    assert await films.delete("deleted")
    await warehouse.bucket("gone").put("inside", b"x")
    await warehouse.delete_bucket("gone", force=True)


async def go_on(warehouse: Any) -> None:
    """The same in volumes that have been compacted."""
    photos, films = warehouse.bucket("photos"), warehouse.bucket("films")
    for number in range(6):
        await photos.put(
            f"late/{number}", content_of(f"late {number}", 300), metadata={"number": str(number)}
        )
    await photos.put("late/0", b"overwritten after the compaction")
    assert await photos.delete("late/1")
    assert await photos.delete("1/1.jpg")
    await films.put("late", content_of("late", 9_500))


async def leave_an_upload(warehouse: Any) -> None:
    """Begin an upload, send one of its three chunks, and never finish it."""
    messages, sources, uploads = map(
        import_module, ("transport.messages", "client.sources", "client.uploads")
    )
    session = warehouse._session
    begun = await session.control.ask(
        messages.BeginUpload(bucket="films", key="unfinished", byte_count=3 * 4096), messages.UploadBegun
    )
    upload = uploads.Upload(begun, "films/unfinished", session.control, session.write_pool, None)
    wanted = messages.SlotWanted(chunk_index=0, size=4096)
    source = sources.MemorySource(memoryview(content_of("unfinished", 4096)))
    await upload.send(wanted, partial(source.open, 0, 4096))


async def settled(data: Path) -> None:
    """Wait until the volumes have all that the catalog had to tell them: tombstones and buckets."""
    trio = import_module("trio")
    with trio.fail_after(20), closing(sqlite3.connect(data / "master" / "catalog.sqlite3")) as catalog:
        waiting = "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM bucket_notes)"
        while catalog.execute(waiting).fetchone()[0]:
            await trio.sleep(0.05)


async def contents(warehouse: Any) -> dict[str, Any]:
    """What the store has, as it says so itself."""
    found: dict[str, Any] = {}
    for bucket in await warehouse.buckets():
        objects = []
        async for entry in warehouse.bucket(bucket.name).list():
            data = await warehouse.bucket(bucket.name).get(entry.key)
            info = await warehouse.bucket(bucket.name).stat(entry.key)
            objects.append(
                {
                    "key": info.key,
                    "size": info.size,
                    "sha256": hashlib.sha256(data).hexdigest(),
                    "etag": info.etag,
                    "created_ms": info.created_ms,
                    "content_type": info.content_type,
                    "metadata": info.metadata,
                    "chunk_count": info.chunk_count,
                }
            )
        found[bucket.name] = {"created_ms": bucket.created_ms, "objects": objects}
    return found


async def make_contents(data: Path, profile: Path) -> dict[str, Any]:
    client = import_module("client")
    async with client.connect(profile) as warehouse:
        await fill(warehouse)
        await settled(data)
        jobs = await warehouse.wait_jobs(await warehouse.compact([1]))
        assert {job.state for job in jobs} == {"done"}, jobs
        await go_on(warehouse)
        await leave_an_upload(warehouse)
        await settled(data)
        status = await warehouse.status()
        generations = {
            str(volume.report.volume_id): volume.report.generation
            for disk in status.disks
            for volume in disk.volumes
        }
        assert generations == {"1": 2, "2": 1}, "one volume is compacted, the other is as it grew"
        return {"settings": SETTINGS, "generations": generations, "buckets": await contents(warehouse)}


def make_data(into: Path) -> None:
    harness, trio = import_module("harness"), import_module("trio")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data_0_1"
        with harness.RunningStore(data, volumes=DISKS, config=SETTINGS) as store:
            expected = trio.run(make_contents, data, store.profile)
        with tarfile.open(into / "data_0_1.tar.xz", "w:xz", preset=9) as archive:
            archive.add(data, data.name, filter=without_owner)
    write_json(into / "data_0_1.json", expected)


def without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


# --- tokens -----------------------------------------------------------------------------------------

DISK = "0123456789abcdef0123456789abcdef"
DATA_CLAIMS: dict[str, dict[str, Any]] = {
    "lease": {"op": "put", "vol": 7, "bid": 3, "bkt": "photos", "lo": 10, "hi": 19, "max": 4096, "room": 40960, "lid": 5},
    "chunk": {"op": "put", "vol": 7, "bid": 3, "bkt": "films", "lo": 21, "hi": 21, "key": "long", "len": 4096}
    | {"up": 9, "idx": 2, "cnt": None, "osz": 18000, "lid": 6},
    "presigned put": {"op": "put", "vol": 1, "bid": 3, "bkt": "photos", "lo": 4, "hi": 4, "key": "été/1", "max": 100}
    | {"ct": "text/plain", "meta": {"farbe": "grün"}},
    "read grant": {"op": "get", "vol": 7, "bid": 3, "bkt": "photos"},
    "presigned get": {"op": "get", "vol": 1, "bid": 3, "bkt": "films", "lo": 4, "hi": 4, "etag": "1-4-0000abcd"}
    | {"parts": [[1, 4, 4096, "http://127.0.0.1:7410", "a.b.c"], [2, 5, 10, "http://127.0.0.1:7411", "d.e.f"]]},
}  # fmt: skip
ACCESS_CLAIMS: dict[str, dict[str, Any]] = {
    "everything": {"sub": "WHROOT", "perms": 255, "buckets": None, "epoch": 0},
    "some buckets": {"sub": "WHSOME", "perms": 11, "buckets": {"photos": "rw", "films": "r"}, "epoch": 12},
}


def make_tokens(into: Path) -> None:
    tokens, msgspec = import_module("auth.tokens"), import_module("msgspec")
    ed25519 = import_module("cryptography.hazmat.primitives.asymmetric.ed25519")
    serialization = import_module("cryptography.hazmat.primitives.serialization")
    key = bytes(range(32))
    pem = ed25519.Ed25519PrivateKey.from_private_bytes(key[::-1]).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    signer = tokens.AccessSigner(pem)

    def signed(
        claims: dict[str, dict[str, Any]], kind: type, sign: Callable[[Any], str], **common: Any
    ) -> list[dict[str, Any]]:
        whole = {name: {**one, **common} for name, one in claims.items()}
        return [
            {"name": name, "claims": one, "token": sign(msgspec.convert(one, kind))}
            for name, one in whole.items()
        ]

    sign_data = partial(tokens.sign_data_token, key_id="k1", key=key)
    data = signed(DATA_CLAIMS, tokens.DataClaims, sign_data, aud=DISK, exp=NOW_S + 60)
    access = signed(ACCESS_CLAIMS, tokens.AccessClaims, signer.sign, exp=NOW_S + 3600)
    content = {
        "now_s": NOW_S,
        "data": {"key_id": "k1", "key_hex": key.hex(), "disk_id": DISK, "tokens": data},
        "access": {"private_key": pem.decode(), "key_id": signer.key_id, "tokens": access},
    }
    write_json(into / "tokens_0_1.json", content)


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout", type=Path, help="of release 0.1.0")
    parser.add_argument(
        "--into", type=Path, default=Path(__file__).parent, help="default: where this script is"
    )
    arguments = parser.parse_args()
    checkout, into = arguments.checkout.resolve(), arguments.into.resolve()
    sys.path[:0] = [str(checkout), str(checkout / "tests" / "cluster")]
    os.chdir(checkout)  # the folder that `python -m actors.cluster` looks into first
    make_tokens(into)
    make_data(into)


if __name__ == "__main__":
    main()
