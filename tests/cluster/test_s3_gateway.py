"""The S3 gateway as a process, asked by botocore: what works so far, and how it refuses."""

from __future__ import annotations

import hashlib
import http.client
import signal
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from s3_kit import RunningGateway, client_of, root_client, s3_store
from s3_wire import Wire
from warehouse.conf.profile import Profile

SETTINGS = '[s3]\nregion = "eu-test-1"\nsignature_v2 = "on"\ndomains = ["s3.localhost"]\n'
KEYS = [
    "a.txt",
    "a/b/c",
    "a//b",
    "../up",
    "with space+plus",
    "100%/zz%zz",
    "quote'\"<img src=x onerror=alert(1)>&amp;",
    "ünïcödé/日本語/😀",
    "\u202eright-to-left",
    "ends/",
    "question?mark#hash",
    "x" * 1024,
]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with s3_store(tmp_path_factory.mktemp("s3"), config=SETTINGS) as gateway:
        yield gateway


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[Any]:
    with root_client(gateway) as client:
        yield client


@pytest.fixture
def bucket(client: Any, request: pytest.FixtureRequest) -> str:
    name = request.node.name.replace("_", "-").removeprefix("test-")[:50].split("[")[0].strip("-")
    client.create_bucket(Bucket=name)
    return str(name)


def code_of(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    response = error.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


@pytest.mark.parametrize("size", [0, 1, 4096, 300_000, 3 * 1024 * 1024])
def test_what_was_put_comes_back(client: Any, bucket: str, size: int) -> None:
    data = hashlib.shake_256(b"%d" % size).digest(size)
    put = client.put_object(Bucket=bucket, Key="key", Body=data, Metadata={"colour": "blue"})
    got = client.get_object(Bucket=bucket, Key="key")
    assert got["Body"].read() == data
    assert got["ETag"] == put["ETag"]
    assert got["Metadata"] == {"colour": "blue"}
    assert got["ContentLength"] == size
    assert got["ContentType"] == "binary/octet-stream"
    head = client.head_object(Bucket=bucket, Key="key")
    assert (head["ContentLength"], head["ETag"]) == (size, put["ETag"])
    if size > 10:
        part = client.get_object(Bucket=bucket, Key="key", Range="bytes=3-9")
        assert part["Body"].read() == data[3:10]
        assert part["ContentRange"] == f"bytes 3-9/{size}"
    client.delete_object(Bucket=bucket, Key="key")
    with pytest.raises(ClientError) as missing:
        client.get_object(Bucket=bucket, Key="key")
    assert code_of(missing) == ("NoSuchKey", 404)
    client.delete_bucket(Bucket=bucket)


def test_every_key_is_what_it_is(client: Any, bucket: str) -> None:
    for key in KEYS:
        client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    for key in KEYS:
        assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    listed = client.list_objects_v2(Bucket=bucket)
    assert [one["Key"] for one in listed["Contents"]] == sorted(KEYS, key=str.encode)
    folders = client.list_objects_v2(Bucket=bucket, Delimiter="/")
    assert {one["Prefix"] for one in folders["CommonPrefixes"]} >= {"a/", "../", "ends/"}
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={"PageSize": 2})
    assert [one["Key"] for page in pages for one in page["Contents"]] == sorted(KEYS, key=str.encode)
    gone = client.delete_objects(
        Bucket=bucket, Delete={"Objects": [{"Key": key} for key in [*KEYS, "never there"]]}
    )
    assert {one["Key"] for one in gone["Deleted"]} == {*KEYS, "never there"}
    assert "Contents" not in client.list_objects_v2(Bucket=bucket)


def test_buckets_are_made_listed_and_refused(client: Any, bucket: str) -> None:
    assert bucket in [one["Name"] for one in client.list_buckets()["Buckets"]]
    client.create_bucket(Bucket=bucket)  # one's own: nothing would change
    client.head_bucket(Bucket=bucket)
    assert client.get_bucket_location(Bucket=bucket)["LocationConstraint"] == "eu-test-1"
    for name, code in (("UPPER", "InvalidBucketName"), ("x", "InvalidBucketName"), ("none", "NoSuchBucket")):
        with pytest.raises(ClientError) as refused:
            if code == "NoSuchBucket":
                client.list_objects_v2(Bucket=name)
            else:
                client.create_bucket(Bucket=name)
        assert code_of(refused)[0] == code
    client.put_object(Bucket=bucket, Key="k", Body=b"x")
    with pytest.raises(ClientError) as refused:
        client.delete_bucket(Bucket=bucket)
    assert code_of(refused) == ("BucketNotEmpty", 409)


