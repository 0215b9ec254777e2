"""Bad input at every door of a running store: a clear error with a stable code, and nothing else touched.

One store serves all cases.  After each of them a good put and get must work, and at the end the same
processes must still run.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import quote, urlsplit

import crc32c
import msgspec
import pytest
import trio
import zmq

import warehouse
from harness import RunningStore
from warehouse.actors.control.keyring import Keyring
from warehouse.auth.data_tokens import DataClaims, sign_data_token
from warehouse.client.control import Control
from warehouse.conf.profile import Profile
from warehouse.errors import StoreError
from warehouse.transport.http.batch_format import (
    HEAD_SIZE,
    PutHead,
    decode_outcomes,
    encode_ids,
    encode_put_head,
    error_of,
    read_frames,
)
from warehouse.transport.http.pool import HttpPool
from warehouse.transport.messages import (
    Attach,
    BeginUpload,
    ClusterStatus,
    CreateBucket,
    DeleteBucket,
    DeleteObjects,
    DiskReport,
    Done,
    Envelope,
    FinishUpload,
    Lease,
    Leased,
    LeaseNeedles,
    ListBuckets,
    Listing,
    ListObjects,
    LocateObjects,
    LoggedIn,
    Login,
    Message,
    NeedlesStored,
    ObjectsLocated,
    ObjectWritten,
    Presign,
    Presigned,
    ReadGrant,
    Register,
    RequestSlots,
    Slots,
    SlotWanted,
    StatObject,
    Status,
    UploadBegun,
    decode_envelope,
    encode_envelope,
)
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.link import Link

BODY = b"a good body"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStore]:
    with RunningStore(tmp_path_factory.mktemp("bad-input") / "store", volumes=2) as running:
        pids = running.pids()
        trio.run(set_up, running)
        yield running
        assert running.pids() == pids, "an actor died of bad input"


async def set_up(store: RunningStore) -> None:
    async with warehouse.connect(store.profile) as client:
        await client.create_bucket("good")
        await client.create_bucket("other")
        await client.bucket("good").put("known", BODY)


@asynccontextmanager
async def control_of(store: RunningStore) -> AsyncIterator[Control]:
    control = Control(Profile.load(store.profile))
    async with trio.open_nursery() as nursery:
        await nursery.start(control.run)
        try:
            yield control
        finally:
            control.stop()


async def still_good(store: RunningStore) -> None:
    async with warehouse.connect(store.profile) as client:
        bucket = client.bucket("good")
        await bucket.put("again", BODY)
        assert await bucket.get("again") == BODY
        assert await bucket.get("known") == BODY
        assert (await client.status()).health == "ok"


# --- the data port --------------------------------------------------------------------------------


@dataclass
class Rights:
    """What a well-behaved client would hold: a lease, a read grant, and the disk's own signing key."""

    lease: Lease
    other_lease: Lease
    grant: ReadGrant
    needle: tuple[int, int]
    disk_id: str
    key: tuple[str, bytes]
    proof_key: bytes  # of the master, which the disk does not have

    def sign(self, **changes: object) -> str:
        """A token as the master would sign it for our lease, with some claims changed."""
        claims = DataClaims(
            operation="put",
            audience=self.disk_id,
            volume_id=self.lease.volume_id,
            expires_at_s=int(time.time()) + 60,
            bucket_id=1,
            bucket="good",
            first_needle_id=self.lease.first_needle_id,
            last_needle_id=self.lease.last_needle_id,
        )
        claims = msgspec.structs.replace(claims, **changes)
        proof_key = self.proof_key if claims.operation == "put" else None
        return sign_data_token(claims, key_id=self.key[0], key=self.key[1], proof_key=proof_key)


@pytest.fixture
async def rights(store: RunningStore) -> Rights:
    async with control_of(store) as control:
        leased = await control.ask(LeaseNeedles(bucket="good", needle_count=16, byte_count=100_000), Leased)
        located = await control.ask(LocateObjects(bucket="good", keys=["known"]), Message)
        status = await control.ask(ClusterStatus(), Status)
    first, second = leased.leases[:2]
    disk = next(disk for disk in status.disks if disk.url == first.url)
    keyring = Keyring.load_or_create(store.data / "master" / "keys")
    node_key = CurveKeys.load(store.data / disk.name / "node.key").public.decode()
    *_, (key_id, key) = keyring.token_keys_of(disk.disk_id, node_key).items()
    chunk = located.objects[0].chunks[0]  # type: ignore[attr-defined]
    return Rights(
        lease=first,
        other_lease=second,
        grant=located.grants[0],  # type: ignore[attr-defined]
        needle=(chunk.volume_id, chunk.needle_id),
        disk_id=disk.disk_id,
        key=(key_id, key),
        proof_key=keyring.proof_keys()[-1],
    )


