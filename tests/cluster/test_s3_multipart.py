"""Uploads in parts over S3, by botocore against a running store."""

from __future__ import annotations

import base64
import hashlib
import socket
import time
import zlib
from collections.abc import Iterator
from typing import Any

import anycrc
import pytest
from botocore.exceptions import ClientError

from s3_kit import RunningGateway, root_client, s3_store
from s3_wire import Wire

MIB = 1024 * 1024
BUCKET = "parts"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with s3_store(tmp_path_factory.mktemp("s3")) as gateway, root_client(gateway) as client:
        client.create_bucket(Bucket=BUCKET)
        yield gateway


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[Any]:
    with root_client(gateway) as client:
        yield client


def bytes_of(size: int, seed: int = 0) -> bytes:
    return hashlib.shake_256(b"%d %d" % (size, seed)).digest(size)


class Upload:
    """One upload, and what was sent of it."""

    def __init__(self, client: Any, key: str, **options: Any) -> None:
        self.client = client
        self.where = {"Bucket": BUCKET, "Key": key}
        self.options = options
        self.id = client.create_multipart_upload(**self.where, **options)["UploadId"]
        self.parts: dict[int, tuple[bytes, dict[str, Any]]] = {}

    def send(self, number: int, data: bytes, **options: Any) -> dict[str, Any]:
        sent = self.client.upload_part(
            **self.where, UploadId=self.id, PartNumber=number, Body=data, **options
        )
        told = {name: sent[name] for name in sent if name.startswith("Checksum")}
        self.parts[number] = data, {"PartNumber": number, "ETag": sent["ETag"], **told}
        return dict(sent)

    def complete(self, numbers: list[int] | None = None, **options: Any) -> dict[str, Any]:
        chosen = sorted(self.parts) if numbers is None else numbers
        listed = [self.parts[number][1] for number in chosen]
        return self.complete_with(listed, **options)

    def complete_with(self, listed: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
        return dict(
            self.client.complete_multipart_upload(
                **self.where, UploadId=self.id, MultipartUpload={"Parts": listed}, **options
            )
        )

    @property
    def data(self) -> bytes:
        return b"".join(self.parts[number][0] for number in sorted(self.parts))

    @property
    def etag(self) -> str:
        digests = [hashlib.md5(self.parts[number][0]).digest() for number in sorted(self.parts)]
        return f'"{hashlib.md5(b"".join(digests)).hexdigest()}-{len(digests)}"'


def code_of(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def test_parts_in_any_order_with_gaps_become_an_object(client: Any) -> None:
    upload = Upload(
        client,
        "folder/film é.mp4",
        ContentType="video/mp4",
        Metadata={"mood": "fine"},
        CacheControl="no-store",
        Tagging="a=1&b=2",
    )
    for number, size in [(7, 3), (2, 6 * MIB), (1, 5 * MIB)]:
        sent = upload.send(number, bytes_of(size, number))
        assert sent["ETag"] == f'"{hashlib.md5(upload.parts[number][0]).hexdigest()}"'
    with pytest.raises(ClientError) as missing:
        client.head_object(**upload.where)
    assert code_of(missing) == "404"
    done = upload.complete()
    assert (done["ETag"], done["Bucket"], done["Key"]) == (upload.etag, BUCKET, "folder/film é.mp4")
    got = client.get_object(**upload.where)
    assert got["Body"].read() == upload.data
    assert (got["ETag"], got["ContentType"], got["CacheControl"]) == (upload.etag, "video/mp4", "no-store")
    assert (got["Metadata"], got["TagCount"]) == ({"mood": "fine"}, 2)
    listed = client.list_objects_v2(Bucket=BUCKET, Prefix="folder/")["Contents"]
    assert [(one["ETag"], one["Size"]) for one in listed] == [(upload.etag, 11 * MIB + 3)]
    again = upload.complete()  # its answer was lost
    assert (again["ETag"], again.get("ChecksumCRC32")) == (upload.etag, done.get("ChecksumCRC32"))
    ranged = client.get_object(**upload.where, Range=f"bytes={5 * MIB - 2}-{5 * MIB + 1}")
    assert ranged["Body"].read() == upload.data[5 * MIB - 2 : 5 * MIB + 2]


def test_an_object_is_read_by_parts(client: Any) -> None:
    upload = Upload(client, "by-parts")
    for number, size in [(1, 5 * MIB), (3, 5 * MIB + 1), (4, 9)]:
        upload.send(number, bytes_of(size, number))
    upload.complete()
    for number in (1, 3, 4):
        got = client.get_object(**upload.where, PartNumber=number)
        assert got["Body"].read() == upload.parts[number][0]
        assert (got["PartsCount"], got["ETag"]) == (3, upload.etag)
        head = client.head_object(**upload.where, PartNumber=number)
        assert (head["PartsCount"], head["ContentLength"]) == (3, len(upload.parts[number][0]))
    with pytest.raises(ClientError) as missing:
        client.get_object(**upload.where, PartNumber=2)
    assert code_of(missing) == "InvalidPart"
    shown = client.get_object_attributes(
        **upload.where, ObjectAttributes=["ETag", "ObjectParts", "ObjectSize"], MaxParts=2
    )
    parts = shown["ObjectParts"]
    assert [(part["PartNumber"], part["Size"]) for part in parts["Parts"]] == [(1, 5 * MIB), (3, 5 * MIB + 1)]
    assert (parts["TotalPartsCount"], parts["IsTruncated"]) == (3, True)
    copied = {"Bucket": BUCKET, "Key": "copied"}
    client.copy_object(**copied, CopySource=upload.where)
    assert client.head_object(**copied)["ETag"] == f'"{hashlib.md5(upload.data).hexdigest()}"'


def test_the_last_of_several_uploads_of_a_part_counts(client: Any) -> None:
    upload = Upload(client, "again")
    first = upload.send(1, bytes_of(5 * MIB, 1))
    second = upload.send(1, bytes_of(5 * MIB, 2))
    upload.send(2, b"end")
    with pytest.raises(ClientError) as former:
        upload.complete_with([{"PartNumber": 1, "ETag": first["ETag"]}, upload.parts[2][1]])
    assert code_of(former) == "InvalidPart"
    listed = client.list_parts(**upload.where, UploadId=upload.id)["Parts"]
    assert [part["ETag"] for part in listed] == [second["ETag"], upload.parts[2][1]["ETag"]]
    upload.complete()
    assert client.get_object(**upload.where)["Body"].read() == upload.data


def test_parts_that_are_not_listed_are_given_up(client: Any) -> None:
    upload = Upload(client, "unlisted")
    upload.send(1, bytes_of(100, 1))
    upload.send(2, bytes_of(100, 2))
    upload.complete([2])
    assert client.get_object(**upload.where)["Body"].read() == upload.parts[2][0]
    assert client.head_object(**upload.where, PartNumber=2)["PartsCount"] == 1
    with pytest.raises(ClientError) as other:
        upload.complete([1])
    assert code_of(other) == "NoSuchUpload"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda parts: [], "MalformedXML"),
        (lambda parts: parts[::-1], "InvalidPartOrder"),
        (lambda parts: [{**parts[0], "ETag": "0" * 32}, parts[1]], "InvalidPart"),
        (lambda parts: [*parts, {**parts[1], "PartNumber": 3}], "InvalidPart"),
        (lambda parts: [parts[1], {**parts[1], "PartNumber": 10_001}], "InvalidArgument"),
        (lambda parts: parts, "EntityTooSmall"),
    ],
)
def test_a_list_of_parts_that_is_not_one_changes_nothing(client: Any, change: Any, code: str) -> None:
    upload = Upload(client, "refused")
    upload.send(1, bytes_of(5 * MIB - 1, 1))
    upload.send(2, b"end")
    with pytest.raises(ClientError) as refused:
        upload.complete_with(change([upload.parts[1][1], upload.parts[2][1]]))
    assert code_of(refused) == code
    assert len(client.list_parts(**upload.where, UploadId=upload.id)["Parts"]) == 2
    client.abort_multipart_upload(**upload.where, UploadId=upload.id)