def test_conditions_are_decided(client: Any, bucket: str) -> None:
    first = client.put_object(Bucket=bucket, Key="k", Body=b"1", IfNoneMatch="*")
    for conditions in ({"IfNoneMatch": "*"}, {"IfMatch": '"another"'}):
        with pytest.raises(ClientError) as refused:
            client.put_object(Bucket=bucket, Key="k", Body=b"2", **conditions)
        assert code_of(refused) == ("PreconditionFailed", 412)
    client.put_object(Bucket=bucket, Key="k", Body=b"3", IfMatch=first["ETag"])
    with pytest.raises(ClientError) as refused:
        client.put_object(Bucket=bucket, Key="none", Body=b"x", IfMatch=first["ETag"])
    assert code_of(refused) == ("NoSuchKey", 404)
    with pytest.raises(ClientError) as refused:
        client.delete_object(Bucket=bucket, Key="k", IfMatch=first["ETag"])
    assert code_of(refused) == ("PreconditionFailed", 412)
    with pytest.raises(ClientError) as unchanged:
        client.get_object(
            Bucket=bucket, Key="k", IfNoneMatch=client.head_object(Bucket=bucket, Key="k")["ETag"]
        )
    assert code_of(unchanged)[1] == 304


@pytest.mark.parametrize("size", [2, 3 * 1024 * 1024])
def test_a_write_names_several_etags_or_such_as_no_object_has(
    gateway: RunningGateway, client: Any, size: int
) -> None:
    client.create_bucket(Bucket="several")
    first = client.put_object(Bucket="several", Key="k", Body=bytes(size))["ETag"]
    wire = Wire(gateway)
    for header, value, status in (
        ("If-Match", f'"another", {first}', 200),
        ("If-Match", f"W/{first}", 412),  # compared strongly
        ("If-Match", '""', 412),
        ("If-Match", '"a b"', 412),
        ("If-None-Match", f'"another", {first}', 412),
        ("If-None-Match", f"W/{first}", 412),
        ("If-None-Match", '"another", "a b"', 200),
        ("If-None-Match", '""', 200),
    ):
        for copied in ({}, {"x-amz-copy-source": "/several/source"}):
            client.put_object(Bucket="several", Key="source", Body=bytes(size))
            sent = {header: value, **copied}
            heard = wire.ask("PUT", "/several/k", b"" if copied else bytes(size), sent)
            assert heard.status == status, (sent, heard)


def test_a_copy_is_the_object_with_its_metadata_or_other_metadata(client: Any, bucket: str) -> None:
    data = hashlib.shake_256(b"copy").digest(2_000_000)
    put = client.put_object(Bucket=bucket, Key="a b/c", Body=data, Metadata={"x": "1"}, ContentType="text/x")
    source = {"Bucket": bucket, "Key": "a b/c"}
    client.copy_object(Bucket=bucket, Key="kept", CopySource=source)
    client.copy_object(
        Bucket=bucket, Key="changed", CopySource=source, MetadataDirective="REPLACE", Metadata={"y": "2"}
    )
    kept, changed = (client.get_object(Bucket=bucket, Key=key) for key in ("kept", "changed"))
    assert kept["Body"].read() == changed["Body"].read() == data
    assert (kept["Metadata"], kept["ContentType"]) == ({"x": "1"}, "text/x")
    assert changed["Metadata"] == {"y": "2"}
    for condition, code in (
        ({"CopySourceIfMatch": '"another"'}, "PreconditionFailed"),
        ({"CopySourceIfNoneMatch": put["ETag"]}, "PreconditionFailed"),
        ({"IfNoneMatch": "*"}, "PreconditionFailed"),
    ):
        with pytest.raises(ClientError) as refused:
            client.copy_object(Bucket=bucket, Key="kept", CopySource=source, **condition)
        assert code_of(refused)[0] == code
    with pytest.raises(ClientError) as refused:
        client.copy_object(Bucket=bucket, Key="a b/c", CopySource=source)
    assert code_of(refused) == ("InvalidRequest", 400)


