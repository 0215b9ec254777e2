"""The data port does what a request asks for, or refuses it; and its refusals can be understood."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path

import pytest
import trio
from crc32c import crc32c

from actor_kit import Actor, data_token, serving_actor
from http_harness import Answer, receive_all, split_answers
from warehouse.storage.format.needle import NeedleMetadata
from warehouse.transport.http.batch_format import GET_ROUTE, PUT_ROUTE
from warehouse.transport.messages import etag_of

STORED_MS = 1_790_000_000_500
STORED = formatdate(STORED_MS // 1000, usegmt=True)
EARLIER = formatdate(STORED_MS // 1000 - 1, usegmt=True)
SMALL, LARGE, FIRST, SECOND, BADLY_TYPED, GONE = 1, 2, 3, 4, 5, 6
DATA = {
    SMALL: b"small and simple",
    LARGE: bytes(range(256)) * 4097,
    FIRST: b"first part, ",
    SECOND: b"second part",
}
KINDS = ["small", "large", "object"]


@pytest.fixture
async def actor(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Actor]:
    async with serving_actor(tmp_path, nursery) as actor:
        for needle_id, data in DATA.items():
            metadata = NeedleMetadata("b", 1, f"key {needle_id}", STORED_MS, "text/x-test")
            actor.volume.append(needle_id, metadata, data, stamp=needle_id)
        for needle_id in (BADLY_TYPED, GONE):
            metadata = NeedleMetadata("b", 1, "key", STORED_MS, "text/html\r\nX-Forged: 1")
            actor.volume.append(needle_id, metadata, b"typed", stamp=needle_id)
        actor.volume.delete(GONE, stamp=50)
        yield actor


async def call(
    actor: Actor, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b""
) -> Answer:
    fields = {"Host": "a", "Connection": "close", **(headers or {})}
    if method in ("PUT", "POST"):
        fields.setdefault("Content-Length", str(len(body)))
    head = f"{method} {target} HTTP/1.1\r\n" + "".join(
        f"{name}: {value}\r\n" for name, value in fields.items()
    )
    port = int(actor.url.rpartition(":")[2])
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(head.encode("latin-1") + b"\r\n" + body)
        [answer] = split_answers(await receive_all(stream), is_head=method == "HEAD")
    return answer


def url_of(needle_id: int, **claims: object) -> str:
    return f"/v1/needles/1/{needle_id}?token={data_token(**{'operation': 'get', **claims})}"


def put_url_of(needle_id: int, **claims: object) -> str:
    return url_of(
        needle_id,
        operation="put",
        **{
            "key": "k",
            "first_needle_id": needle_id,
            "last_needle_id": needle_id,
            "body_size_max": 2**23,
            **claims,
        },
    )


def get_target(actor: Actor, kind: str) -> tuple[str, str, bytes]:
    """Return URL, ETag and bytes."""
    if kind == "object":
        parts = [(1, needle_id, len(DATA[needle_id]), "", "") for needle_id in (FIRST, SECOND)]
        return url_of(FIRST, parts=parts, etag="e-2"), "e-2", DATA[FIRST] + DATA[SECOND]
    needle_id = SMALL if kind == "small" else LARGE
    return url_of(needle_id), etag_of(1, needle_id, crc32c(DATA[needle_id])), DATA[needle_id]


CONDITIONS = [
    ({"If-Match": '"{etag}"'}, 200),
    ({"If-Match": '"x", "{etag}"'}, 200),
    ({"If-Match": "*"}, 200),
    ({"If-Match": '"x"'}, 412),
    ({"If-Match": 'W/"{etag}"'}, 412),
    ({"If-Match": "{etag}"}, 412),
    ({"If-Unmodified-Since": STORED}, 200),
    ({"If-Unmodified-Since": EARLIER}, 412),
    ({"If-Unmodified-Since": "Mon Jan  1 00:00:00 2001"}, 412),
    ({"If-Unmodified-Since": "soon"}, 400),
    ({"If-None-Match": '"{etag}"'}, 304),
    ({"If-None-Match": 'W/"{etag}"'}, 304),
    ({"If-None-Match": '"x"'}, 200),
    ({"If-None-Match": "x"}, 400),
    ({"If-Modified-Since": STORED}, 304),
    ({"If-Modified-Since": EARLIER}, 200),
    ({"If-Modified-Since": "soon"}, 400),
    ({"If-Match": '"x"', "If-None-Match": '"{etag}"'}, 412),
    ({"If-None-Match": '"x"', "If-Modified-Since": STORED}, 200),
]


@pytest.mark.parametrize("kind", KINDS)
async def test_every_condition_of_a_get_or_head_is_held_against_the_object(actor: Actor, kind: str) -> None:
    target, etag, data = get_target(actor, kind)
    for method in ("GET", "HEAD"):
        for range_header in ({}, {"Range": "bytes=3-5"}):
            for conditions, expected in CONDITIONS:
                headers = {name: value.replace("{etag}", etag) for name, value in conditions.items()}
                answer = await call(actor, method, target, headers | range_header)
                status = 206 if expected == 200 and range_header else expected
                assert answer.status == status, (method, headers, range_header)
                if method == "GET" and expected == 200:
                    assert answer.body == (data[3:6] if range_header else data)
                if expected != 400 and expected != 412:
                    assert answer.headers[b"etag"] == f'"{etag}"'.encode()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ('"{etag}"', 206),
        (STORED, 206),
        ('W/"{etag}"', 200),
        ('"x"', 200),
        (EARLIER, 200),
        ("{etag}", 400),
        ("soon", 400),
    ],
)
async def test_a_range_of_another_version_is_never_sent(
    actor: Actor, kind: str, condition: str, status: int
) -> None:
    target, etag, data = get_target(actor, kind)
    headers = {"If-Range": condition.replace("{etag}", etag)}
    answer = await call(actor, "GET", target, headers | {"Range": "bytes=3-5"})
    assert answer.status == status
    if status != 400:
        assert answer.body == (data[3:6] if status == 206 else data)
    alone = await call(actor, "GET", target, headers)  # RFC 9110, 13.1.5: then it says nothing
    assert alone.status == 200


PUT_REFUSED = [
    ({"If-Match": "unquoted"}, 412, "precondition_failed"),
    ({"If-None-Match": "unquoted"}, 400, "bad_request"),
    ({"If-None-Match": '"' + "x" * 1100 + '"'}, 400, "bad_request"),
    ({"If-Unmodified-Since": STORED}, 400, "bad_request"),
    ({"If-Modified-Since": STORED}, 400, "bad_request"),
    ({"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}, 400, "checksum_mismatch"),
    ({"Content-MD5": "hello"}, 400, "bad_request"),
    ({"Content-Digest": f"sha-256=:{b64encode(bytes(32)).decode()}:"}, 400, "checksum_mismatch"),
    ({"Repr-Digest": "id-sha-256=:AAAA:"}, 400, "bad_request"),
    ({"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="}, 400, "bad_request"),
    ({"x-amz-content-sha256": "0" * 64}, 400, "checksum_mismatch"),
    ({"X-Warehouse-CRC32C": "00000000"}, 400, "checksum_mismatch"),
    ({"X-Warehouse-CRC32": "00000000"}, 400, "bad_request"),  # a header that does not exist
    ({"X-Amz-Meta-Owner": "me"}, 400, "bad_metadata"),
    ({"X-Warehouse-Metadata": "=x"}, 400, "bad_metadata"),
    ({"Content-Encoding": "gzip"}, 415, "unsupported_coding"),
    ({"Content-Encoding": "aws-chunked"}, 415, "unsupported_coding"),
    ({"Content-Range": "bytes 0-4/9"}, 400, "bad_request"),
    ({"Range": "bytes=0-4"}, 400, "bad_request"),
    ({"If-Range": '"x"'}, 400, "bad_request"),
    ({"If": '(["x"])'}, 400, "bad_request"),
    ({"x-goog-if-generation-match": "0"}, 400, "bad_request"),
    ({"Expect": "a-miracle"}, 417, "expectation_failed"),
    ({"Expect": "100-continue, 200-ok"}, 417, "expectation_failed"),
    ({"Trailer": "Content-MD5"}, 400, "bad_request"),
    ({"x-amz-trailer": "x-amz-checksum-crc32"}, 400, "bad_request"),
    ({"x-oss-hash-crc64ecma": "1"}, 400, "bad_request"),
    ({"x-amz-copy-source": "/b/k"}, 400, "bad_request"),
    ({"x-amz-acl": "public-read"}, 400, "bad_request"),
    ({"x-amz-server-side-encryption-customer-key": "k"}, 400, "bad_request"),
    ({"x-amz-tagging": "a=b"}, 400, "bad_request"),
    ({"Content-Disposition": "attachment"}, 400, "bad_request"),
    ({"Content-Language": "de"}, 400, "bad_request"),
    ({"X-Warehouse-Metadata": "a=%zz"}, 400, "bad_metadata"),
    ({"Content-Type": "text/\x01"}, 400, "bad_request"),
    ({"Content-Type": "text/\xe9"}, 400, "bad_metadata"),
    ({"Content-Type": "x" * 256}, 400, "bad_metadata"),
]


@pytest.mark.parametrize("size", [5, 2**20 + 5])
async def test_what_a_put_says_is_honoured_or_it_is_refused_and_changes_nothing(
    actor: Actor, size: int
) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    for headers, status, code in PUT_REFUSED:
        before = actor.volume.stats().live_count
        answer = await call(actor, "PUT", put_url_of(50), headers, body)
        assert (answer.status, json.loads(answer.body)["code"]) == (status, code), headers
        stats = actor.volume.stats()
        assert (stats.live_count, stats.in_flight_bytes) == (before, 0)
    promised = {
        "Expect": "100-Continue, 100-continue",
        "Cache-Control": "no-cache",  # is for those on the way
        "x-amz-date": "20260101T000000Z",
        "x-amz-sdk-checksum-algorithm": "SHA256",
        "Content-MD5": b64encode(hashlib.md5(body).digest()).decode(),
        "Content-Digest": f"sha-256=:{b64encode(hashlib.sha256(body).digest()).decode()}:",
        "X-Warehouse-CRC32C": f"{crc32c(body):08x}",
        "X-Warehouse-Key": "k",
        "Content-Encoding": "identity",
        "If-None-Match": '"x", W/"y"',
        "If-Match": "*",
    }
    answer = await call(actor, "PUT", put_url_of(50), promised, body)
    assert answer.status == 201, answer.body
    # The conditions travel to the master, whose catalog holds them against what is there.
    told = actor.master.needles[-1]
    assert (told.if_match, told.if_none_match) == ("*", '"x", W/"y"')


async def test_a_batch_takes_nothing_that_is_about_one_needle(actor: Actor) -> None:
    authorization = {"Authorization": f"Bearer {data_token(lease_id=1, room=2**30)}"}
    for headers in (
        {"If-None-Match": "*"},
        {"If-Unmodified-Since": STORED},
        {"If-Range": '"x"'},
        {"Expect": "a-miracle"},
        {"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="},
        {"X-Warehouse-CRC32C": "00000000"},
        {"X-Warehouse-Key": "k"},
        {"Content-Encoding": "gzip"},
    ):
        answer = await call(actor, "POST", PUT_ROUTE, authorization | headers, b"x")
        assert answer.status in (400, 415, 417), headers
        assert next(iter(headers)).lower() in answer.body.decode().lower() or b"batch" in answer.body


async def test_a_key_that_can_be_read_in_two_ways_is_refused(actor: Actor) -> None:
    token = {"Authorization": f"Bearer {data_token(first_needle_id=90, last_needle_id=90)}"}
    for key in ("50%", "%zz", "a%2"):
        answer = await call(actor, "PUT", "/v1/needles/1/90", token | {"X-Warehouse-Key": key}, b"x")
        assert (answer.status, json.loads(answer.body)["code"]) == (400, "bad_key"), key
    answer = await call(actor, "PUT", "/v1/needles/1/90", token | {"X-Warehouse-Key": "50%25"}, b"x")
    assert (answer.status, actor.master.needles[-1].key) == (201, "50%")


async def test_a_request_shows_one_token_once(actor: Actor) -> None:
    url, token = url_of(SMALL), data_token(operation="get")
    encoded = url.replace(".", "%2E").replace("/v1/needles/1/", "/v%31/%6Eeedles/%31/")
    for target, headers, status in (
        (url, {}, 200),
        (url + "&utm_source=mail", {}, 200),
        (encoded, {}, 200),
        (f"{url}&token={token}", {}, 400),
        (f"{url}&token=x", {}, 400),
        (url.replace("?", "?token=x&"), {}, 400),
        (url.replace("?", "?%74oken=x&"), {}, 400),
        (url, {"Authorization": f"Bearer {token}"}, 400),
        (url.partition("?")[0] + "?token=x", {"Authorization": f"Bearer {token}"}, 400),
        (f"{url}&response-content-type=text/html", {}, 400),
    ):
        for method in ("GET", "HEAD"):
            assert (await call(actor, method, target, headers)).status == status, (method, target, headers)


async def test_a_server_as_a_whole_says_what_it_answers(actor: Actor) -> None:
    answer = await call(actor, "OPTIONS", "*")
    assert (answer.status, answer.headers[b"allow"]) == (204, b"GET, HEAD, PUT, POST")


async def test_a_refused_method_says_which_are_allowed(actor: Actor) -> None:
    authorization = {"Authorization": f"Bearer {data_token(operation='get')}"}
    for path, allowed in (
        ("/v1/needles/1/1", b"GET, HEAD, PUT"),
        (PUT_ROUTE, b"POST"),
        (GET_ROUTE, b"POST"),
        ("/healthz", b"GET, HEAD"),
    ):
        for method in ("DELETE", "PATCH", "OPTIONS"):
            answer = await call(actor, method, path, authorization)
            assert (answer.status, answer.headers[b"allow"]) == (405, allowed), (method, path)
        assert (await call(actor, "BREW", path, authorization)).status == 501


async def test_a_type_that_no_header_can_hold_is_served_as_plain_bytes(actor: Actor) -> None:
    for headers in ({}, {"Range": "bytes=0-1"}, {"If-None-Match": '"x"'}):
        answer = await call(actor, "GET", url_of(BADLY_TYPED), headers)
        assert answer.status in (200, 206)
        assert answer.headers[b"content-type"] == b"application/octet-stream"
        assert b"x-forged" not in answer.headers
    parts = [(1, FIRST, 12, "", "")]
    answer = await call(actor, "GET", url_of(FIRST, parts=parts, etag="e", content_type="a\r\nX-Forged: 1"))
    assert (answer.status, answer.headers[b"content-type"]) == (200, b"application/octet-stream")


async def test_a_large_put_that_is_sent_again_too_early_is_told_to_wait(actor: Actor) -> None:
    body = bytes(3_000_000)
    headers = {"X-Warehouse-CRC32C": f"{crc32c(body):08x}"}
    port = int(actor.url.rpartition(":")[2])
    async with await trio.open_tcp_stream("127.0.0.1", port) as first:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"PUT {put_url_of(60)} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lines}Content-Length: {len(body)}"
        await first.send_all(head.encode() + b"\r\n\r\n" + body[:2_000_000])
        with trio.fail_after(40):
            while not actor.volume.stats().in_flight_bytes:
                await trio.sleep(0.005)
        for size in (len(body), 10):  # a small one, too
            early = await call(actor, "PUT", put_url_of(60), headers if size > 10 else {}, body[:size])
            assert (early.status, json.loads(early.body)["code"]) == (503, "overloaded")
            assert early.headers[b"retry-after"]
        await first.send_all(body[2_000_000:])
        [answer] = split_answers(await receive_all(first))
        assert answer.status == 201
    again = await call(actor, "PUT", put_url_of(60), headers, body)
    assert (again.status, again.headers[b"etag"]) == (201, answer.headers[b"etag"])
    assert again.body == answer.body, "also the time at which the object was created"


async def test_who_holds_a_url_is_told_what_became_of_it_and_nothing_of_needles(actor: Actor) -> None:
    used = put_url_of(70)
    assert (await call(actor, "PUT", used, body=b"one")).status == 201
    assert (await call(actor, "PUT", used, body=b"one")).status == 201  # a lost answer is repeated
    large = put_url_of(71)
    assert (await call(actor, "PUT", large, body=bytes(2**20 + 1))).status == 201
    words = {}
    for name, answer, status in (
        ("used", await call(actor, "PUT", used, body=b"two"), 409),
        ("used, large", await call(actor, "PUT", large, body=bytes(2**20 + 1)), 409),
        ("replaced", await call(actor, "GET", url_of(GONE)), 404),
        (
            "replaced object",
            await call(actor, "HEAD", url_of(GONE, parts=[(1, GONE, 5, "", "")], etag="e")),
            404,
        ),
        ("given up", await call(actor, "PUT", put_url_of(GONE), body=b"x"), 409),
        ("expired", await call(actor, "GET", url_of(SMALL, expires_at_s=1_000_000_000)), 401),
        ("another disk", await call(actor, "GET", url_of(SMALL, audience="other")), 401),
        ("changed", await call(actor, "GET", url_of(SMALL)[:-2] + "xx"), 401),
    ):
        assert answer.status == status, name
        if answer.body:
            words[name] = json.loads(answer.body)["message"]
    for name, text in words.items():
        assert "URL" in text, name
        for internal in ("volume", "needle", "token", "disk", "lease"):
            assert internal not in text, (name, text)
    assert "used already" in words["used"]
    assert "replaced or deleted" in words["replaced"]
    assert "expired" in words["expired"]


async def test_a_token_for_one_object_fills_no_disk_however_often_it_begins(actor: Actor) -> None:
    """Two URLs take turns, so one of them always lies in the middle of the file."""
    size = 8_000_000
    port = int(actor.url.rpartition(":")[2])
    urls = [
        put_url_of(80, body_size_max=size, room=2 * size),
        put_url_of(81, body_size_max=size, room=2 * size),
    ]
    before = actor.volume.stats().file_size
    statuses = []

    async def begin(url: str) -> trio.SocketStream | None:
        in_flight = actor.volume.stats().in_flight_bytes
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(f"PUT {url} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\nx".encode())
        with trio.fail_after(40):
            while actor.volume.stats().in_flight_bytes == in_flight:
                with trio.move_on_after(0.01) as scope:
                    statuses.append((await stream.receive_some())[9:12])
                if not scope.cancelled_caught:
                    await stream.aclose()
                    return None
        return stream

    held: list[trio.SocketStream] = []
    for number in range(12):
        stream = await begin(urls[number % 2])
        if held:
            gone = held.pop()
            count = len(actor.volume._state.in_flight)
            await gone.aclose()
            with trio.fail_after(40):
                while len(actor.volume._state.in_flight) == count:
                    await trio.sleep(0.002)
        if stream is not None:
            held.append(stream)
    for stream in held:
        await stream.aclose()
    with trio.fail_after(40):
        while actor.volume.stats().in_flight_bytes:
            await trio.sleep(0.002)
    assert b"503" in statuses, "each of the two is used up after a while"
    assert actor.volume.stats().file_size - before <= 5 * size
    assert (await call(actor, "PUT", urls[0], body=b"small")).status == 201
    honest = put_url_of(82, body_size_max=size, room=2 * size)
    for _ in range(5):  # alone, its place comes back each time
        stream = await begin(honest)
        assert stream is not None
        await stream.aclose()
        with trio.fail_after(40):
            while actor.volume.stats().in_flight_bytes:
                await trio.sleep(0.002)
    assert (await call(actor, "PUT", honest, body=bytes(size))).status == 201