def test_etags_come_with_or_without_quotes(client: Any) -> None:
    upload = Upload(client, "quotes")
    upload.send(1, b"x" * 10)
    upload.complete_with([{"PartNumber": 1, "ETag": upload.parts[1][1]["ETag"].strip('"')}])
    assert client.get_object(**upload.where)["Body"].read() == b"x" * 10


def test_an_upload_that_is_not_ours_does_not_exist(client: Any) -> None:
    upload = Upload(client, "mine")
    upload.send(1, b"x")
    other = {**upload.where, "Key": "other"}
    asks = [
        lambda where, id: client.upload_part(**where, UploadId=id, PartNumber=1, Body=b"y"),
        lambda where, id: client.list_parts(**where, UploadId=id),
        lambda where, id: client.abort_multipart_upload(**where, UploadId=id),
        lambda where, id: client.complete_multipart_upload(
            **where, UploadId=id, MultipartUpload={"Parts": [upload.parts[1][1]]}
        ),
    ]
    for ask in asks:
        for where, upload_id in [(other, upload.id), (upload.where, "x"), (upload.where, upload.id + "A")]:
            with pytest.raises(ClientError) as refused:
                ask(where, upload_id)
            assert code_of(refused) == "NoSuchUpload"
    client.abort_multipart_upload(**upload.where, UploadId=upload.id)
    for ask in asks:
        with pytest.raises(ClientError) as refused:
            ask(upload.where, upload.id)
        assert code_of(refused) == "NoSuchUpload"