def test_a_body_that_is_not_what_was_signed_is_not_stored(client: Any, bucket: str) -> None:
    with pytest.raises(ClientError) as refused:
        client.put_object(Bucket=bucket, Key="k", Body=b"x", ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg==")
    assert code_of(refused) == ("BadDigest", 400)
    with pytest.raises(ClientError) as missing:
        client.head_object(Bucket=bucket, Key="k")
    assert code_of(missing)[1] == 404


@pytest.mark.parametrize("size", [500_000, 3_000_000, 9_000_000])
def test_a_large_body_that_is_not_what_was_promised_is_not_stored(
    client: Any, bucket: str, size: int
) -> None:
    with pytest.raises(ClientError) as refused:
        client.put_object(Bucket=bucket, Key="k", Body=bytes(size), ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg==")
    assert code_of(refused) == ("BadDigest", 400)
    assert "Contents" not in client.list_objects_v2(Bucket=bucket)


def test_a_range_of_an_object_that_is_replaced_is_of_one_version(
    gateway: RunningGateway, client: Any, bucket: str
) -> None:
    """Its place depends on the size: bytes of one version at the place of another are wrong bytes."""
    versions = {b"aaaaa": b"A" * 100 + b"aaaaa", b"bbbbb": b"B" * 100_000 + b"bbbbb"}
    client.put_object(Bucket=bucket, Key="k", Body=versions[b"aaaaa"])
    is_over = threading.Event()

    def replace() -> None:
        with root_client(gateway) as other:
            while not is_over.is_set():
                for version in versions.values():
                    other.put_object(Bucket=bucket, Key="k", Body=version)

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        for _ in range(300):
            got = client.get_object(Bucket=bucket, Key="k", Range="bytes=-5")
            data = got["Body"].read()
            assert data in versions, data[:20]
            assert got["ContentRange"].endswith(f"/{len(versions[data])}")
    finally:
        is_over.set()
        thread.join(30)


def test_who_is_not_who_they_say_is_refused(gateway: RunningGateway, client: Any, bucket: str) -> None:
    key_id = client._request_signer._credentials.access_key
    for stranger, code in (
        (client_of(gateway.url, key_id, "guessed"), "SignatureDoesNotMatch"),
        (client_of(gateway.url, "NOBODY", "guessed"), "InvalidAccessKeyId"),
    ):
        with pytest.raises(ClientError) as refused:
            stranger.list_objects_v2(Bucket=bucket)
        assert code_of(refused) == (code, 403)
        stranger.close()
    with pytest.raises(urllib.error.HTTPError) as anonymous:
        urllib.request.urlopen(f"{gateway.url}/{bucket}", timeout=20)
    assert anonymous.value.code == 403
    document = anonymous.value.read()
    assert b"<Code>AccessDenied</Code>" in document
    assert anonymous.value.headers["x-amz-request-id"].encode() in document
    anonymous.value.close()


def test_presigned_urls_work_in_any_client_until_they_expire(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="k", Body=b"shared")
    where = {"Bucket": bucket, "Key": "k"}
    url = client.generate_presigned_url("get_object", Params=where, ExpiresIn=60)
    with urllib.request.urlopen(url, timeout=20) as answer:
        assert answer.read() == b"shared"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url[:-1] + ("0" if url[-1] != "0" else "1"), timeout=20)
    assert refused.value.code == 403
    refused.value.close()


def test_what_is_not_there_says_so(client: Any, bucket: str) -> None:
    assert "Status" not in client.get_bucket_versioning(Bucket=bucket)
    assert client.get_bucket_acl(Bucket=bucket)["Grants"][0]["Permission"] == "FULL_CONTROL"
    for ask, code in (
        (lambda: client.get_bucket_policy(Bucket=bucket), "NoSuchBucketPolicy"),
        (lambda: client.get_bucket_cors(Bucket=bucket), "NoSuchCORSConfiguration"),
        (
            lambda: client.put_bucket_versioning(
                Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
            ),
            "NotImplemented",
        ),
        (
            lambda: client.put_object(Bucket=bucket, Key="k", Body=b"x", ServerSideEncryption="AES256"),
            "NotImplemented",
        ),
    ):
        with pytest.raises(ClientError) as refused:
            ask()
        assert code_of(refused)[0] == code


def test_an_access_control_list_can_be_set_to_what_it_is(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="k", Body=b"x")
    for read, write, what in (
        (client.get_bucket_acl, client.put_bucket_acl, {"Bucket": bucket}),
        (client.get_object_acl, client.put_object_acl, {"Bucket": bucket, "Key": "k"}),
    ):
        found = read(**what)
        owner, grants = found["Owner"], found["Grants"]
        write(**what, ACL="private")
        write(**what, AccessControlPolicy={"Owner": owner, "Grants": grants})
        everybody = {"Type": "Group", "URI": "http://acs.amazonaws.com/groups/global/AllUsers"}
        for asked, code in (
            ({"ACL": "public-read"}, "NotImplemented"),
            ({"GrantRead": f"id={owner['ID']}"}, "NotImplemented"),
            ({}, "MissingSecurityHeader"),
            ({"AccessControlPolicy": {"Owner": owner, "Grants": []}}, "NotImplemented"),
            (
                {
                    "AccessControlPolicy": {
                        "Owner": owner,
                        "Grants": [*grants, {"Grantee": everybody, "Permission": "READ"}],
                    }
                },
                "NotImplemented",
            ),
        ):
            with pytest.raises(ClientError) as refused:
                write(**what, **asked)
            assert code_of(refused)[0] == code
        assert read(**what)["Grants"] == grants


def test_old_signatures_are_taken_where_the_operator_says_so(
    gateway: RunningGateway, client: Any, bucket: str
) -> None:
    with root_client(gateway, signature_version="s3") as old:
        old.put_object(Bucket=bucket, Key="a b/ü", Body=b"old", Metadata={"x": "y"})
        assert old.get_object(Bucket=bucket, Key="a b/ü")["Body"].read() == b"old"
        url = old.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a b/ü"})
        assert "AWSAccessKeyId=" in url
        with urllib.request.urlopen(url, timeout=20) as answer:
            assert answer.read() == b"old"
    key_id = client._request_signer._credentials.access_key
    stranger = client_of(gateway.url, key_id, "guessed", signature_version="s3")
    with pytest.raises(ClientError) as refused:
        stranger.list_buckets()
    assert code_of(refused) == ("SignatureDoesNotMatch", 403)
    stranger.close()


def test_a_body_of_unknown_length_is_stored(client: Any, bucket: str) -> None:
    data = hashlib.shake_256(b"unknown").digest(700_000)
    where = {"Bucket": bucket, "Key": "k"}
    url = client.generate_presigned_url("put_object", Params=where, ExpiresIn=60)
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    pieces = (data[at : at + 100_000] for at in range(0, len(data), 100_000))
    connection.request("PUT", f"{parts.path}?{parts.query}", body=pieces, encode_chunked=True)
    assert connection.getresponse().status == 200
    connection.close()
    assert client.get_object(**where)["Body"].read() == data


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"GET / HTTP/9.9\r\n\r\n", 400, b"InvalidRequest"),
        (b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 405, b"MethodNotAllowed"),
        (b"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400, b"InvalidURI"),
        (b"GET /?acl HTTP/1.1\r\nHost: x\r\n\r\n", 501, b"NotImplemented"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic eDp5\r\n\r\n", 400, b"InvalidArgument"),
        (
            b"PUT /b/k HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            b"",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_in_the_words_of_s3(
    gateway: RunningGateway, sent: bytes, status: int, code: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert int(answer.split(b" ", 2)[1]) == status, answer
    assert b"x-amz-request-id: " in answer
    assert b"<Code>" + code in answer


def test_a_bucket_may_have_a_host_of_its_own(gateway: RunningGateway, client: Any, bucket: str) -> None:
    profile = Profile.load(gateway.store.profile)
    url = f"http://s3.localhost:{gateway.port}"
    virtual = client_of(url, profile.key_id, profile.secret, s3={"addressing_style": "virtual"})
    where = {"Bucket": bucket, "Key": "k"}
    for method, operation, body in (("PUT", "put_object", b"hosted"), ("GET", "get_object", b"")):
        parts = urlsplit(virtual.generate_presigned_url(operation, Params=where, ExpiresIn=60))
        assert parts.netloc == f"{bucket}.s3.localhost:{gateway.port}"
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
        connection.request(method, f"{parts.path}?{parts.query}", body or None, {"Host": parts.netloc})
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"" if body else b"hosted")
        connection.close()
    assert client.get_object(**where)["Body"].read() == b"hosted"
    virtual.close()


def test_a_gateway_that_was_killed_comes_back_with_its_key_alone(tmp_path: Path) -> None:
    with s3_store(tmp_path) as gateway, root_client(gateway) as client:
        client.create_bucket(Bucket="kept")
        client.put_object(Bucket="kept", Key="k", Body=b"x")
        gateway.stop(signal.SIGKILL)
        gateway.start()
        assert client.get_object(Bucket="kept", Key="k")["Body"].read() == b"x"
