"""boto3, the AWS SDK for Python."""

from __future__ import annotations

import base64
import os
import socket
import urllib.error
import urllib.request
import zlib
from functools import cache
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from client_program import World, command, refused, run

MIB = 1024 * 1024
ALGORITHMS = ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256")


def connect(world: World, *, url: str = "", style: str = "path", **options: str) -> Any:
    return client_of(url or world.url, world.region, world.key_id, world.secret, style, **options)


@cache
def client_of(url: str, region: str, key_id: str, secret: str, style: str, **options: str) -> Any:
    config = import_module("botocore.config").Config(
        s3={"addressing_style": style}, signature_version="s3v4", retries={"max_attempts": 1}, **options
    )
    return import_module("boto3").client(
        "s3",
        endpoint_url=url,
        region_name=region,
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        config=config,
    )


@command("put_object, get_object (range), head_object, copy_object, delete_object")
def objects(world: World) -> None:
    client, bucket = connect(world), world.bucket
    for size in (0, 5, 700_000, 9 * MIB):
        data = os.urandom(size)
        etag = client.put_object(Bucket=bucket, Key="a b/ü", Body=data, Metadata={"colour": "blue"})["ETag"]
        got = client.get_object(Bucket=bucket, Key="a b/ü")
        assert got["Body"].read() == data
        assert (got["ETag"], got["Metadata"]) == (etag, {"colour": "blue"})
        assert client.head_object(Bucket=bucket, Key="a b/ü")["ContentLength"] == size
        client.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "a b/ü"})
        assert client.get_object(Bucket=bucket, Key="copy")["Body"].read() == data
        if size > 100:
            part = client.get_object(Bucket=bucket, Key="copy", Range="bytes=10-99")
            assert part["Body"].read() == data[10:100]
    client.delete_object(Bucket=bucket, Key="copy")
    refused(lambda: client.get_object(Bucket=bucket, Key="copy"), "NoSuchKey")