def test_parts_are_copied_from_objects(client: Any) -> None:
    source = {"Bucket": BUCKET, "Key": "source"}
    data = bytes_of(9 * MIB)
    client.put_object(**source, Body=data)
    upload = Upload(client, "from-parts")

    def copy(number: int, **options: Any) -> dict[str, Any]:
        return dict(
            client.upload_part_copy(
                **upload.where, UploadId=upload.id, PartNumber=number, CopySource=source, **options
            )["CopyPartResult"]
        )

    first = copy(1, CopySourceRange=f"bytes=0-{5 * MIB}")
    assert first["ETag"] == f'"{hashlib.md5(data[: 5 * MIB + 1]).hexdigest()}"'
    second = copy(2)
    for wrong, code in [
        (f"bytes=0-{9 * MIB}", "InvalidRange"),
        ("bytes=5-", "InvalidArgument"),
        ("bytes=5-4", "InvalidArgument"),
    ]:
        with pytest.raises(ClientError) as refused:
            copy(3, CopySourceRange=wrong)
        assert code_of(refused) == code
    with pytest.raises(ClientError) as unmet:
        copy(3, CopySourceIfMatch="0" * 32)
    assert code_of(unmet) == "PreconditionFailed"
    upload.complete_with(
        [{"PartNumber": 1, "ETag": first["ETag"]}, {"PartNumber": 2, "ETag": second["ETag"]}]
    )
    assert client.get_object(**upload.where)["Body"].read() == data[: 5 * MIB + 1] + data


def test_conditions_are_decided_at_the_end(client: Any) -> None:
    upload = Upload(client, "conditional")
    upload.send(1, b"first")
    with pytest.raises(ClientError) as absent:
        upload.complete(IfMatch="0" * 32)
    assert code_of(absent) == "NoSuchKey"
    client.put_object(**upload.where, Body=b"quicker")
    with pytest.raises(ClientError) as unmet:
        upload.complete(IfNoneMatch="*")
    assert code_of(unmet) == "PreconditionFailed"
    assert client.get_object(**upload.where)["Body"].read() == b"quicker"
    upload.complete(IfMatch=client.head_object(**upload.where)["ETag"])
    assert client.get_object(**upload.where)["Body"].read() == b"first"


