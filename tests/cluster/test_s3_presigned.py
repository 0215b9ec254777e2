"""Presigned requests at a running gateway: botocore signs them, and a client that knows nothing sends them."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest

from s3_kit import RunningGateway, root_client, s3_store
from s3_wire import Heard

BUCKET = "shared"
SETTINGS = '[s3]\nsignature_v2 = "on"\n'
WHERE = {"Bucket": BUCKET, "Key": "a b/ü+%.txt"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with s3_store(tmp_path_factory.mktemp("presigned"), config=SETTINGS) as gateway:
        with root_client(gateway) as client:
            client.create_bucket(Bucket=BUCKET)
        yield gateway


@pytest.fixture(scope="module", params=["s3v4", "s3"])
def client(gateway: RunningGateway, request: pytest.FixtureRequest) -> Iterator[Any]:
    """It only signs, so it has no connection."""
    with root_client(gateway, signature_version=request.param) as client:
        yield client


def send(url: str, method: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Heard:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.netloc, timeout=30)
    try:
        connection.request(method, f"{address.path}?{address.query}", body, dict(headers or {}))
        answer = connection.getresponse()
        return Heard(answer.status, dict(answer.headers), answer.read())
    finally:
        connection.close()


def signed(client: Any, operation: str, expires_s: int = 60, **more: Any) -> str:
    url: str = client.generate_presigned_url(operation, {**WHERE, **more}, ExpiresIn=expires_s)
    return url


def test_an_object_lives_by_presigned_requests_alone(client: Any) -> None:
    put = send(signed(client, "put_object"), "PUT", b"shared")
    assert put.status == 200
    got = send(signed(client, "get_object"), "GET")
    assert (got.status, got.body, got.headers["ETag"]) == (200, b"shared", put.headers["ETag"])
    part = send(signed(client, "get_object"), "GET", headers={"Range": "bytes=1-3"})
    assert (part.status, part.body) == (206, b"har")
    head = send(signed(client, "head_object"), "HEAD")
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", "6")
    listed = send(client.generate_presigned_url("list_objects_v2", {"Bucket": BUCKET}), "GET")
    assert (listed.status, listed.body.count(b"<Contents>")) == (200, 1)
    assert send(signed(client, "delete_object"), "DELETE").status == 204
    assert send(signed(client, "get_object"), "GET").code == "NoSuchKey"


def test_the_url_says_how_the_answer_looks(client: Any) -> None:
    send(signed(client, "put_object"), "PUT", b"shared")
    asked = {
        "ResponseContentType": "image/png",
        "ResponseContentDisposition": 'attachment; filename="a b.png"',
        "ResponseCacheControl": "no-store",
        "ResponseContentLanguage": "de",
        "ResponseContentEncoding": "br",
    }
    for operation, method in (("get_object", "GET"), ("head_object", "HEAD")):
        heard = send(signed(client, operation, 60, **asked), method)
        assert heard.status == 200
        assert {heard.headers[name] for name in (
            "Content-Type",
            "Content-Disposition",
            "Cache-Control",
            "Content-Language",
            "Content-Encoding",
        )} == set(asked.values())  # fmt: skip
    url = signed(client, "get_object", 60, **asked)
    assert send(url.replace("image%2Fpng", "text%2Fhtml"), "GET").code == "SignatureDoesNotMatch"


def test_a_presigned_request_is_for_what_was_signed(client: Any) -> None:
    send(signed(client, "put_object"), "PUT", b"shared")
    url = signed(client, "get_object")
    for changed, method in (
        (url, "HEAD"),
        (url, "DELETE"),
        (url, "PUT"),
        (url.replace("/a%20b/", "/another/"), "GET"),
        (url[:-2] + ("A=" if url[-2:] != "A=" else "B="), "GET"),
        (url + "&partNumber=1", "GET"),
        (url + "&acl", "GET"),
    ):
        heard = send(changed, method)
        assert heard.status in (400, 403), (changed, method, heard)
    assert send(url, "GET").body == b"shared"


def test_a_presigned_request_ends(client: Any) -> None:
    send(signed(client, "put_object"), "PUT", b"shared")
    url = signed(client, "get_object", expires_s=1)
    deadline = time.monotonic() + 20
    while (heard := send(url, "GET")).status == 200 and time.monotonic() < deadline:
        time.sleep(0.1)  # the clock of the gateway is the condition
    assert (heard.status, heard.code) == (403, "AccessDenied")
    assert b"Request has expired" in heard.body


def test_what_a_presigned_request_asks_for_and_is_not_there_says_so(client: Any) -> None:
    heard = send(signed(client, "put_object", ServerSideEncryption="AES256"), "PUT", b"x")
    assert heard.status in (403, 501), heard  # version 2 signs a header that was not sent
    assert heard.code in ("NotImplemented", "SignatureDoesNotMatch")


def test_metadata_in_a_presigned_query_is_kept(gateway: RunningGateway) -> None:
    with root_client(gateway) as client:
        url = signed(client, "put_object", Metadata={"who": "Zoe"}, ContentType="text/x-odd")
        sent = {"Content-Type": "text/x-odd"}
        assert send(url, "PUT", b"x", sent).status == 403 or "x-amz-meta-who" in url
        heard = send(url, "PUT", b"x", {**sent, "x-amz-meta-who": "Zoe"})
        assert heard.status == 200, heard
        got = send(signed(client, "get_object"), "GET")
        assert (got.headers["x-amz-meta-who"], got.headers["Content-Type"]) == ("Zoe", "text/x-odd")