@dataclass
class Call:
    """One HTTP request, good unless told otherwise: a put of BODY under the lease's first needle."""

    method: str = "PUT"
    url: str | None = None
    volume_id: int | None = None
    needle_id: int | None = None
    token: str | None = None
    path: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = BODY
    without: tuple[str, ...] = ()

    def send(self, rights: Rights) -> tuple[int, dict[str, str]]:
        lease = rights.lease
        path = (
            self.path
            or f"/v1/needles/{self.volume_id or lease.volume_id}/{self.needle_id or lease.first_needle_id}"
        )
        headers = {
            "Authorization": f"Bearer {self.token or lease.token}",
            "X-Warehouse-Key": "bad-input",
            "Content-Length": str(len(self.body)),
            **self.headers,
        }
        connection = http.client.HTTPConnection(urlsplit(self.url or lease.url).netloc, timeout=30)
        try:
            connection.putrequest(self.method, path, skip_accept_encoding=True)
            for name, value in headers.items():
                if name not in self.without:
                    connection.putheader(name, value)
            connection.endheaders(self.body)
            answer = connection.getresponse()
            content = answer.read()
            return answer.status, json.loads(content) if content else {}
        finally:
            connection.close()


def flipped(token: str, position: int) -> str:
    letter = "A" if token[position] != "A" else "B"
    return token[:position] + letter + token[position + 1 :]


def get(rights: Rights, **changes: object) -> Call:
    volume_id, needle_id = rights.needle
    call = Call(
        method="GET",
        url=rights.grant.url,
        volume_id=volume_id,
        needle_id=needle_id,
        token=rights.grant.token,
        body=b"",
        without=("Content-Length", "X-Warehouse-Key"),
    )
    for name, value in changes.items():
        setattr(call, name, value)
    return call


