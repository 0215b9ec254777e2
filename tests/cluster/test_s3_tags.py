"""Tags of objects, put, read, changed and deleted over S3 by botocore against a running store."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from botocore.exceptions import ClientError

import warehouse
from s3_kit import RunningGateway, root_client, s3_store

MIB = 1024 * 1024
HEADERS = {"CacheControl": "no-store, max-age=0", "ContentType": "text/x-odd; charset=utf-8"}


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


def tags_of(client: Any, key: str) -> list[tuple[str, str]]:
    tag_set = client.get_object_tagging(Bucket="shared", Key=key)["TagSet"]
    return [(tag["Key"], tag["Value"]) for tag in tag_set]


def code_of(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


@pytest.mark.parametrize("size", [4096, 9 * MIB])
def test_tags_are_put_read_replaced_and_deleted_and_change_nothing_else(client: Any, size: int) -> None:
    data, where = bytes_of(size), {"Bucket": "shared", "Key": f"tags-{size}"}
    put = client.put_object(
        **where, Body=data, Tagging="project=blue&owner=ann%20b", Metadata={"x": "y"}, **HEADERS
    )
    before = client.head_object(**where)
    assert before["ResponseMetadata"]["HTTPHeaders"]["x-amz-tagging-count"] == "2"
    assert tags_of(client, where["Key"]) == [("owner", "ann b"), ("project", "blue")]
    new = [{"Key": f"ключ{number}", "Value": "v" * 200} for number in range(10)]
    client.put_object_tagging(**where, Tagging={"TagSet": new})
    assert tags_of(client, where["Key"]) == [(tag["Key"], tag["Value"]) for tag in new]
    after = client.get_object(**where)
    assert (after["ETag"], after["LastModified"]) == (put["ETag"], before["LastModified"])
    assert (after["Metadata"], after["CacheControl"]) == ({"x": "y"}, HEADERS["CacheControl"])
    assert after["Body"].read() == data
    client.delete_object_tagging(**where)
    assert tags_of(client, where["Key"]) == []
    gone = client.head_object(**where)
    assert "x-amz-tagging-count" not in gone["ResponseMetadata"]["HTTPHeaders"]
    client.put_object_tagging(**where, Tagging={"TagSet": [{"Key": "a", "Value": ""}]})
    client.put_object(**where, Body=data)
    assert tags_of(client, where["Key"]) == []


def test_tags_of_what_the_library_has_put_are_changed_too(gateway: RunningGateway, client: Any) -> None:
    async def put() -> str:
        async with warehouse.connect(gateway.store.profile) as store:
            return (
                await store.bucket("shared").put("native", b"by the library", metadata={"a b": "c\n"})
            ).etag

    etag = trio.run(put)
    client.put_object_tagging(Bucket="shared", Key="native", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    assert tags_of(client, "native") == [("a", "b")]
    got = client.get_object(Bucket="shared", Key="native")
    assert (got["ETag"], got["Body"].read()) == (f'"{etag}"', b"by the library")
    assert (got["MissingMeta"], got["Metadata"]) == (1, {})


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ([("k", "v")] * 2, "InvalidTag"),
        ([(f"k{number}", "v") for number in range(11)], "InvalidTag"),
        ([("k" * 129, "v")], "InvalidTag"),
        ([("k", "v" * 257)], "InvalidTag"),
        ([("aws:k", "v")], "InvalidTag"),
        ([("k\u2028", "v")], None),
        ([("k<", "v")], "InvalidTag"),
    ],
)
def test_tags_that_s3_does_not_allow_are_refused(
    client: Any, tags: list[tuple[str, str]], code: str | None
) -> None:
    where = {"Bucket": "shared", "Key": "bad-tags"}
    client.put_object(**where, Body=b"x", Tagging="kept=yes")
    wanted = {"TagSet": [{"Key": key, "Value": value} for key, value in tags]}
    if code is None:
        client.put_object_tagging(**where, Tagging=wanted)
        return
    with pytest.raises(ClientError) as refused:
        client.put_object_tagging(**where, Tagging=wanted)
    assert code_of(refused) == code
    assert tags_of(client, "bad-tags") == [("kept", "yes")]


def test_tags_of_nothing_are_refused(client: Any) -> None:
    for ask in (
        lambda: client.get_object_tagging(Bucket="shared", Key="none"),
        lambda: client.put_object_tagging(Bucket="shared", Key="none", Tagging={"TagSet": []}),
        lambda: client.delete_object_tagging(Bucket="shared", Key="none"),
    ):
        with pytest.raises(ClientError) as refused:
            ask()
        assert code_of(refused) == "NoSuchKey"


def test_tags_that_change_while_others_replace_the_object_are_those_of_one_version(
    gateway: RunningGateway, client: Any
) -> None:
    """Whoever puts says which tags the object has; a change of tags never comes with the bytes of another."""
    where = {"Bucket": "shared", "Key": "raced"}
    client.put_object(**where, Body=b"0")
    is_over = threading.Event()

    def replace() -> None:
        with root_client(gateway) as other:
            number = 0
            while not is_over.is_set():
                number += 1
                other.put_object(**where, Body=b"%d" % number, Metadata={"number": f"{number}"})

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        for number in range(30):
            client.put_object_tagging(**where, Tagging={"TagSet": [{"Key": "t", "Value": f"{number}"}]})
            got = client.get_object(**where)
            body = got["Body"].read()
            assert got["Metadata"].get("number", "0").encode() == body
            assert got["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    finally:
        is_over.set()
        thread.join(30)
