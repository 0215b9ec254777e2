"""Forms of browsers at a gateway: botocore signs them, urllib3 writes them, and a store keeps their files."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import time
import zlib
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest

from s3_forms import CONTENT_TYPE, END, part, written
from s3_kit import RunningGateway, root_client, s3_store
from warehouse.conf.profile import Profile

BUCKET = "forms"
SETTINGS = '[s3]\nsignature_v2 = "on"\ndomains = ["s3.localhost"]\n'
FILE = hashlib.shake_256(b"form").digest(700_000)
REDIRECT = "http://site.example/done?from=form#end"


class Heard(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return ElementTree.fromstring(self.body).findtext("Code") or ""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with s3_store(tmp_path_factory.mktemp("forms"), config=SETTINGS) as gateway:
        with root_client(gateway) as client:
            client.create_bucket(Bucket=BUCKET)
        yield gateway


@pytest.fixture(scope="module")
def client(gateway: RunningGateway) -> Iterator[Any]:
    """It only signs, so it has no connection."""
    with root_client(gateway) as client:
        yield client


def post(
    gateway: RunningGateway,
    body: bytes,
    headers: Mapping[str, str] | None = None,
    path: str = f"/{BUCKET}",
) -> Heard:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    try:
        connection.request("POST", path, body, {"Content-Type": CONTENT_TYPE.decode(), **(headers or {})})
        answer = connection.getresponse()
        return Heard(answer.status, dict(answer.headers), answer.read())
    finally:
        connection.close()


def signed(
    client: Any,
    key: str,
    fields: Mapping[str, str] | None = None,
    conditions: Sequence[Any] = (),
    expires_s: int = 60,
) -> dict[str, str]:
    """The fields of a form as botocore signs it; it wants conditions for them, too."""
    named = [{name: value} for name, value in (fields or {}).items()]
    made = client.generate_presigned_post(
        BUCKET, key, Fields=dict(fields or {}), Conditions=[*named, *conditions], ExpiresIn=expires_s
    )
    assert urlsplit(made["url"]).path == f"/{BUCKET}"
    return dict(made["fields"])


def signed_v2(gateway: RunningGateway, key: str, conditions: Sequence[Any]) -> dict[str, str]:
    """The fields of a form as the documentation of signatures of version 2 has them."""
    profile = Profile.load(gateway.store.profile)
    expiration = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 60))
    policy = b64encode(json.dumps({"expiration": expiration, "conditions": conditions}).encode())
    signature = b64encode(hmac.digest(profile.secret.encode(), policy, "sha1")).decode()
    return {
        "key": key,
        "AWSAccessKeyId": profile.key_id,
        "policy": policy.decode(),
        "signature": signature,
    }


def ask(client: Any, method: str, key: str) -> Heard:
    url = urlsplit(client.generate_presigned_url(f"{method.lower()}_object", {"Bucket": BUCKET, "Key": key}))
    connection = http.client.HTTPConnection(url.netloc, timeout=30)
    try:
        connection.request(method, f"{url.path}?{url.query}")
        answer = connection.getresponse()
        return Heard(answer.status, dict(answer.headers), answer.read())
    finally:
        connection.close()


def stored(client: Any, key: str) -> Heard:
    heard = ask(client, "GET", key)
    assert heard.status == 200, heard
    return heard


def is_stored(client: Any, key: str) -> bool:
    status = ask(client, "HEAD", key).status
    assert status in (200, 404)
    return status == 200


@pytest.mark.parametrize("size", [0, 3, len(FILE)])
def test_a_form_that_botocore_has_signed_is_stored(gateway: RunningGateway, client: Any, size: int) -> None:
    fields = signed(client, f"photos/{size} ü.png", {"Content-Type": "image/png", "x-amz-meta-who": "Zoe"})
    heard = post(gateway, written(fields, FILE[:size], "b.png"))
    assert heard.status == 204, heard
    assert heard.body == b""
    got = stored(client, f"photos/{size} ü.png")
    assert got.body == FILE[:size]
    assert (got.headers["Content-Type"], got.headers["x-amz-meta-who"]) == ("image/png", "Zoe")
    assert heard.headers["ETag"] == got.headers["ETag"]
    assert heard.headers["Location"] == f"{gateway.url}/{BUCKET}/photos/{size}%20%C3%BC.png"


def test_a_form_of_version_2_is_stored_and_a_wrong_one_is_not(gateway: RunningGateway, client: Any) -> None:
    fields = signed_v2(gateway, "old", [{"bucket": BUCKET}, ["starts-with", "$key", "o"]])
    assert post(gateway, written(fields, FILE)).status == 204
    assert stored(client, "old").body == FILE
    heard = post(gateway, written({**fields, "key": "other", "signature": "A" * 27 + "="}, FILE))
    assert (heard.status, heard.code) == (403, "SignatureDoesNotMatch")
    assert not is_stored(client, "other")


def test_the_name_of_the_file_becomes_part_of_the_key(gateway: RunningGateway, client: Any) -> None:
    fields = signed(client, "up/${filename}")
    assert post(gateway, written(fields, b"x", "C:\\photos\\Zoë.png")).status == 204
    assert stored(client, "up/Zoë.png").body == b"x"
    policy = [{"bucket": BUCKET}, ["starts-with", "$key", "foo"]]
    heard = post(gateway, written(signed_v2(gateway, "${filename}", policy), b"x", "bar.txt"))
    assert (heard.status, heard.code) == (403, "AccessDenied")


def test_headers_and_tags_of_a_form_are_kept(gateway: RunningGateway, client: Any) -> None:
    tagging = "<Tagging><TagSet><Tag><Key>a b</Key><Value>c=d+é</Value></Tag></TagSet></Tagging>"
    kept = {"Cache-Control": "no-store", "Content-Disposition": "inline", "Content-Encoding": "br"}
    fields = signed(client, "kept", {**kept, "tagging": tagging})
    assert post(gateway, written(fields, FILE)).status == 204
    got = stored(client, "kept")
    assert {name: got.headers[name] for name in kept} == kept
    assert got.headers["ETag"] == f'"{hashlib.md5(FILE).hexdigest()}"'
    with root_client(gateway) as asking:
        tags = asking.get_object_tagging(Bucket=BUCKET, Key="kept")["TagSet"]
    assert tags == [{"Key": "a b", "Value": "c=d+é"}]
    heard = post(gateway, written(signed(client, "untagged", {"tagging": "<Tagging>"}), b"x"))
    assert (heard.status, heard.code) == (400, "MalformedXML")
    assert not is_stored(client, "untagged")


@pytest.mark.parametrize(
    ("fields", "status", "location"),
    [
        ({"success_action_status": "200"}, 200, None),
        ({"success_action_status": "404"}, 204, None),
        ({"success_action_status": "201"}, 201, None),
        (
            {"success_action_redirect": REDIRECT},
            303,
            f"http://site.example/done?from=form&bucket={BUCKET}&key=answered&etag=%22ETAG%22#end",
        ),
        ({"success_action_redirect": "javascript:alert(1)", "success_action_status": "200"}, 200, None),
    ],
)
def test_the_browser_hears_what_its_form_asked_for(
    gateway: RunningGateway, client: Any, fields: dict[str, str], status: int, location: str | None
) -> None:
    heard = post(gateway, written(signed(client, "answered", fields), b"x"))
    etag = stored(client, "answered").headers["ETag"]
    assert heard.status == status
    assert heard.headers["ETag"] == etag
    at = f"{gateway.url}/{BUCKET}/answered"
    assert heard.headers["Location"] == (location or at).replace("ETAG", etag.strip('"'))
    if status != 201:
        assert heard.body == b""
        return
    document = {one.tag: one.text for one in ElementTree.fromstring(heard.body)}
    assert document == {"Location": at, "Bucket": BUCKET, "Key": "answered", "ETag": etag}


def test_a_form_may_go_to_the_host_of_its_bucket(gateway: RunningGateway, client: Any) -> None:
    host = f"{BUCKET}.s3.localhost:{gateway.port}"
    heard = post(gateway, written(signed(client, "hosted"), b"x"), {"Host": host}, "/")
    assert (heard.status, heard.headers["Location"]) == (204, f"http://{host}/hosted")
    assert stored(client, "hosted").body == b"x"


def test_a_form_may_say_what_its_file_must_be(gateway: RunningGateway, client: Any) -> None:
    crc = b64encode(zlib.crc32(FILE).to_bytes(4, "big")).decode()
    md5 = b64encode(hashlib.md5(FILE).digest()).decode()
    fields = signed(client, "whole")
    assert post(gateway, written({**fields, "x-amz-checksum-crc32": crc}, FILE)).status == 204
    assert post(gateway, written({**fields, "Content-MD5": md5}, FILE)).status == 204
    fields = signed(client, "changed")
    for name, value in (("x-amz-checksum-crc32", crc), ("Content-MD5", md5)):
        heard = post(gateway, written({**fields, name: value}, FILE[:-1] + b"?"))
        assert (heard.status, heard.code) == (400, "BadDigest")
    assert not is_stored(client, "changed")


@pytest.mark.parametrize(
    ("size", "code"), [(9, "EntityTooSmall"), (10, ""), (600_000, ""), (600_001, "EntityTooLarge")]
)
def test_the_size_of_a_file_is_that_of_the_policy(
    gateway: RunningGateway, client: Any, size: int, code: str
) -> None:
    fields = signed(client, f"sized-{size}", None, [["content-length-range", 10, 600_000]])
    heard = post(gateway, written(fields, FILE[:size]))
    assert heard.status == (400 if code else 204)
    assert not code or heard.code == code
    assert is_stored(client, f"sized-{size}") == (not code)


def test_a_condition_of_the_request_counts(gateway: RunningGateway, client: Any) -> None:
    fields = signed(client, "once")
    assert post(gateway, written(fields, b"1"), {"If-None-Match": "*"}).status == 204
    heard = post(gateway, written(fields, b"2"), {"If-None-Match": "*"})
    assert (heard.status, heard.code) == (412, "PreconditionFailed")
    assert stored(client, "once").body == b"1"


def test_what_a_form_asks_for_and_is_not_there_says_so(gateway: RunningGateway, client: Any) -> None:
    for name, value in (("acl", "public-read"), ("x-amz-server-side-encryption", "AES256")):
        heard = post(gateway, written(signed(client, "refused", {name: value}), b"x"))
        assert (heard.status, heard.code) == (501, "NotImplemented")
    assert not is_stored(client, "refused")


def _changed(fields: dict[str, str], name: str, value: str | None) -> dict[str, str]:
    changed = {key: text for key, text in fields.items() if key != name}
    return changed if value is None else {**changed, name: value}


@pytest.mark.parametrize(
    ("name", "value", "status", "code"),
    [
        ("x-amz-signature", "0" * 64, 403, "SignatureDoesNotMatch"),
        ("x-amz-signature", "ü", 403, "SignatureDoesNotMatch"),
        ("x-amz-signature", None, 400, "InvalidArgument"),
        ("x-amz-credential", "NOBODY/20260101/us-east-1/s3/aws4_request", 400, "InvalidArgument"),
        ("x-amz-algorithm", "AWS4-ECDSA-P256-SHA256", 501, "NotImplemented"),
        ("x-amz-date", "19990101T000000Z", 400, "InvalidArgument"),
        ("x-amz-security-token", "token", 400, "InvalidToken"),
        ("AWSAccessKeyId", "both", 400, "InvalidArgument"),
        ("policy", "e30=", 403, "SignatureDoesNotMatch"),
        ("policy", None, 400, "InvalidArgument"),
        ("key", None, 400, "InvalidArgument"),
        ("key", "elsewhere", 403, "AccessDenied"),
        ("x-amz-meta-more", "x", 403, "AccessDenied"),
        ("bucket", "another", 403, "AccessDenied"),
        ("x-amz-checksum-sha256", "sailorjerry", 400, "BadDigest"),
        ("x-amz-checksum-sha512", "x", 501, "NotImplemented"),
        ("tagging", "<Tagging/>", 403, "AccessDenied"),
    ],
)
def test_a_field_that_was_changed_is_refused(
    gateway: RunningGateway, client: Any, name: str, value: str | None, status: int, code: str
) -> None:
    fields = signed(client, "guarded", None, [["starts-with", "$key", "guard"]])
    heard = post(gateway, written(_changed(fields, name, value), b"x"))
    assert (heard.status, heard.code) == (status, code)
    assert b"<RequestId>" in heard.body
    assert not is_stored(client, "guarded")


def test_nobody_writes_without_a_policy_or_by_an_old_one(gateway: RunningGateway, client: Any) -> None:
    heard = post(gateway, written({"key": "anonymous"}, b"x"))
    assert (heard.status, heard.code) == (403, "AccessDenied")
    heard = post(gateway, written(signed(client, "late", expires_s=-1), b"x"))
    assert (heard.status, heard.code) == (403, "AccessDenied")
    assert not is_stored(client, "anonymous")
    assert not is_stored(client, "late")


def test_a_policy_that_was_signed_and_cannot_be_read_is_refused(gateway: RunningGateway, client: Any) -> None:
    for conditions in (["no condition"], [["content-length-range", 0]], [["content-length-range", -1, 0]]):
        heard = post(gateway, written(signed_v2(gateway, "unread", conditions), b"x"))
        assert (heard.status, heard.code) == (400, "InvalidPolicyDocument")
    assert not is_stored(client, "unread")


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        (lambda body: body[: -len(END)], 400, "MalformedPOSTRequest"),
        (lambda body: body.removesuffix(b"--\r\n") + b"\r\n", 400, "MalformedPOSTRequest"),
        (lambda body: body + b"more", 400, "MalformedPOSTRequest"),
        (lambda body: b"before" + body, 400, "MalformedPOSTRequest"),
        (lambda body: b"", 400, "MalformedPOSTRequest"),
        (lambda body: END, 400, "IncorrectNumberOfFilesInPostRequest"),
        (lambda body: part("key", b"twice") + body, 400, "MalformedPOSTRequest"),
        (lambda body: body[: -len(END)] + part("file", b"2") + END, 400, "IncorrectNumberOfFilesInPostRequest"),
        (lambda body: part("key2", b"x" * 21_000) + body, 400, "MaxPostPreDataLengthExceededError"),
        (lambda body: body.replace(b"form-data", b"attachment", 1), 400, "MalformedPOSTRequest"),
    ],
    ids=[
        "no end",
        "half an end",
        "bytes after the end",
        "bytes before the beginning",
        "nothing",
        "no file",
        "a field twice",
        "two files",
        "fields of 21 KB",
        "no form-data",
    ],
)  # fmt: skip
def test_a_form_that_cannot_be_read_stores_nothing(
    gateway: RunningGateway, client: Any, change: Any, status: int, code: str
) -> None:
    body = change(written(signed(client, "unreadable"), FILE))
    heard = post(gateway, body)
    assert (heard.status, heard.code) == (status, code)
    assert not is_stored(client, "unreadable")


@pytest.mark.parametrize(
    ("headers", "path", "status", "code"),
    [
        ({"Content-Type": "text/plain"}, f"/{BUCKET}", 412, "PreconditionFailed"),
        ({"Content-Type": "multipart/form-data"}, f"/{BUCKET}", 400, "MalformedPOSTRequest"),
        ({"Authorization": "AWS key:signature"}, f"/{BUCKET}", 403, "AccessDenied"),
        ({"x-amz-server-side-encryption": "AES256"}, f"/{BUCKET}", 501, "NotImplemented"),
        ({}, f"/{BUCKET}/key", 405, "MethodNotAllowed"),
        ({}, "/", 405, "MethodNotAllowed"),
        ({}, "/UPPER", 400, "InvalidBucketName"),
        ({}, "/not-there", 404, "NoSuchBucket"),
    ],
)
def test_a_form_to_the_wrong_place_is_refused(
    gateway: RunningGateway, client: Any, headers: dict[str, str], path: str, status: int, code: str
) -> None:
    bucket = path[1:].split("/")[0]
    fields = signed_v2(gateway, "misplaced", [{"bucket": bucket}, {"key": "misplaced"}])
    heard = post(gateway, written(fields, b"x"), headers, path)
    assert (heard.status, heard.code) == (status, code)
    assert not is_stored(client, "misplaced")


def test_a_form_that_ends_in_the_middle_of_its_file_stores_nothing(
    gateway: RunningGateway, client: Any
) -> None:
    body = written(signed(client, "cut"), FILE)
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    connection.putrequest("POST", f"/{BUCKET}")
    connection.putheader("Content-Type", CONTENT_TYPE.decode())
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[: len(body) // 2])
    connection.close()
    assert post(gateway, written(signed(client, "after"), b"x")).status == 204
    assert not is_stored(client, "cut")