DATA_CASES: list[tuple[str, Callable[[Rights], Call], int, str]] = [
    ("no token", lambda r: Call(without=("Authorization",)), 401, "token_missing"),
    ("another scheme", lambda r: Call(headers={"Authorization": "Basic abc"}), 401, "token_missing"),
    ("not a token", lambda r: Call(token="rubbish"), 401, "token_invalid"),
    ("forged signature", lambda r: Call(token=flipped(r.lease.token, -10)), 401, "token_invalid"),
    ("forged claims", lambda r: Call(token=flipped(r.lease.token, len(r.lease.token) // 2)), 401, "token_invalid"),
    ("expired", lambda r: Call(token=r.sign(expires_at_s=int(time.time()) - 60)), 401, "token_expired"),
    ("another disk's token", lambda r: Call(token=r.other_lease.token), 401, "token_invalid"),
    ("another audience", lambda r: Call(token=r.sign(audience="somebody-else")), 401, "token_invalid"),
    ("read token, write", lambda r: Call(token=r.sign(operation="get")), 403, "token_scope"),
    ("write token, read", lambda r: get(r, token=r.sign(), url=r.lease.url, volume_id=r.lease.volume_id,
                                        needle_id=r.lease.first_needle_id), 403, "token_scope"),
    ("needle below the lease", lambda r: Call(token=r.sign(first_needle_id=9000, last_needle_id=9100)), 403, "token_scope"),
    ("needle above the lease", lambda r: Call(needle_id=r.lease.last_needle_id + 1), 403, "token_scope"),
    ("volume of another token", lambda r: Call(volume_id=r.other_lease.volume_id), 403, "token_scope"),
    ("volume that is not here", lambda r: Call(volume_id=4000, token=r.sign(volume_id=4000)), 404, "no_such_volume"),
    ("needle that never was", lambda r: get(r, needle_id=99_999_999), 404, "no_such_needle"),
    ("needle of another bucket", lambda r: get(r, url=r.lease.url, token=r.sign(operation="get", bucket_id=77, volume_id=r.needle[0],
                                               first_needle_id=0, last_needle_id=0)) if r.grant.url == r.lease.url
     else Call(token=r.sign(operation="get")), 403, "token_scope"),
    ("no number", lambda r: Call(path="/v1/needles/one/two"), 404, "no_such_route"),
    ("number of 40 digits", lambda r: Call(path=f"/v1/needles/1/{'9' * 40}"), 404, "no_such_route"),
    ("needle zero", lambda r: Call(path="/v1/needles/1/0"), 404, "no_such_route"),
    ("another route", lambda r: Call(path="/v2/needles/1/1"), 404, "no_such_route"),
    ("traversal", lambda r: Call(path="/v1/needles/../../etc/passwd"), 404, "no_such_route"),
    ("another method", lambda r: Call(method="DELETE"), 405, "method_not_allowed"),
    ("no length", lambda r: Call(without=("Content-Length",)), 411, "length_required"),
    ("chunked body", lambda r: Call(headers={"Transfer-Encoding": "chunked"}, without=("Content-Length",),
                                    body=b"3\r\nabc\r\n0\r\n\r\n"), 411, "length_required"),
    ("body over the token's limit", lambda r: Call(token=r.sign(body_size_max=5)), 413, "body_too_large"),
    ("body of another length", lambda r: Call(token=r.sign(body_size=5)), 400, "length_mismatch"),
    ("lease used up", lambda r: Call(token=r.sign(lease_id=4711, room=5)), 503, "lease_exhausted"),
    ("broken CRC", lambda r: Call(headers={"X-Warehouse-CRC32C": "00000000"}), 400, "checksum_mismatch"),
    ("CRC that is none", lambda r: Call(headers={"X-Warehouse-CRC32C": "hello"}), 400, "bad_request"),
    ("no key", lambda r: Call(without=("X-Warehouse-Key",)), 400, "bad_key"),
    ("empty key", lambda r: Call(headers={"X-Warehouse-Key": ""}), 400, "bad_key"),
    ("key of 1,025 bytes", lambda r: Call(headers={"X-Warehouse-Key": "k" * 1025}), 400, "bad_key"),
    ("key that is not UTF-8", lambda r: Call(headers={"X-Warehouse-Key": "%ff%fe"}), 400, "bad_key"),
    ("key with a surrogate", lambda r: Call(headers={"X-Warehouse-Key": "%ed%a0%80"}), 400, "bad_key"),
    ("metadata without names", lambda r: Call(headers={"X-Warehouse-Metadata": "no-equals-sign"}), 400, "bad_metadata"),
    ("metadata named twice", lambda r: Call(headers={"X-Warehouse-Metadata": "a=1&a=2"}), 400, "bad_metadata"),
    ("metadata over 8 KiB", lambda r: Call(headers={"X-Warehouse-Metadata": "a=" + "x" * 9000}), 400, "bad_metadata"),
    ("content type over 255 bytes", lambda r: Call(headers={"Content-Type": "x" * 300}), 400, "bad_metadata"),
    ("headers over 16 KiB", lambda r: Call(headers={"X-Large": "x" * 20_000}), 431, "headers_too_large"),
    ("condition that fails", lambda r: Call(headers={"If-Match": '"1-1-00000000"'}), 412, "precondition_failed"),
    ("range behind the end", lambda r: get(r, headers={"Range": "bytes=5000-"}), 416, "range_not_satisfiable"),
    ("bucket that is gone", lambda r: Call(token=r.sign(bucket_id=12345, bucket="gone")), 404, "no_such_bucket"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "status", "code"), [case[1:] for case in DATA_CASES], ids=[c[0] for c in DATA_CASES]
)
async def test_the_data_port_refuses(
    store: RunningStore, rights: Rights, make: Callable[[Rights], Call], status: int, code: str
) -> None:
    answered, error = await trio.to_thread.run_sync(make(rights).send, rights)
    assert (answered, error.get("code")) == (status, code), error
    assert error["message"], "an error says what was expected and what came"
    await still_good(store)


async def test_a_needle_id_is_used_once(store: RunningStore, rights: Rights) -> None:
    def calls() -> list[tuple[int, str | None]]:
        crc = f"{crc32c.crc32c(BODY):08x}"
        first = Call(headers={"X-Warehouse-CRC32C": crc}).send(rights)
        same = Call(headers={"X-Warehouse-CRC32C": crc}).send(rights)
        other = Call(body=b"other bytes").send(rights)
        bare = Call().send(rights)  # as curl would, without a checksum
        assert first[1]["etag"] == same[1]["etag"] == bare[1]["etag"], "the same bytes get the same answer"
        return [(answer[0], answer[1].get("code")) for answer in (first, same, bare, other)]

    assert await trio.to_thread.run_sync(calls) == [(201, None)] * 3 + [(409, "needle_exists")]
    await still_good(store)


@pytest.mark.parametrize("sent", [0, 5, 1_500_000], ids=["nothing", "a few bytes", "most of a large one"])
async def test_a_body_that_ends_early_leaves_nothing(store: RunningStore, rights: Rights, sent: int) -> None:
    declared = 2_000_000 if sent > 100 else 10

    def call() -> None:
        token = rights.sign()
        address = urlsplit(rights.lease.url)
        with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
            connection.sendall(
                f"PUT /v1/needles/{rights.lease.volume_id}/{rights.lease.first_needle_id} HTTP/1.1\r\n"
                f"Host: x\r\nAuthorization: Bearer {token}\r\nX-Warehouse-Key: early\r\n"
                f"Content-Length: {declared}\r\n\r\n".encode()
            )
            connection.sendall(bytes(sent))

    await trio.to_thread.run_sync(call)
    await still_good(store)
    async with warehouse.connect(store.profile) as client:
        with pytest.raises(StoreError) as refused:
            await client.bucket("good").stat("early")
    assert refused.value.code == "no_such_object"


# --- batches --------------------------------------------------------------------------------------


def item(rights: Rights, position: int = 0, data: bytes = BODY, **changes: object) -> bytes:
    """One item of a batch put, good unless told otherwise."""
    head = PutHead(
        rights.lease.first_needle_id + position, f"batch-{position}", len(data), crc32c.crc32c(data)
    )
    return encode_put_head(msgspec.structs.replace(head, **changes)) + data


def post(
    url: str, path: str, token: str | None, body: bytes, *, length: int | None = None, method: str = "POST"
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        if token is not None:
            connection.putheader("Authorization", f"Bearer {token}")
        if length != -1:
            connection.putheader("Content-Length", str(len(body) if length is None else length))
        connection.endheaders()
        with suppress(OSError):  # refused before all of it was sent: the answer is there all the same
            connection.send(body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def lease_token(rights: Rights, **changes: object) -> str:
    """As the master signs it for a lease."""
    return rights.sign(**{"lease_id": 4712, "room": 10_000_000, "body_size_max": 1_000_000, **changes})


def put_batch(
    rights: Rights, body: bytes, token: str | None = None, **others: int | str
) -> tuple[int, bytes]:
    token = token or lease_token(rights)
    return post(rights.lease.url, "/v1/batch/put", token, body, **others)  # type: ignore[arg-type]


def get_batch(rights: Rights, body: bytes, token: str | None = None) -> tuple[int, bytes]:
    return post(rights.grant.url, "/v1/batch/get", token or rights.grant.token, body)


BATCH_CASES: list[tuple[str, Callable[[Rights], tuple[int, bytes]], int, str]] = [
    ("put, not a token", lambda r: put_batch(r, item(r), "rubbish"), 401, "token_invalid"),
    ("put, expired", lambda r: put_batch(r, item(r), lease_token(r, expires_at_s=int(time.time()) - 60)), 401, "token_expired"),
    ("put, another disk's", lambda r: put_batch(r, item(r), r.other_lease.token), 401, "token_invalid"),
    ("put with a read token", lambda r: put_batch(r, item(r), lease_token(r, operation="get")), 403, "token_scope"),
    ("put with a presigned URL's token", lambda r: put_batch(r, item(r), r.sign(key="mine")), 403, "token_scope"),
    ("put with a slot's token", lambda r: put_batch(r, item(r), lease_token(r, upload_id=1)), 403, "token_scope"),
    ("put to a volume elsewhere", lambda r: put_batch(r, item(r), lease_token(r, volume_id=4000)), 404, "no_such_volume"),
    ("put of nothing", lambda r: put_batch(r, b""), 400, "bad_request"),
    ("put without a length", lambda r: put_batch(r, b"", length=-1), 411, "length_required"),
    ("put of a gigabyte", lambda r: put_batch(r, b"x", length=2**30), 413, "body_too_large"),
    ("PUT instead of POST", lambda r: put_batch(r, item(r), method="PUT"), 405, "method_not_allowed"),
    ("another batch", lambda r: post(r.lease.url, "/v1/batch/del", lease_token(r), item(r)), 404, "no_such_route"),
    ("get, no token", lambda r: post(r.grant.url, "/v1/batch/get", None, encode_ids([1])), 401, "token_missing"),
    ("get with a lease", lambda r: post(r.lease.url, "/v1/batch/get", lease_token(r), encode_ids([1])), 403,
     "token_scope"),
    ("get of rubbish", lambda r: get_batch(r, b"\xc1"), 400, "bad_request"),
    ("get of nothing", lambda r: get_batch(r, encode_ids([])), 400, "bad_request"),
    ("get of too many", lambda r: get_batch(r, encode_ids([1] * 1025)), 400, "bad_request"),
    ("get of a huge question", lambda r: get_batch(r, bytes(1_000_000)), 413, "body_too_large"),
    ("get of needle zero", lambda r: get_batch(r, encode_ids([0])), 400, "bad_request"),
    ("get outside of the token", lambda r: post(r.lease.url, "/v1/batch/get", r.sign(operation="get", first_needle_id=5, last_needle_id=6),
                                                encode_ids([5, 7])), 403, "token_scope"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("send", "status", "code"), [case[1:] for case in BATCH_CASES], ids=[c[0] for c in BATCH_CASES]
)
async def test_a_batch_is_refused(
    store: RunningStore, rights: Rights, send: Callable[[Rights], tuple[int, bytes]], status: int, code: str
) -> None:
    answered, content = await trio.to_thread.run_sync(send, rights)
    error = json.loads(content)
    assert (answered, error["code"]) == (status, code), error
    assert error["message"]
    await still_good(store)


def raw_head(head: bytes) -> bytes:
    return HEAD_SIZE.pack(len(head)) + head


# An item that is wrong, between two that are good; None: stored.  Where no item can be read behind it the
# second good one is lost with it.
ITEM_CASES: list[tuple[str, Callable[[Rights], bytes], list[str | None]]] = [
    ("below the lease", lambda r: item(r, 1, needle_id=1), [None, "token_scope", None]),
    ("above the lease", lambda r: item(r, 1, needle_id=2**32 - 1), [None, "token_scope", None]),
    ("needle id beyond 64 bits' half", lambda r: item(r, 1, needle_id=2**63), [None, "token_scope", None]),
    ("the id of the first", lambda r: item(r, 0, b"other bytes"), [None, "needle_exists", None]),
    ("the same once more", lambda r: item(r, 0), [None, None, None]),
    ("wrong CRC", lambda r: item(r, 1, crc=1), [None, "checksum_mismatch", None]),
    ("empty key", lambda r: item(r, 1, key=""), [None, "bad_key", None]),
    ("key of 1,025 bytes", lambda r: item(r, 1, key="k" * 1025), [None, "bad_key", None]),
    ("metadata over 8 KiB", lambda r: item(r, 1, metadata={"a": "x" * 9000}), [None, "bad_metadata", None]),
    ("long content type", lambda r: item(r, 1, content_type="x" * 300), [None, "bad_metadata", None]),
    ("content type that splits a header", lambda r: item(r, 1, content_type="a\r\nX: y"), [None, "bad_metadata", None]),
    ("condition that fails", lambda r: item(r, 1, if_match="1-1-00000000"), [None, "precondition_failed", None]),
    ("larger than the lease allows", lambda r: item(r, 1, bytes(1_000_001)), [None, "body_too_large", None]),
    ("size of more than a MiB", lambda r: item(r, 1, size=2**20 + 1), [None, "bad_request", "bad_request"]),
    ("negative size", lambda r: item(r, 1, size=-1), [None, "bad_request", "bad_request"]),
    ("size beyond the end", lambda r: item(r, 1, size=2**20), [None, "length_mismatch", "length_mismatch"]),
    ("head that is none", lambda r: raw_head(b"rubbish"), [None, "bad_request", "bad_request"]),
    ("head of another shape", lambda r: raw_head(msgspec.msgpack.encode({"a": 1})), [None, "bad_request", "bad_request"]),
    ("head of 4 GiB", lambda r: HEAD_SIZE.pack(2**32 - 1), [None, "bad_request", "bad_request"]),
    ("key that is not UTF-8", lambda r: raw_head(b"\x94\x01\xa2\xed\xa0\x03\x04"), [None, "bad_request", "bad_request"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "codes"), [case[1:] for case in ITEM_CASES], ids=[case[0] for case in ITEM_CASES]
)
async def test_a_bad_item_leaves_the_others_alone(
    store: RunningStore, rights: Rights, make: Callable[[Rights], bytes], codes: list[str | None]
) -> None:
    body = item(rights, 0) + make(rights) + item(rights, 2)
    status, content = await trio.to_thread.run_sync(put_batch, rights, body)
    assert status == 200, content
    outcomes = decode_outcomes(content, 3)
    assert [None if isinstance(one.detail, int) else one.word for one in outcomes] == codes, outcomes
    async with warehouse.connect(store.profile) as client:
        got = {result.key: result async for result in client.bucket("good").get_many(["batch-0", "batch-2"])}
        assert got["batch-0"].data == BODY
        await client.bucket("good").delete_many(["batch-0", "batch-1", "batch-2"])
    await still_good(store)


async def test_a_batch_has_so_many_items_and_no_more(store: RunningStore, rights: Rights) -> None:
    body = item(rights) * 1025
    status, content = await trio.to_thread.run_sync(put_batch, rights, body)
    outcomes = decode_outcomes(content, 1025)
    assert status == 200
    assert all(isinstance(one.detail, int) for one in outcomes[:1024]), "the same item again is no error"
    assert outcomes[1024].word == "body_too_large"
    await still_good(store)


async def test_a_lease_has_room_for_all_its_batches_together(store: RunningStore, rights: Rights) -> None:
    token = lease_token(rights, lease_id=4713, room=2 * len(BODY))
    body = b"".join(item(rights, position) for position in range(3))
    _, content = await trio.to_thread.run_sync(put_batch, rights, body, token)
    assert [one.word for one in decode_outcomes(content, 3)][2] == "lease_exhausted"
    _, content = await trio.to_thread.run_sync(put_batch, rights, item(rights, 3), token)
    assert [one.word for one in decode_outcomes(content, 1)] == ["lease_exhausted"]


async def test_needles_that_cannot_be_read_are_named_between_those_that_can(
    store: RunningStore, rights: Rights
) -> None:
    volume_id, needle_id = rights.needle
    asked = [needle_id, 99_999_999, needle_id]
    status, content = await trio.to_thread.run_sync(get_batch, rights, encode_ids(asked))
    frames = [*read_frames(content, asked)]
    assert status == 200
    assert [bytes(frame.data) for frame in frames] == [BODY, b"", BODY]
    assert type(error_of(frames[1].state, volume_id, asked[1])).code == "no_such_needle"
    if rights.grant.url == rights.lease.url:  # then we hold the key of its disk
        token = rights.sign(
            operation="get", bucket_id=77, volume_id=volume_id, first_needle_id=0, last_needle_id=0
        )
        _, content = await trio.to_thread.run_sync(get_batch, rights, encode_ids([needle_id]), token)
        (frame,) = read_frames(content, [needle_id])
        assert type(error_of(frame.state, volume_id, needle_id)).code == "token_scope"
        assert BODY not in content, "another bucket's bytes stay where they are"


@pytest.mark.parametrize(
    "sent", [0, 3, 60, 150], ids=["nothing", "half a head", "inside of the first", "later"]
)
async def test_a_batch_that_ends_early_tells_of_nothing_that_is_not_so(
    store: RunningStore, rights: Rights, sent: int
) -> None:
    body = b"".join(item(rights, position) for position in range(4))

    def call() -> None:
        address = urlsplit(rights.lease.url)
        with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
            connection.sendall(
                f"POST /v1/batch/put HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {lease_token(rights)}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n".encode()
            )
            connection.sendall(body[:sent])

    await trio.to_thread.run_sync(call)
    await still_good(store)
    async with warehouse.connect(store.profile) as client:
        bucket = client.bucket("good")
        listed = [entry.key async for entry in bucket.list("batch-")]
        got = [result async for result in bucket.get_many(listed)]
        assert all(result.data == BODY for result in got)
        await bucket.delete_many(listed)


# --- the control socket ---------------------------------------------------------------------------

BAD_BUCKET_NAMES = [
    "",
    "a" * 64,
    "UPPER",
    "with space",
    "-start",
    "end-",
    ".start",
    "a/b",
    "..",
    "192.168.0.1",
    "ü",
    "a\nb",
]

CONTROL_CASES: list[tuple[str, Message, str]] = [
    *((f"bucket {name!r}", CreateBucket(bucket=name), "bad_bucket_name") for name in BAD_BUCKET_NAMES),
    ("bucket that exists", CreateBucket(bucket="good"), "bucket_exists"),
    ("bucket that is not empty", DeleteBucket(bucket="good"), "bucket_not_empty"),
    ("bucket to delete that is absent", DeleteBucket(bucket="absent"), "no_such_bucket"),
    ("bucket to list that is absent", ListObjects(bucket="absent"), "no_such_bucket"),
    ("object that is absent", StatObject(bucket="good", key="absent"), "no_such_object"),
    ("empty delimiter", ListObjects(bucket="good", delimiter=""), "bad_request"),
    ("too many keys to locate", LocateObjects(bucket="good", keys=["k"] * 1001), "bad_request"),
    ("too many keys to delete", DeleteObjects(bucket="good", keys=["k"] * 1001), "bad_request"),
    ("lease of nothing", LeaseNeedles(bucket="good", needle_count=0, byte_count=1), "bad_request"),
    ("upload to an empty key", BeginUpload(bucket="good", key=""), "bad_key"),
    ("upload to a long key", BeginUpload(bucket="good", key="k" * 1025), "bad_key"),
    ("upload with huge metadata", BeginUpload(bucket="good", key="k", metadata={"a": "x" * 9000}), "bad_metadata"),
    ("upload larger than the cluster", BeginUpload(bucket="good", key="k", byte_count=10**18), "cluster_full"),
    ("upload that is absent", RequestSlots(upload_id=4711, slots=[SlotWanted(chunk_index=0, size=1)]), "no_such_upload"),
    ("finish of an absent upload", FinishUpload(upload_id=4711, chunk_count=1, object_size=1), "no_such_upload"),
    ("presigned for a year", Presign(bucket="good", key="known", method="GET", expires_in_s=4e7), "bad_request"),
    ("presigned DELETE", Presign(bucket="good", key="known", method="DELETE", expires_in_s=60), "bad_request"),
    ("presigned GET of nothing", Presign(bucket="good", key="absent", method="GET", expires_in_s=60), "no_such_object"),
    ("client that reports needles", NeedlesStored(needles=[]), "not_authenticated"),
    ("client that reports a disk", DiskReport(volumes=[], disk_free=1), "not_authenticated"),
    ("wrong join secret", Register(join_secret="guess", disk_id="d", disk_name="d", incarnation=1, url="http://x",
                                   volumes=[], disk_capacity=1, disk_free=1), "node_unknown"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("request_body", "code"), [c[1:] for c in CONTROL_CASES], ids=[c[0] for c in CONTROL_CASES]
)
async def test_the_master_refuses(store: RunningStore, request_body: Message, code: str) -> None:
    async with control_of(store) as control:
        with pytest.raises(StoreError) as refused:
            await control.ask(request_body, Message, is_repeatable=False)  # type: ignore[arg-type]
    assert refused.value.code == code, refused.value
    assert refused.value.message
    await still_good(store)


async def test_an_incomplete_upload_cannot_be_finished_and_leaves_nothing(store: RunningStore) -> None:
    async with control_of(store) as control:
        begun = await control.ask(BeginUpload(bucket="good", key="half"), UploadBegun)
        with pytest.raises(StoreError) as refused:
            await control.ask(FinishUpload(upload_id=begun.upload_id, chunk_count=2, object_size=10), Done)
        assert refused.value.code == "upload_incomplete"
        page = await control.ask(ListObjects(bucket="good", prefix="half"), Listing)
        assert page.objects == []


@asynccontextmanager
async def bare_link(store: RunningStore) -> AsyncIterator[Link]:
    """A connection that has presented nothing."""
    profile = Profile.load(store.profile)
    link = Link(
        endpoint=profile.master,
        server_key=profile.server_key.encode(),
        keys=CurveKeys.generate(),
        name="stranger",
        incarnation=1,
        greet=None,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        yield link
        nursery.cancel_scope.cancel()


UNAUTHENTICATED = [
    ListBuckets(),
    CreateBucket(bucket="mine"),
    StatObject(bucket="good", key="known"),
    LocateObjects(bucket="good", keys=["known"]),
    LeaseNeedles(bucket="good", needle_count=1, byte_count=1),
    Presign(bucket="good", key="known", method="GET", expires_in_s=60),
    DeleteObjects(bucket="good", keys=["known"]),
    ClusterStatus(),
]


@pytest.mark.parametrize("body", UNAUTHENTICATED, ids=lambda body: type(body).__name__)
async def test_a_stranger_gets_nothing(store: RunningStore, body: Message) -> None:
    async with bare_link(store) as link:
        with pytest.raises(StoreError) as refused:
            await link.request(body, timeout_s=10)  # type: ignore[arg-type]
    assert refused.value.code == "not_authenticated"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (Login(key_id="WHNOBODY", secret="guess"), "bad_credentials"),
        (Attach(token="not.a.token"), "token_invalid"),
        (Attach(token=""), "token_missing"),
    ],
    ids=["wrong key", "not a token", "no token"],
)
async def test_false_credentials_are_refused(store: RunningStore, body: Message, code: str) -> None:
    async with bare_link(store) as link:
        with pytest.raises(StoreError) as refused:
            await link.request(body, timeout_s=10)  # type: ignore[arg-type]
    assert refused.value.code in (code, "token_invalid")


async def test_an_access_token_with_a_flipped_bit_is_refused(store: RunningStore) -> None:
    profile = Profile.load(store.profile)
    async with bare_link(store) as link:
        logged_in = await link.request(Login(key_id=profile.key_id, secret=profile.secret), timeout_s=10)
    assert isinstance(logged_in, LoggedIn)
    positions = range(0, len(logged_in.token) - 1, 7)
    # A connection that has shown no good token may say 32 things at once, so several take turns.
    for first in range(0, len(positions), 16):
        async with bare_link(store) as link:
            for position in positions[first : first + 16]:
                with pytest.raises(StoreError) as refused:
                    await link.request(Attach(token=flipped(logged_in.token, position)), timeout_s=10)
                assert refused.value.code == "token_invalid"
            await link.request(Attach(token=logged_in.token), timeout_s=10)


FRAMES: list[tuple[str, list[bytes]]] = [
    ("empty", [b""]),
    ("not msgpack", [b"\xc1\xc1\xc1"]),
    ("a number", [b"\x01"]),
    ("deeply nested", [b"\x91" * 14_000]),  # a longer one uses up what a stranger may cost
    ("huge declared length", [b"\xdd\xff\xff\xff\xff"]),
    (
        "unknown kind",
        [encode_envelope(Envelope(1, 2, 1000, ListBuckets())).replace(b"list_buckets", b"lost_buckets")],
    ),
    ("wrong field type", [b"\x94\x01\x02\xcd\x03\xe8\x82\xa4kind\xaacreate_buc\xa6bucket\x05"]),
    ("two frames", [b"one", b"two"]),
    ("many frames", [b"x"] * 100),
    ("half a message", [encode_envelope(Envelope(1, 2, 1000, CreateBucket(bucket="half")))[:-3]]),
]


@pytest.mark.parametrize("frames", [frame[1] for frame in FRAMES], ids=[frame[0] for frame in FRAMES])
async def test_malformed_frames_harm_nobody(store: RunningStore, frames: list[bytes]) -> None:
    profile, keys = Profile.load(store.profile), CurveKeys.generate()
    context = zmq.Context()
    try:
        dealer = context.socket(zmq.DEALER)
        dealer.linger = 500
        dealer.curve_publickey, dealer.curve_secretkey = keys.public, keys.secret
        dealer.curve_serverkey = profile.server_key.encode()
        dealer.connect(profile.master)
        dealer.send_multipart(frames)
        dealer.send(encode_envelope(Envelope(1, 77, 5000, ListBuckets())))
        with trio.fail_after(30):
            while True:  # the same connection still gets an answer to a proper request
                if await trio.to_thread.run_sync(dealer.poll, 200):
                    frame = dealer.recv()
                    if frame and decode_envelope(frame).request_id == 77:  # an empty frame is a probe
                        break
    finally:
        context.destroy(linger=0)
    await still_good(store)


async def test_a_plain_connection_to_the_control_port_gets_nothing(store: RunningStore) -> None:
    endpoint = urlsplit(Profile.load(store.profile).master)

    def knock(noise: bytes) -> bytes:
        with socket.create_connection((endpoint.hostname, endpoint.port), timeout=30) as connection:
            connection.settimeout(1.0)
            connection.sendall(noise)
            try:
                return connection.recv(4096)
            except (TimeoutError, ConnectionResetError):
                return b""

    for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, b"\x00" * 1000):
        assert b"good" not in await trio.to_thread.run_sync(knock, noise)
    await still_good(store)


# --- keys are opaque ------------------------------------------------------------------------------

STRANGE_KEYS = [
    "/", "//", "a/", "/a", "a//b", ".", "..", "../..", "../../etc/passwd", "a/../b", "%", "%2e%2e", "%00", "a%20b",
    " ", "  ", "a b", "tab\there", "line\nbreak", "\r\n", "\x00", "a\x00b", "\x7f", "'", '"', "`", "\\", "a\\b", "?", "#",
    "a?b=c#d", "&", "=", "+", ";", ":", "|", "<script>alert(1)</script>", "${x}", "ünïcödé", "日本語", "🦆", "👩‍👩‍👧‍👦",
    "e\u0301", "\u00e9", "\u202e", "\ufeff", "\U0010ffff", "k" * 1024, "é" * 512,
]  # fmt: skip


async def test_strange_keys_come_back_as_they_went_in(store: RunningStore) -> None:
    async with warehouse.connect(store.profile) as client:
        bucket = client.bucket("other")
        for number, key in enumerate(STRANGE_KEYS):
            written = await bucket.put(key, f"{number}".encode(), metadata={"key ü": key[:100]})
            assert (await bucket.stat(key)).etag == written.etag, repr(key)
        for number, key in enumerate(STRANGE_KEYS):
            assert await bucket.get(key) == f"{number}".encode(), repr(key)
            assert (await bucket.stat(key)).metadata == {"key ü": key[:100]}, repr(key)
        listed = [entry.key async for entry in bucket.list()]
        assert listed == sorted(STRANGE_KEYS, key=lambda key: key.encode())
        for key in STRANGE_KEYS:
            assert await bucket.delete(key), repr(key)
        assert [entry.key async for entry in bucket.list()] == []


@pytest.mark.parametrize(
    "key", ["", "k" * 1025, "é" * 513, "\ud800"], ids=["empty", "long", "long in UTF-8", "surrogate"]
)
async def test_keys_that_are_none_are_refused(store: RunningStore, key: str) -> None:
    async with warehouse.connect(store.profile) as client:
        bucket = client.bucket("other")
        for attempt in (
            partial(bucket.put, key, b"x"),
            *(partial(f, key) for f in (bucket.get, bucket.stat, bucket.delete)),
        ):
            with pytest.raises(StoreError) as refused:
                await attempt()
            assert refused.value.code == "bad_key"


def test_a_presigned_url_opens_its_own_object_alone(store: RunningStore) -> None:
    async def presign() -> str:
        async with control_of(store) as control:
            signed = await control.ask(
                Presign(bucket="good", key="known", method="GET", expires_in_s=60), Presigned
            )
            return signed.url

    url = urlsplit(trio.run(presign))
    for path, expected in ((url.path, 200), (url.path + "1", 403), ("/v1/needles/1/" + quote("../1"), 404)):
        connection = http.client.HTTPConnection(url.netloc, timeout=30)
        connection.request("GET", f"{path}?{url.query}")
        answer = connection.getresponse()
        assert answer.status == expected, answer.read()
        connection.close()


async def test_nobody_reads_a_chunk_of_an_upload_that_is_not_finished(store: RunningStore) -> None:
    async def get(grant: ReadGrant, needle_id: int) -> tuple[int, bytes]:
        headers = [("Authorization", f"Bearer {grant.token}")]
        target = f"/v1/needles/{grant.volume_id}/{needle_id}"
        status, _, body = await pool.request("GET", grant.url, target, headers=headers)
        return status, body

    pool = HttpPool()
    async with warehouse.connect(store.profile) as client, control_of(store) as control:
        begun = await control.ask(BeginUpload(bucket="good", key="upload"), UploadBegun)
        wanted = SlotWanted(chunk_index=0, size=len(BODY), chunk_count=1, object_size=len(BODY))
        slots = await control.ask(RequestSlots(upload_id=begun.upload_id, slots=[wanted]), Slots)
        [slot] = slots.slots
        headers = [("Authorization", f"Bearer {slot.token}")]
        target = f"/v1/needles/{slot.volume_id}/{slot.needle_id}"
        status, _, _ = await pool.request("PUT", slot.url, target, headers=headers, body=BODY)
        assert status == 201
        names: list[str] = []
        grants: dict[int, ReadGrant] = {}
        while slot.volume_id not in grants:  # until there is an object beside it
            names.append(f"beside/{len(names)}")
            await client.bucket("good").put(names[-1], BODY)
            located = await control.ask(LocateObjects(bucket="good", keys=names), ObjectsLocated)
            grants = {grant.volume_id: grant for grant in located.grants}
        status, body = await get(grants[slot.volume_id], slot.needle_id)
        assert (status, b"token_scope" in body) == (403, True)
        finish = FinishUpload(upload_id=begun.upload_id, chunk_count=1, object_size=len(BODY))
        await control.ask(finish, ObjectWritten)
        located = await control.ask(LocateObjects(bucket="good", keys=["upload"]), ObjectsLocated)
        assert await get(located.grants[0], slot.needle_id) == (200, BODY)
        assert await client.bucket("good").get("upload") == BODY
        assert [got.data async for got in client.bucket("good").get_many(["upload", *names])] == [BODY] * (
            len(names) + 1
        )
        listed = client.bucket("good").list("upload", with_locations=True)
        assert [got.data async for got in client.bucket("good").get_many(listed)] == [BODY]
    await pool.aclose()


def test_the_volume_files_hold_no_stray_bytes(store: RunningStore) -> None:
    """What was refused above left no files behind besides those of the format."""
    names = {path.name for disk in store.data.glob("disk-*") for path in disk.rglob("*") if path.is_file()}
    assert {Path(name).suffix for name in names} <= {".vol", ".idx", ".json", ".lock", ".key", ""}, names