def checksum(algorithm: str, data: bytes) -> bytes:
    match algorithm:
        case "CRC32":
            return zlib.crc32(data).to_bytes(4, "big")
        case "CRC64NVME":
            return int(anycrc.Model("CRC64-NVME").calc(data)).to_bytes(8, "big")
        case _:
            return hashlib.new(algorithm, data).digest()


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [
        ("CRC32", "COMPOSITE"),
        ("CRC32", "FULL_OBJECT"),
        ("CRC64NVME", "FULL_OBJECT"),
        ("SHA256", "COMPOSITE"),
    ],
)
def test_checksums_of_the_whole_follow_from_the_parts(client: Any, algorithm: str, kind: str) -> None:
    name = f"Checksum{algorithm}"
    upload = Upload(client, f"sum-{algorithm}-{kind}", ChecksumAlgorithm=algorithm, ChecksumType=kind)
    datas = [bytes_of(5 * MIB, 1), bytes_of(17, 2)]
    for number, data in enumerate(datas, 1):
        value = base64.b64encode(checksum(algorithm, data)).decode()
        assert upload.send(number, data, **{name: value})[name] == value
    digests = b"".join(checksum(algorithm, data) for data in datas)
    if kind == "COMPOSITE":
        expected = base64.b64encode(checksum(algorithm, digests)).decode() + "-2"
    else:
        expected = base64.b64encode(checksum(algorithm, upload.data)).decode()
    with pytest.raises(ClientError) as wrong:
        upload.complete(None, **{name: base64.b64encode(bytes(len(digests) // 2)).decode()})
    assert code_of(wrong) == "BadDigest"
    done = upload.complete(None, **{name: expected})
    assert (done[name], done["ChecksumType"]) == (expected, kind)
    assert upload.complete()[name] == expected
    head = client.head_object(**upload.where, ChecksumMode="ENABLED")
    assert (head[name], head["ChecksumType"]) == (expected, kind)
    asked = client.get_object_attributes(**upload.where, ObjectAttributes=["Checksum"])["Checksum"]
    assert (asked[name], asked["ChecksumType"]) == (expected, kind)
    part = client.get_object(**upload.where, ChecksumMode="ENABLED", PartNumber=2)
    assert part["Body"].read() == datas[1]
    assert (base64.b64decode(part[name]), part["ChecksumType"]) == (checksum(algorithm, datas[1]), kind)


def test_a_part_that_is_not_what_was_promised_is_none(client: Any) -> None:
    upload = Upload(client, "promised", ChecksumAlgorithm="SHA256")
    for wrong in (
        {
            "ContentMD5": base64.b64encode(hashlib.md5(b"abd").digest()).decode(),
            "ChecksumAlgorithm": "SHA256",
        },
        {"ChecksumSHA256": base64.b64encode(hashlib.sha256(b"abd").digest()).decode()},
    ):
        with pytest.raises(ClientError) as digest:
            upload.send(1, b"abc", **wrong)
        assert code_of(digest) == "BadDigest"
    with pytest.raises(ClientError) as other:
        upload.send(1, b"abc", ChecksumCRC32=base64.b64encode(zlib.crc32(b"abc").to_bytes(4, "big")).decode())
    assert code_of(other) == "InvalidRequest"
    for number in (0, 10_001):
        with pytest.raises(ClientError) as refused:
            upload.send(number, b"abc")
        assert code_of(refused) == "InvalidArgument"
    assert "Parts" not in client.list_parts(**upload.where, UploadId=upload.id)
    upload.send(10_000, b"", ChecksumAlgorithm="SHA256")
    assert upload.complete()["ETag"].endswith('-1"')
    assert client.get_object(**upload.where)["Body"].read() == b""


def test_uploads_and_parts_are_listed_page_by_page(client: Any) -> None:
    client.create_bucket(Bucket="lists")
    keys = ["a", "b/1", "b/2", "c", "c"]
    for key in keys:
        client.create_multipart_upload(Bucket="lists", Key=key, StorageClass="REDUCED_REDUNDANCY")
    pages = client.get_paginator("list_multipart_uploads")
    found = [
        upload
        for page in pages.paginate(Bucket="lists", PaginationConfig={"PageSize": 2})
        for upload in page["Uploads"]
    ]
    assert [upload["Key"] for upload in found] == keys
    assert len({upload["UploadId"] for upload in found}) == 5
    assert {upload["StorageClass"] for upload in found} == {"REDUCED_REDUNDANCY"}
    owner = client.list_buckets()["Owner"]["ID"]
    assert {(upload["Owner"]["ID"], upload["Initiator"]["ID"]) for upload in found} == {(owner, owner)}
    rolled = client.list_multipart_uploads(Bucket="lists", Delimiter="/", MaxUploads=3)
    assert [upload["Key"] for upload in rolled["Uploads"]] == ["a", "c"]
    assert [prefix["Prefix"] for prefix in rolled["CommonPrefixes"]] == ["b/"]
    assert rolled["IsTruncated"]
    below = client.list_multipart_uploads(Bucket="lists", Prefix="b/")
    assert [upload["Key"] for upload in below["Uploads"]] == ["b/1", "b/2"]
    where = {"Bucket": "lists", "Key": found[0]["Key"], "UploadId": found[0]["UploadId"]}
    for number in (1, 3, 5):
        client.upload_part(**where, PartNumber=number, Body=b"%d" % number)
    parts = [
        part["PartNumber"]
        for page in client.get_paginator("list_parts").paginate(**where, PaginationConfig={"PageSize": 2})
        for part in page["Parts"]
    ]
    assert parts == [1, 3, 5]
    for upload in found:
        client.abort_multipart_upload(Bucket="lists", Key=upload["Key"], UploadId=upload["UploadId"])
    assert "Uploads" not in client.list_multipart_uploads(Bucket="lists")
    client.delete_bucket(Bucket="lists")


@pytest.mark.parametrize("is_aborted", [True, False])
def test_a_part_whose_upload_ends_under_it_is_one_of_no_upload(
    gateway: RunningGateway, client: Any, is_aborted: bool
) -> None:
    """Its chunks are given up before they come, which is no fault of the request."""
    upload = Upload(client, f"ends under a part {is_aborted}")
    upload.send(1, b"first")
    path = f"/{BUCKET}/{upload.where['Key'].replace(' ', '%20')}?partNumber=2&uploadId={upload.id}"
    head = Wire(gateway).head("PUT", path, {"Content-Length": str(MIB)})
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
        connection.sendall(head + bytes(MIB // 2))
        time.sleep(0.3)  # it is on its way; where it is not yet, the answer is the same
        if is_aborted:
            client.abort_multipart_upload(**upload.where, UploadId=upload.id)
        else:
            upload.complete()
        connection.sendall(bytes(MIB - MIB // 2))
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 404 "), answer
    assert b"<Code>NoSuchUpload</Code>" in answer
