"""What clients of S3 store beside the bytes of an object: ETag, headers, metadata, checksums, tags, owner.

All of it by botocore against a running store.  Each is tried with a small object, which is one needle, and
with one that is cut into chunks and ends with a manifest.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import anycrc
import pytest
import trio
from botocore.exceptions import ClientError

import warehouse
from s3_kit import RunningGateway, root_client, s3_store

MIB = 1024 * 1024
SIZES = [0, 4096, MIB, MIB + 1, 9 * MIB]
ONE_OF_EACH = [4096, 9 * MIB]
HEADERS = {
    "CacheControl": "no-store, max-age=0",
    "ContentDisposition": 'attachment; filename="a b.txt"',
    "ContentEncoding": "gzip",
    "ContentLanguage": "de",
    "WebsiteRedirectLocation": "/elsewhere",
    "ContentType": "text/x-odd; charset=utf-8",
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with s3_store(tmp_path_factory.mktemp("s3")) as gateway, root_client(gateway) as client:
        client.create_bucket(Bucket="shared")
        yield gateway


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[Any]:
    with root_client(gateway) as client:
        yield client


def bytes_of(size: int) -> bytes:
    return hashlib.shake_256(b"%d" % size).digest(size)


def crc64(data: bytes) -> str:
    return base64.b64encode(anycrc.Model("CRC64-NVME").calc(data).to_bytes(8, "big")).decode()


def tags_of(client: Any, key: str) -> list[tuple[str, str]]:
    tag_set = client.get_object_tagging(Bucket="shared", Key=key)["TagSet"]
    return [(tag["Key"], tag["Value"]) for tag in tag_set]


def code_of(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


@pytest.mark.parametrize("size", SIZES)
def test_the_etag_is_the_md5_of_the_bytes(gateway: RunningGateway, client: Any, size: int) -> None:
    data, where = bytes_of(size), {"Bucket": "shared", "Key": f"etag-{size}"}
    expected = f'"{hashlib.md5(data).hexdigest()}"'
    assert client.put_object(**where, Body=data)["ETag"] == expected
    got = client.get_object(**where)
    assert (got["ETag"], got["Body"].read()) == (expected, data)
    assert client.head_object(**where)["ETag"] == expected
    listed = client.list_objects_v2(Bucket="shared", Prefix=where["Key"])["Contents"]
    assert [one["ETag"] for one in listed if one["Key"] == where["Key"]] == [expected]

    async def by_the_library() -> str:
        async with warehouse.connect(gateway.store.profile) as store:
            assert await store.bucket("shared").get(where["Key"]) == data
            return (await store.bucket("shared").stat(where["Key"])).etag

    assert f'"{trio.run(by_the_library)}"' == expected


@pytest.mark.parametrize("size", ONE_OF_EACH)
def test_headers_and_metadata_come_back_as_they_were_stored(client: Any, size: int) -> None:
    data, where = bytes_of(size), {"Bucket": "shared", "Key": f"headers-{size}"}
    expires = datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC)
    metadata = {"colour": "blue", "empty": "", "long": "x" * 2000}
    client.put_object(
        **where,
        Body=data,
        Metadata=metadata,
        Expires=expires,
        StorageClass="REDUCED_REDUNDANCY",
        **HEADERS,
    )
    for got in (client.get_object(**where), client.head_object(**where)):
        assert got["Metadata"] == metadata
        assert {name: got[name] for name in HEADERS} == HEADERS
        assert got["Expires"] == expires
        assert got["StorageClass"] == "REDUCED_REDUNDANCY"
    replaced = client.get_object(**where, ResponseCacheControl="public", ResponseContentType="a/b")
    assert (replaced["CacheControl"], replaced["ContentType"]) == ("public", "a/b")


@pytest.mark.parametrize("text", ["café", "=?UTF-8?Q?caf=C3=A9?=", "日本語 😀"])
def test_metadata_beyond_ascii_goes_back_as_it_came(client: Any, text: str) -> None:
    where = {"Bucket": "shared", "Key": "raw"}

    def add(request: Any, **_: Any) -> None:
        request.headers["x-amz-meta-name"] = text

    client.meta.events.register("before-sign.s3.PutObject", add)
    client.put_object(**where, Body=b"x")
    got = client.head_object(**where)
    assert got["ResponseMetadata"]["HTTPHeaders"]["x-amz-meta-name"].encode("latin-1") == text.encode()


@pytest.mark.parametrize("size", ONE_OF_EACH)
@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_a_checksum_is_stored_and_answered(client: Any, algorithm: str, size: int) -> None:
    data, where = bytes_of(size), {"Bucket": "shared", "Key": f"sum-{algorithm}"}
    values = {
        "CRC32": zlib.crc32(data).to_bytes(4, "big"),
        "CRC32C": anycrc.Model("CRC32C").calc(data).to_bytes(4, "big"),
        "CRC64NVME": base64.b64decode(crc64(data)),
        "SHA1": hashlib.sha1(data, usedforsecurity=False).digest(),
        "SHA256": hashlib.sha256(data).digest(),
    }
    expected = base64.b64encode(values[algorithm]).decode()
    field = f"Checksum{algorithm}"
    put = client.put_object(**where, Body=data, **{field: expected})
    assert put[field] == expected
    got = client.head_object(**where, ChecksumMode="ENABLED")
    assert (got[field], got["ChecksumType"]) == (expected, "FULL_OBJECT")
    assert client.get_object(**where, ChecksumMode="ENABLED")[field] == expected
    attributes = client.get_object_attributes(
        **where, ObjectAttributes=["ETag", "Checksum", "ObjectSize", "StorageClass", "ObjectParts"]
    )
    assert attributes["Checksum"] == {field: expected, "ChecksumType": "FULL_OBJECT"}
    assert attributes["ETag"] == hashlib.md5(data).hexdigest()
    assert (attributes["ObjectSize"], attributes["StorageClass"]) == (size, "STANDARD")
    assert "ObjectParts" not in attributes
    if size > 100:  # of a range nobody could compare it
        part = client.get_object(**where, Range="bytes=1-9", ChecksumMode="ENABLED")
        assert field not in part


def test_without_a_checksum_the_store_makes_one(gateway: RunningGateway) -> None:
    with root_client(gateway, request_checksum_calculation="when_required") as client:
        where = {"Bucket": "shared", "Key": "no-sum"}
        assert client.put_object(**where, Body=b"plain")["ChecksumCRC64NVME"] == crc64(b"plain")
        assert client.head_object(**where, ChecksumMode="ENABLED")["ChecksumCRC64NVME"] == crc64(b"plain")
        assert "ChecksumCRC64NVME" not in client.head_object(**where)


@pytest.mark.parametrize("names", [[], ["Colour"]])
def test_attributes_need_names_that_s3_has(client: Any, names: list[str]) -> None:
    client.put_object(Bucket="shared", Key="named", Body=b"x")
    with pytest.raises(ClientError) as refused:
        client.get_object_attributes(Bucket="shared", Key="named", ObjectAttributes=names)
    assert code_of(refused) in ("InvalidArgument", "InvalidRequest")


# --- copies -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ONE_OF_EACH)
def test_a_copy_keeps_or_replaces_what_its_directives_say(client: Any, size: int) -> None:
    data, key = bytes_of(size), f"source-{size}"
    etag = client.put_object(
        Bucket="shared", Key=key, Body=data, Metadata={"x": "e"}, Tagging="a=b", **HEADERS
    )["ETag"]
    source = {"Bucket": "shared", "Key": key}
    kept = client.copy_object(Bucket="shared", Key="kept", CopySource=source)["CopyObjectResult"]
    assert kept["ETag"] == etag
    got = client.get_object(Bucket="shared", Key="kept")
    assert (got["Metadata"], got["Body"].read(), got["ETag"]) == ({"x": "e"}, data, etag)
    carried = {name: value for name, value in HEADERS.items() if name != "WebsiteRedirectLocation"}
    assert {name: got.get(name) for name in carried} == carried
    assert "WebsiteRedirectLocation" not in got
    assert tags_of(client, "kept") == [("a", "b")]
    client.copy_object(
        Bucket="shared",
        Key="new",
        CopySource=source,
        MetadataDirective="REPLACE",
        Metadata={"y": "2"},
        CacheControl="private",
        TaggingDirective="REPLACE",
        Tagging="c=d",
    )
    got = client.get_object(Bucket="shared", Key="new")
    assert (got["Metadata"], got["CacheControl"]) == ({"y": "2"}, "private")
    assert ("ContentEncoding" in got, got["ETag"]) == (False, etag)
    assert tags_of(client, "new") == [("c", "d")]
    client.copy_object(
        Bucket="shared", Key="new", CopySource={"Bucket": "shared", "Key": "new"}, StorageClass="STANDARD"
    )
    assert tags_of(client, "new") == [("c", "d")]


def test_a_copy_of_what_the_library_has_put_gets_an_md5_and_the_checksum_that_is_asked_for(
    gateway: RunningGateway, client: Any
) -> None:
    data = bytes_of(3 * MIB)

    async def put() -> None:
        async with warehouse.connect(gateway.store.profile) as store:
            await store.bucket("shared").put("library", data)

    trio.run(put)
    result = client.copy_object(
        Bucket="shared",
        Key="copied",
        CopySource={"Bucket": "shared", "Key": "library"},
        ChecksumAlgorithm="SHA256",
    )["CopyObjectResult"]
    assert result["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
    assert result["ChecksumSHA256"] == base64.b64encode(hashlib.sha256(data).digest()).decode()
    got = client.get_object(Bucket="shared", Key="copied", ChecksumMode="ENABLED")
    assert (got["ChecksumSHA256"], got["Body"].read()) == (result["ChecksumSHA256"], data)


@pytest.mark.parametrize("size", ONE_OF_EACH)
def test_a_copy_by_the_library_keeps_etag_headers_and_tags(
    gateway: RunningGateway, client: Any, size: int
) -> None:
    data = bytes_of(size)
    etag = client.put_object(Bucket="shared", Key="from", Body=data, Tagging="a=b", **HEADERS)["ETag"]

    async def copy() -> None:
        async with warehouse.connect(gateway.store.profile) as store:
            await store.bucket("shared").copy("from", "to")

    trio.run(copy)
    got = client.get_object(Bucket="shared", Key="to")
    assert (got["ETag"], got["Body"].read()) == (etag, data)
    assert {name: got[name] for name in HEADERS} == HEADERS
    assert tags_of(client, "to") == [("a", "b")]


# --- conditions, owners, regions ----------------------------------------------------------------------


def test_conditions_compare_the_md5_in_both_doors(gateway: RunningGateway, client: Any) -> None:
    where = {"Bucket": "shared", "Key": "conditional"}
    etag = client.put_object(**where, Body=b"1")["ETag"]
    with pytest.raises(ClientError) as refused:
        client.put_object(**where, Body=b"2", IfNoneMatch=etag)
    assert code_of(refused) == "PreconditionFailed"

    async def by_the_library() -> None:
        async with warehouse.connect(gateway.store.profile) as store:
            await store.bucket("shared").put("conditional", b"3", if_match=etag.strip('"'))

    trio.run(by_the_library)
    with pytest.raises(ClientError) as refused:
        client.delete_object(**where, IfMatch=etag)
    assert code_of(refused) == "PreconditionFailed"
    client.delete_object(**where, IfMatch=client.head_object(**where)["ETag"])


def test_an_object_belongs_to_who_has_put_it(client: Any) -> None:
    client.put_object(Bucket="shared", Key="owned", Body=b"x")
    owner = client.get_object_acl(Bucket="shared", Key="owned")["Owner"]
    listed = client.list_objects(Bucket="shared", Prefix="owned")["Contents"][0]["Owner"]
    assert owner == listed == client.list_buckets()["Owner"]


def test_a_bucket_keeps_the_region_that_it_was_made_in(client: Any) -> None:
    where = {"Bucket": "far-away"}
    client.create_bucket(**where, CreateBucketConfiguration={"LocationConstraint": "eu-far-1"})
    assert client.get_bucket_location(**where)["LocationConstraint"] == "eu-far-1"
    assert client.head_bucket(**where)["BucketRegion"] == "eu-far-1"
    assert client.get_bucket_location(Bucket="shared").get("LocationConstraint") is None
    listed = client.list_buckets(BucketRegion="eu-far-1")["Buckets"]
    assert [one["Name"] for one in listed] == ["far-away"]
    with pytest.raises(ClientError) as refused:
        client.create_bucket(**where, CreateBucketConfiguration={"LocationConstraint": "eu-near-1"})
    assert code_of(refused) == "BucketAlreadyOwnedByYou"
    with pytest.raises(ClientError) as refused:
        client.create_bucket(
            Bucket="nowhere", CreateBucketConfiguration={"LocationConstraint": "no region at all"}
        )
    assert code_of(refused) == "InvalidLocationConstraint"
    client.delete_bucket(**where)
