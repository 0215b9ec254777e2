"""minio-py, the Python SDK of MinIO."""

from __future__ import annotations

import io
import os
import urllib.request
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from client_program import World, command, refused, run

MIB = 1024 * 1024


def connect(world: World) -> Any:
    parts = urlsplit(world.url)
    return import_module("minio").Minio(
        endpoint=parts.netloc,
        access_key=world.key_id,
        secret_key=world.secret,
        secure=parts.scheme == "https",
        region=world.region,
    )


def read(client: Any, bucket: str, key: str, **options: Any) -> bytes:
    answer = client.get_object(bucket_name=bucket, object_name=key, **options)
    try:
        return bytes(answer.read())
    finally:
        answer.close()
        answer.release_conn()


@command("make_bucket, bucket_exists, list_buckets, remove_bucket")
def buckets(world: World) -> None:
    client, name = connect(world), f"{world.bucket}-second"
    assert not client.bucket_exists(bucket_name=name)
    client.make_bucket(bucket_name=name)
    assert client.bucket_exists(bucket_name=name)
    assert name in [one.name for one in client.list_buckets()]
    client.remove_bucket(bucket_name=name)
    assert not client.bucket_exists(bucket_name=name)


@command("fput_object, fget_object, stat_object, get_object (range), remove_object")
def files(world: World) -> None:
    client, bucket = connect(world), world.bucket
    path, data = world.file("a file", 2 * MIB)
    client.fput_object(
        bucket_name=bucket,
        object_name="a/ü +",
        file_path=str(path),
        content_type="image/x",
        metadata={"x": "y"},
    )
    stat = client.stat_object(bucket_name=bucket, object_name="a/ü +")
    assert (stat.size, stat.content_type, stat.metadata["x-amz-meta-x"]) == (len(data), "image/x", "y")
    client.fget_object(bucket_name=bucket, object_name="a/ü +", file_path=str(world.folder / "back"))
    assert (world.folder / "back").read_bytes() == data
    assert read(client, bucket, "a/ü +", offset=7, length=100) == data[7:107]
    client.remove_object(bucket_name=bucket, object_name="a/ü +")
    refused(lambda: client.stat_object(bucket_name=bucket, object_name="a/ü +"), "NoSuchKey")


@command("put_object of unknown length (multipart)")
def stream(world: World) -> None:
    client, data = connect(world), os.urandom(11 * MIB)
    client.put_object(
        bucket_name=world.bucket, object_name="k", data=io.BytesIO(data), length=-1, part_size=5 * MIB
    )
    assert read(client, world.bucket, "k") == data


@command("compose_object")
def compose(world: World) -> None:
    client, bucket = connect(world), world.bucket
    source = import_module("minio.commonconfig").ComposeSource
    bodies = {"a": os.urandom(5 * MIB), "b": os.urandom(100)}
    for key, data in bodies.items():
        client.put_object(bucket_name=bucket, object_name=key, data=io.BytesIO(data), length=len(data))
    sources = [source(bucket_name=bucket, object_name=key) for key in bodies]
    client.compose_object(bucket_name=bucket, object_name="whole", sources=sources)
    assert read(client, bucket, "whole") == bodies["a"] + bodies["b"]


@command("copy_object")
def copy(world: World) -> None:
    client, bucket, data = connect(world), world.bucket, os.urandom(300_000)
    common = import_module("minio.commonconfig")
    client.put_object(
        bucket_name=bucket, object_name="a b", data=io.BytesIO(data), length=len(data), metadata={"x": "1"}
    )
    client.copy_object(
        bucket_name=bucket, object_name="ü", source=common.CopySource(bucket_name=bucket, object_name="a b")
    )
    assert read(client, bucket, "ü") == data
    assert client.stat_object(bucket_name=bucket, object_name="ü").metadata["x-amz-meta-x"] == "1"


@command("list_objects, recursive and not; remove_objects")
def listing(world: World) -> None:
    client, bucket = connect(world), world.bucket
    keys = ["a/1", "a/2", "b", "c &/ü"]
    for key in keys:
        client.put_object(bucket_name=bucket, object_name=key, data=io.BytesIO(b"x"), length=1)
    listed = client.list_objects(bucket_name=bucket, recursive=True)
    assert [one.object_name for one in listed] == keys
    assert {one.object_name for one in client.list_objects(bucket_name=bucket)} == {"a/", "b", "c &/"}
    delete = import_module("minio.deleteobjects").DeleteObject
    assert (
        list(client.remove_objects(bucket_name=bucket, delete_object_list=[delete(key) for key in keys]))
        == []
    )
    assert list(client.list_objects(bucket_name=bucket, recursive=True)) == []


@command("presigned_get_object, presigned_put_object")
def presigned(world: World) -> None:
    client, data = connect(world), os.urandom(50_000)
    where = {"bucket_name": world.bucket, "object_name": "a/ü +"}
    put = urllib.request.Request(client.presigned_put_object(**where), data=data, method="PUT")
    urllib.request.urlopen(put, timeout=30).close()
    with urllib.request.urlopen(client.presigned_get_object(**where), timeout=30) as answer:
        assert answer.read() == data


@command("get_bucket_versioning (off); set_bucket_versioning and set_object_retention are refused")
def versioning(world: World) -> None:
    client, bucket = connect(world), world.bucket
    config = import_module("minio.versioningconfig").VersioningConfig
    retention = import_module("minio.retention").Retention
    assert client.get_bucket_versioning(bucket_name=bucket).status in ("Off", None)
    refused(
        lambda: client.set_bucket_versioning(bucket_name=bucket, config=config("Enabled")), "NotImplemented"
    )
    client.put_object(bucket_name=bucket, object_name="k", data=io.BytesIO(b"x"), length=1)
    until = retention("GOVERNANCE", datetime.now(UTC) + timedelta(days=1))
    refused(
        lambda: client.set_object_retention(bucket_name=bucket, object_name="k", config=until),
        "NotImplemented",
    )


@command("set_, get_, delete_object_tags")
def tags(world: World) -> None:
    client, bucket = connect(world), world.bucket
    kind = import_module("minio.commonconfig").Tags
    client.put_object(bucket_name=bucket, object_name="k", data=io.BytesIO(b"x"), length=1)
    wanted = kind.new_object_tags()
    wanted["project"] = "ü 1"
    client.set_object_tags(bucket_name=bucket, object_name="k", tags=wanted)
    assert client.get_object_tags(bucket_name=bucket, object_name="k") == wanted
    client.delete_object_tags(bucket_name=bucket, object_name="k")
    assert not client.get_object_tags(bucket_name=bucket, object_name="k")


if __name__ == "__main__":
    run(globals())