@command("delete_objects")
def delete_many(world: World) -> None:
    client, bucket = connect(world), world.bucket
    keys = [f"k {number} &<é>" for number in range(30)]
    for key in keys:
        client.put_object(Bucket=bucket, Key=key, Body=b"x")
    gone = client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys]})
    assert {one["Key"] for one in gone["Deleted"]} == set(keys)
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@command("paginators: list_objects, list_objects_v2, list_object_versions, list_buckets")
def pages(world: World) -> None:
    client, bucket = connect(world), world.bucket
    keys = sorted(
        [f"{folder}/{number:02}" for folder in ("a", "b+", "ü") for number in range(7)], key=str.encode
    )
    for key in keys:
        client.put_object(Bucket=bucket, Key=key, Body=b"x")
    for name, found in (
        ("list_objects", "Contents"),
        ("list_objects_v2", "Contents"),
        ("list_object_versions", "Versions"),
    ):
        paginator = client.get_paginator(name)
        listed = [
            one["Key"]
            for page in paginator.paginate(Bucket=bucket, PaginationConfig={"PageSize": 4})
            for one in page.get(found, ())
        ]
        assert listed == keys, (name, listed)
        prefixes = [
            one["Prefix"]
            for page in paginator.paginate(Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": 1})
            for one in page.get("CommonPrefixes", ())
        ]
        assert prefixes == ["a/", "b+/", "ü/"], (name, prefixes)
    names = [
        one["Name"] for page in client.get_paginator("list_buckets").paginate() for one in page["Buckets"]
    ]
    assert bucket in names


@command("generate_presigned_url of GET and PUT")
def presigned(world: World) -> None:
    client = connect(world)
    where = {"Bucket": world.bucket, "Key": "a b/ü+%"}
    data = os.urandom(100_000)
    put = urllib.request.Request(
        client.generate_presigned_url("put_object", Params=where), data=data, method="PUT"
    )
    urllib.request.urlopen(put, timeout=30).close()
    with urllib.request.urlopen(
        client.generate_presigned_url("get_object", Params=where), timeout=30
    ) as answer:
        assert answer.read() == data
    late = client.generate_presigned_url("get_object", Params=where, ExpiresIn=1).replace(
        "X-Amz-Expires=1", "X-Amz-Expires=2"
    )
    refused(lambda: urllib.request.urlopen(late, timeout=30), "403")


@command("generate_presigned_post")
def form(world: World) -> None:
    client = connect(world)
    data = os.urandom(200_000)
    post = client.generate_presigned_post(
        world.bucket,
        "forms/${filename}",
        Fields={"success_action_status": "201"},
        Conditions=[{"success_action_status": "201"}, ["content-length-range", 1, 300_000]],
    )
    boundary = "a-boundary-of-this-form"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in post["fields"].items()
    ]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="photo.bin"\r\n\r\n'
    body = b"".join([*parts, head.encode(), data, f"\r\n--{boundary}--\r\n".encode()])
    request = urllib.request.Request(
        post["url"], data=body, headers={"Content-Type": f"multipart/form-data; boundary={boundary}"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 201
    assert client.get_object(Bucket=world.bucket, Key="forms/photo.bin")["Body"].read() == data


@command("request_checksum_calculation and response_checksum_validation: when_supported, when_required")
def checksum_modes(world: World) -> None:
    data = os.urandom(300_000)
    for mode in ("when_supported", "when_required"):
        client = connect(world, request_checksum_calculation=mode, response_checksum_validation=mode)
        put = client.put_object(Bucket=world.bucket, Key=mode, Body=data)
        assert ("ChecksumCRC32" in put) == (mode == "when_supported"), put
        assert client.get_object(Bucket=world.bucket, Key=mode)["Body"].read() == data


@command("ChecksumAlgorithm: CRC32, CRC32C, CRC64NVME, SHA1, SHA256")
def algorithms(world: World) -> None:
    """A file is sent in signed chunks, with its checksum in a trailer; bytes with it in a header."""
    client = connect(world)
    path, data = world.file("body", 300_000)
    for algorithm in ALGORITHMS:
        with path.open("rb") as file:
            put = client.put_object(
                Bucket=world.bucket, Key=algorithm, Body=file, ChecksumAlgorithm=algorithm
            )
        head = client.head_object(Bucket=world.bucket, Key=algorithm, ChecksumMode="ENABLED")
        got = client.get_object(Bucket=world.bucket, Key=algorithm, ChecksumMode="ENABLED")
        assert got["Body"].read() == data
        field = f"Checksum{algorithm}"
        assert put[field] == head[field] == got[field], (algorithm, head)
        assert (
            client.get_object_attributes(
                Bucket=world.bucket, Key=algorithm, ObjectAttributes=["Checksum", "ObjectSize"]
            )["Checksum"][field]
            == put[field]
        )
    assert client.head_object(Bucket=world.bucket, Key="CRC32", ChecksumMode="ENABLED")["ChecksumCRC32"] == (
        base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
    )
    wrong = base64.b64encode(bytes(4)).decode()
    refused(
        lambda: client.put_object(Bucket=world.bucket, Key="bad", Body=data, ChecksumCRC32=wrong), "BadDigest"
    )


@command("upload_file and download_file of 100 MB")
def large_file(world: World) -> None:
    client = connect(world)
    path, data = world.file("large", 100_000_000)
    client.upload_file(str(path), world.bucket, "large")
    head = client.head_object(Bucket=world.bucket, Key="large")
    assert head["ETag"].strip('"').endswith("-12"), head["ETag"]  # parts of 8 MiB
    client.download_file(world.bucket, "large", str(world.folder / "back"))
    assert (world.folder / "back").read_bytes() == data


@command("create_multipart_upload, upload_part, upload_part_copy, complete_, abort_multipart_upload")
def multipart(world: World) -> None:
    client, where = connect(world), {"Bucket": world.bucket, "Key": "parts"}
    first, last, source = os.urandom(5 * MIB), os.urandom(1000), os.urandom(6 * MIB)
    client.put_object(Bucket=world.bucket, Key="source", Body=source)
    upload = client.create_multipart_upload(**where, Metadata={"x": "y"})["UploadId"]
    parts = [
        {
            "PartNumber": number,
            "ETag": client.upload_part(**where, UploadId=upload, PartNumber=number, Body=body)["ETag"],
        }
        for number, body in ((1, first), (9, last))
    ]
    copied = client.upload_part_copy(
        **where,
        UploadId=upload,
        PartNumber=4,
        CopySource={"Bucket": world.bucket, "Key": "source"},
        CopySourceRange=f"bytes=100-{5 * MIB + 99}",
    )
    parts.insert(1, {"PartNumber": 4, "ETag": copied["CopyPartResult"]["ETag"]})
    client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})
    got = client.get_object(**where)
    assert got["Body"].read() == first + source[100 : 5 * MIB + 100] + last
    assert got["Metadata"] == {"x": "y"}
    assert client.get_object(**where, PartNumber=9)["Body"].read() == last
    upload = client.create_multipart_upload(**where)["UploadId"]
    client.upload_part(**where, UploadId=upload, PartNumber=1, Body=first)
    client.abort_multipart_upload(**where, UploadId=upload)
    refused(lambda: client.list_parts(**where, UploadId=upload), "NoSuchUpload")


