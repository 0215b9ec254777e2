"""What an object carries from S3 stands on its page, as text, whoever wrote it."""

from __future__ import annotations

import hashlib

import warehouse
from console_http import Visitor
from console_kit import ConsoleStore
from warehouse.transport.messages.attributes import ObjectAttributes, ObjectChecksum

HOSTILE = "<script>alert(1)</script>"


def test_the_page_of_an_object_shows_headers_tags_and_checksum(console: ConsoleStore, root: Visitor) -> None:
    data = b"from s3"
    attributes = ObjectAttributes(
        md5=hashlib.md5(data, usedforsecurity=False).digest(),
        headers={"cache-control": b"no-store", "content-language": b"d\xe9"},
        raw_metadata={"odd": HOSTILE.encode() + b"\xff"},
        tags=(("colour", HOSTILE),),
        checksum=ObjectChecksum("CRC32", False, b"\x01\x02\x03\x04"),
    )

    async def put(store: warehouse.Store) -> None:
        bucket = await store.create_bucket("stored")
        await bucket.put("s3.bin", data, attributes=attributes)
        await bucket.put("own.bin", data)

    console.ask(put)
    text = root.get("/buckets/stored/objects/s3.bin").text
    assert attributes.etag is not None
    shown = ("From S3", "cache-control", "no-store", "d\\xe9", "colour", "CRC32 01020304", attributes.etag)
    assert [one for one in shown if one not in text] == []
    assert HOSTILE not in text
    assert "&lt;script&gt;" in text
    assert "From S3" not in root.get("/buckets/stored/objects/own.bin").text