@command("paginators: list_multipart_uploads, list_parts")
def upload_pages(world: World) -> None:
    client, bucket = connect(world), world.bucket
    uploads = {
        (key, client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"])
        for key in ("a/1", "a/2", "b", "b", "c")
    }
    listed = [
        (one["Key"], one["UploadId"])
        for page in client.get_paginator("list_multipart_uploads").paginate(
            Bucket=bucket, PaginationConfig={"PageSize": 2}
        )
        for one in page.get("Uploads", ())
    ]
    assert (len(listed), set(listed)) == (5, uploads)
    where = {"Bucket": bucket, "Key": "c", "UploadId": next(upload for key, upload in uploads if key == "c")}
    sizes = {number: 10 + number for number in (1, 2, 3, 7, 10_000)}
    for number, size in sizes.items():
        client.upload_part(**where, PartNumber=number, Body=os.urandom(size))
    parts = [
        (one["PartNumber"], one["Size"])
        for page in client.get_paginator("list_parts").paginate(**where, PaginationConfig={"PageSize": 2})
        for one in page["Parts"]
    ]
    assert parts == list(sizes.items())


@command("put_, get_, delete_object_tagging")
def tags(world: World) -> None:
    client, bucket = connect(world), world.bucket
    tagged = [{"Key": "project", "Value": "ü 1"}, {"Key": "state", "Value": ""}]
    client.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="colour=blue+sky")
    assert client.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [
        {"Key": "colour", "Value": "blue sky"}
    ]
    client.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": tagged})
    assert client.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == tagged
    assert client.head_object(Bucket=bucket, Key="k").get("TagCount", 2) == 2
    client.delete_object_tagging(Bucket=bucket, Key="k")
    assert client.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == []


@command("CacheControl, ContentDisposition, ContentEncoding, ContentLanguage, Expires kept by put and copy")
def headers(world: World) -> None:
    client, bucket = connect(world), world.bucket
    kept = {
        "CacheControl": "max-age=60",
        "ContentDisposition": 'attachment; filename="a.txt"',
        "ContentEncoding": "identity",
        "ContentLanguage": "de",
        "ContentType": "text/x-own",
    }
    client.put_object(Bucket=bucket, Key="k", Body=b"text", **kept)
    client.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/k")
    for key in ("k", "copy"):
        head = client.head_object(Bucket=bucket, Key=key)
        assert {name: head.get(name) for name in kept} == kept
    shown = client.get_object(Bucket=bucket, Key="k", ResponseCacheControl="no-store")
    assert shown["CacheControl"] == "no-store"


@command("addressing_style virtual")
def virtual_hosts(world: World) -> None:
    """The resolver here knows hosts below `localhost`, as that of a desktop does."""
    host = urlsplit(world.virtual_url).hostname or ""
    resolve: Any = socket.getaddrinfo

    def resolve_here(name: Any, *arguments: Any, **options: Any) -> Any:
        return resolve("127.0.0.1" if name.endswith(host) else name, *arguments, **options)

    vars(socket)["getaddrinfo"] = resolve_here
    try:
        client = connect(world, url=world.virtual_url, style="virtual")
        data = os.urandom(100_000)
        client.put_object(Bucket=world.bucket, Key="a b/ü", Body=data)
        assert client.get_object(Bucket=world.bucket, Key="a b/ü")["Body"].read() == data
        url = client.generate_presigned_url("get_object", Params={"Bucket": world.bucket, "Key": "a b/ü"})
        assert urlsplit(url).hostname == f"{world.bucket}.{host}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert answer.read() == data
        assert client.list_objects_v2(Bucket=world.bucket)["KeyCount"] == 1
    finally:
        vars(socket)["getaddrinfo"] = resolve


if __name__ == "__main__":
    run(globals())
