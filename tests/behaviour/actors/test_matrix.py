"""The matrix: every request that there is, from everybody who should not get an answer, and from who should.

The rows are made from the message unions and the table of doors; what is expected of a row follows from the
table.  Whoever adds a message adds its row to `ROWS` (or `OF_ACTORS`): how to make one such request about the
bucket, key or upload of this store.  A message without a row is named when the tests are collected.

    nobody, expired, forged     no session, or none any more
    disabled, edited            the key had exactly the right permissions, a moment ago
    nothing                     a session of a key without any permission
    exactly                     each permission that is needed, for this bucket and this part of it: passes
    all but one                 every permission but one of them, on the key and then in the grant
    another bucket, prefix      every permission, for other objects; the answer for a bucket that is not seen is
                                the one for a bucket that is not there
    volume, compactor           an actor of the store that is not the one that is meant
    join token                  good once, and not when it is over, removed, or another one

`test_http_matrix.py` is the same for the HTTP ports.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
import trio

from master_kit import DISK_ID, RunningMaster, open_master
from message_samples import SAMPLES
from warehouse.actors.control import doors
from warehouse.actors.control.doors import (
    DOORS,
    EVERYWHERE,
    KEY,
    KEYS,
    NAME,
    PART,
    SEEN,
    SEEN_ONE,
    STORE,
    UPLOAD,
    WHOLE,
    Need,
)
from warehouse.actors.control.key_files import generate_access_pem
from warehouse.auth.access_tokens import AccessClaims, AccessSigner
from warehouse.auth.keys import ApiKey
from warehouse.auth.rights import ABOUT_BUCKETS, ABOUT_OBJECTS, EVERYTHING, Grant, Permission
from warehouse.errors import LinkDown, StoreError
from warehouse.transport.messages import (
    AbortUpload,
    Attach,
    BeginUpload,
    BucketHistory,
    Buckets,
    CancelJobs,
    CheckSignature,
    ClientRequest,
    ClusterStatus,
    CompactorCommand,
    CompactorRequest,
    ConfirmDisk,
    CreateAccount,
    CreateBucket,
    CreateJoinToken,
    CreateKey,
    DecideOrphans,
    DeleteAccount,
    DeleteBucket,
    DeleteKey,
    DeleteObjects,
    DiskReport,
    Done,
    EditAccount,
    EditKey,
    FindCors,
    FindObjects,
    FinishPart,
    FinishUpload,
    GatewayRequest,
    GiveBucket,
    ImportKey,
    Join,
    JoinTokenMade,
    Lease,
    Leased,
    LeaseNeedles,
    ListAccounts,
    ListAudit,
    ListBuckets,
    ListDataUrls,
    ListDisks,
    ListEvents,
    ListJobs,
    ListJoinTokens,
    ListKeys,
    ListLost,
    ListNodes,
    ListObjects,
    ListParts,
    ListUploads,
    ListVolumes,
    LocateChunks,
    LocateObjects,
    Login,
    Message,
    NeedlesStored,
    PauseJobs,
    PlanCompletion,
    Presign,
    ReadBucketConfig,
    Register,
    RegisterCompactor,
    RegisterGateway,
    RemoveDisk,
    RemoveJoinToken,
    RemoveNode,
    Request,
    RequestSlots,
    ResolveNeedle,
    RotateKey,
    RotateSecret,
    SetBucketConfig,
    SetQuota,
    ShowKey,
    SlotWanted,
    StartJobs,
    StatBucket,
    StatObject,
    StoredNeedle,
    StoreFigures,
    StoreHistory,
    UploadBegun,
    VolumeCommand,
    VolumeRequest,
    WatchBucket,
    WatchStore,
    Welcome,
)
from warehouse.transport.zeromq.link import Link

HERE, THERE = "photos", "films"  # the bucket of the requests, and another one
PART_OF_IT, OTHER_PART = "2026/", "2025/"
THE_KEY = PART_OF_IT + "a"
OTHER_DISK = "e" * 32
PASSES = "passes"
NO_KEY, NO_ACCOUNT = ("no_such_api_key",), ("no_such_account",)
STRANGER_ASKS = 20  # of one connection: the master shuts one that asks much more without a login


class Store:
    """A master with two buckets, and what requests are about."""

    def __init__(self, master: RunningMaster) -> None:
        self.master = master
        self.ids: dict[str, int] = {}
        self.lease: Lease
        self.expired_token = ""
        self._count = 0

    async def set_up(self) -> None:
        for number, name in enumerate((HERE, THERE), start=1):
            self.ids[name] = await self.master.create_bucket(name)
            await self.master.disk.store(1, number, self.ids[name], THE_KEY, number)
        request = LeaseNeedles(bucket=HERE, needle_count=1000, byte_count=1)
        self.lease = (await self.master.ask(request, Leased)).leases[0]

    def unused(self) -> int:
        self._count += 1
        return self._count

    async def upload(self) -> int:
        return (await self.master.ask(BeginUpload(bucket=HERE, key=THE_KEY), UploadBegun)).upload_id


@dataclass(frozen=True)
class Row:
    """
    Attributes:
        make: a request about a bucket of this name, or about an upload in `HERE`.
        passes_as: codes of refusals that show that the request got through the door.
        is_confined_by_token: with a part of the bucket it passes, and what it gets is confined.
        names_bucket: it is about an upload, and names the bucket as well: who sees the bucket and may write
            nowhere in it is told that.
    """

    make: Callable[[Store, str], Awaitable[Request]]
    passes_as: tuple[str, ...] = ()
    is_confined_by_token: bool = False
    names_bucket: bool = False


def _plain(make: Callable[[str], Request], **options: Any) -> Row:
    async def made(store: Store, bucket: str) -> Request:
        return make(bucket)

    return Row(made, **options)


def _of_upload(make: Callable[[int], Request], **options: Any) -> Row:
    async def made(store: Store, bucket: str) -> Request:
        return make(await store.upload())

    return Row(made, **options)


async def _resolve(store: Store, bucket: str) -> Request:
    lease = store.lease
    needle_id = lease.first_needle_id + store.unused()
    return ResolveNeedle(
        bucket=bucket, key=THE_KEY, volume_id=lease.volume_id, needle_id=needle_id, token=lease.token
    )


async def _create(store: Store, bucket: str) -> Request:
    return CreateBucket(bucket=f"new-{store.unused()}")


async def _import(store: Store, bucket: str) -> Request:
    return ImportKey(name="n", key_id=f"KEY{store.unused()}", secret="a-secret-from-before", permissions=[])


async def _account(store: Store, bucket: str) -> Request:
    return CreateAccount(name=f"account {store.unused()}")


ROWS: dict[type[Message], tuple[Row, ...]] = {
    ListBuckets: (_plain(lambda bucket: ListBuckets()),),
    CreateBucket: (Row(_create),),
    DeleteBucket: (
        _plain(lambda bucket: DeleteBucket(bucket=bucket), passes_as=("bucket_not_empty",)),
        _plain(lambda bucket: DeleteBucket(bucket=bucket, force=True)),
    ),
    StatBucket: (_plain(lambda bucket: StatBucket(bucket=bucket)),),
    SetQuota: (_plain(lambda bucket: SetQuota(bucket=bucket, sets_objects=True, quota_objects=99)),),
    SetBucketConfig: (
        _plain(lambda bucket: SetBucketConfig(bucket=bucket, config="cors", document=b"<a/>")),
    ),
    ReadBucketConfig: (_plain(lambda bucket: ReadBucketConfig(bucket=bucket, config="cors")),),
    ListObjects: (
        _plain(lambda bucket: ListObjects(bucket=bucket, prefix=PART_OF_IT)),
        _plain(lambda bucket: ListObjects(bucket=bucket, prefix=PART_OF_IT, with_locations=True)),
    ),
    FindObjects: (_plain(lambda bucket: FindObjects(bucket=bucket, prefix=PART_OF_IT, order="time")),),
    WatchBucket: (_plain(lambda bucket: WatchBucket(bucket=bucket, prefix=PART_OF_IT)),),
    WatchStore: (_plain(lambda bucket: WatchStore()),),
    ListDataUrls: (_plain(lambda bucket: ListDataUrls()),),
    StatObject: (_plain(lambda bucket: StatObject(bucket=bucket, key=THE_KEY)),),
    LocateObjects: (
        _plain(lambda bucket: LocateObjects(bucket=bucket, keys=[THE_KEY])),
        _plain(lambda bucket: LocateObjects(bucket=bucket, keys=[THE_KEY, PART_OF_IT + "b"])),
    ),
    DeleteObjects: (_plain(lambda bucket: DeleteObjects(bucket=bucket, keys=[PART_OF_IT + "none"])),),
    LeaseNeedles: (
        _plain(
            lambda bucket: LeaseNeedles(bucket=bucket, needle_count=1, byte_count=1),
            is_confined_by_token=True,
        ),
    ),
    ResolveNeedle: (Row(_resolve),),
    BeginUpload: (_plain(lambda bucket: BeginUpload(bucket=bucket, key=THE_KEY)),),
    RequestSlots: (
        _of_upload(
            lambda upload_id: RequestSlots(
                upload_id=upload_id, slots=[SlotWanted(chunk_index=0, size=1, chunk_count=1)]
            )
        ),
    ),
    FinishUpload: (
        _of_upload(
            lambda upload_id: FinishUpload(upload_id=upload_id, chunk_count=1, object_size=1),
            passes_as=("upload_incomplete",),
        ),
    ),
    AbortUpload: (_of_upload(lambda upload_id: AbortUpload(upload_id=upload_id)),),
    FinishPart: (
        _of_upload(
            lambda upload_id: FinishPart(
                upload_id=upload_id, part_number=1, attempt=0, chunk_count=1, size=1, md5=bytes(16)
            ),
            passes_as=("bad_request",),
        ),
    ),
    ListParts: (
        _of_upload(
            lambda upload_id: ListParts(bucket=HERE, upload_id=upload_id),
            passes_as=("bad_request",),
            names_bucket=True,
        ),
        _plain(lambda bucket: ListParts(bucket=bucket, key=THE_KEY)),
    ),
    ListUploads: (_plain(lambda bucket: ListUploads(bucket=bucket, prefix=PART_OF_IT)),),
    PlanCompletion: (
        _of_upload(
            lambda upload_id: PlanCompletion(upload_id=upload_id, part_numbers=[1]),
            passes_as=("bad_request",),
        ),
    ),
    Presign: (
        _plain(lambda bucket: Presign(bucket=bucket, key=THE_KEY, method="GET", expires_in_s=9.0)),
        _plain(lambda bucket: Presign(bucket=bucket, key=THE_KEY, method="PUT", expires_in_s=9.0)),
    ),
    ClusterStatus: (_plain(lambda bucket: ClusterStatus()),),
    ListVolumes: (_plain(lambda bucket: ListVolumes()),),
    StoreFigures: (_plain(lambda bucket: StoreFigures()),),
    StoreHistory: (_plain(lambda bucket: StoreHistory(since_ms=0)),),
    BucketHistory: (_plain(lambda bucket: BucketHistory(bucket=bucket, since_ms=0)),),
    ListJobs: (_plain(lambda bucket: ListJobs()),),
    StartJobs: (_plain(lambda bucket: StartJobs(work="verify", volume_ids=[1])),),
    CancelJobs: (_plain(lambda bucket: CancelJobs(job_ids=[1]), passes_as=("no_such_job",)),),
    PauseJobs: (_plain(lambda bucket: PauseJobs(is_paused=False)),),
    DecideOrphans: (_plain(lambda bucket: DecideOrphans(decision="neither"), passes_as=("bad_request",)),),
    ListEvents: (_plain(lambda bucket: ListEvents(after=0)),),
    ListAudit: (_plain(lambda bucket: ListAudit()),),
    GiveBucket: (_plain(lambda bucket: GiveBucket(bucket=bucket, account="main")),),
    CreateKey: (_plain(lambda bucket: CreateKey(name="n", permissions=[])),),
    ImportKey: (Row(_import),),
    ShowKey: (_plain(lambda bucket: ShowKey(key_id="none"), passes_as=NO_KEY),),
    ListKeys: (_plain(lambda bucket: ListKeys()),),
    EditKey: (_plain(lambda bucket: EditKey(key_id="none", is_enabled=False), passes_as=NO_KEY),),
    RotateKey: (_plain(lambda bucket: RotateKey(key_id="none"), passes_as=NO_KEY),),
    DeleteKey: (_plain(lambda bucket: DeleteKey(key_id="none"), passes_as=NO_KEY),),
    CreateAccount: (Row(_account),),
    ListAccounts: (_plain(lambda bucket: ListAccounts()),),
    EditAccount: (_plain(lambda bucket: EditAccount(account="none"), passes_as=NO_ACCOUNT),),
    DeleteAccount: (_plain(lambda bucket: DeleteAccount(account="none"), passes_as=NO_ACCOUNT),),
    CreateJoinToken: (_plain(lambda bucket: CreateJoinToken(expires_in_s=9.0)),),
    ListJoinTokens: (_plain(lambda bucket: ListJoinTokens()),),
    RemoveJoinToken: (
        _plain(lambda bucket: RemoveJoinToken(token_id="none"), passes_as=("no_such_join_token",)),
    ),
    ListNodes: (_plain(lambda bucket: ListNodes()),),
    RemoveNode: (_plain(lambda bucket: RemoveNode(node="none"), passes_as=("no_such_node",)),),
    ListDisks: (_plain(lambda bucket: ListDisks()),),
    ListLost: (_plain(lambda bucket: ListLost(disk="none"), passes_as=("no_such_disk",)),),
    RemoveDisk: (_plain(lambda bucket: RemoveDisk(disk="none"), passes_as=("no_such_disk",)),),
    ConfirmDisk: (
        _plain(
            lambda bucket: ConfirmDisk(disk="none", url="http://127.0.0.1:1"), passes_as=("no_such_disk",)
        ),
    ),
    RotateSecret: (_plain(lambda bucket: RotateSecret(what="nothing"), passes_as=("bad_request",)),),
}

# What the actors of the store send; their rows are the tests at the end.
OF_ACTORS: frozenset[type[Message]] = frozenset(
    (
        *(Join, Register, RegisterCompactor, NeedlesStored, DiskReport, LocateChunks),
        *(RegisterGateway, CheckSignature, FindCors),
    )
)
INTRODUCTIONS: frozenset[type[Message]] = frozenset((Login, Attach))


def members(kinds: Any) -> frozenset[type[Message]]:
    return frozenset(get_args(kinds) or (kinds,))


def named(kinds: Iterable[type[Message]]) -> list[Any]:
    """Parameters, in an order that stays."""
    return sorted(
        (pytest.param(kind, id=kind.__name__) for kind in kinds), key=lambda parameter: str(parameter.id)
    )


# As early as this, so that a request without a row does not even get collected.
_MISSING = (
    members(ClientRequest) | members(VolumeRequest) | members(CompactorRequest) | members(GatewayRequest)
) - ROWS.keys() - OF_ACTORS - INTRODUCTIONS  # fmt: skip
assert not _MISSING, (
    f"add a row for {', '.join(kind.__name__ for kind in _MISSING)} to the matrix: {__file__}"
)
assert ROWS.keys() == DOORS.keys()


def rows() -> Iterator[tuple[str, Row]]:
    for kind, of_kind in ROWS.items():
        for number, row in enumerate(of_kind):
            yield f"{kind.__name__}-{number}", row


# --- asking ---------------------------------------------------------------------------------------


async def result_of(link: Link, request: Request) -> tuple[str, str]:
    """`PASSES`, or the code of the refusal; and its words."""
    for _ in range(200):
        try:
            await link.wait_up()
            answer = await link.request(request, timeout_s=10)
        except LinkDown:  # the master ended the connection, which is an answer of a kind: ask the next one
            await trio.sleep(0.02)
            continue
        except StoreError as error:
            return error.code, error.message
        return PASSES, str(answer)
    return LinkDown.code, ""


class Report:
    """Collects the cells that are not as they should be."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.count = 0

    def check(self, cell: str, result: tuple[str, str], expected: str, row: Row | None = None) -> None:
        self.count += 1
        code = PASSES if row is not None and result[0] in row.passes_as else result[0]
        if code != expected:
            self.wrong.append(f"{cell}: {result[0]} instead of {expected} ({result[1]:.120})")


def of(request: Request) -> str:
    """What the rights have to hold for."""
    return next(need.of for need in doors.needs_of(request))


def exact_grants(store: Store, request: Request) -> tuple[Grant, ...] | None:
    if of(request) == EVERYWHERE:
        return None
    return tuple(_exact_grants(store, doors.needs_of(request)))


def _exact_grants(store: Store, needs: Iterator[Need]) -> Iterator[Grant]:
    for need in needs:
        flags = int(need.permission & ABOUT_BUCKETS)
        if need.of == NAME:
            yield Grant(flags, bucket_prefix="new-")
        elif need.of in (SEEN, SEEN_ONE):
            yield Grant(int(Permission.READ), store.ids[HERE], None, PART_OF_IT)
        elif need.of == WHOLE:
            yield Grant(flags, store.ids[HERE])
        elif need.of in (KEY, KEYS, UPLOAD, PART):
            yield Grant(flags, store.ids[HERE], None, PART_OF_IT)


def flags_of(request: Request) -> Permission:
    """The least that is enough."""
    return doors.needed(request) or Permission.READ


# --- clients --------------------------------------------------------------------------------------


async def nobody(store: Store) -> Link:
    return await store.master.connect("stranger", None)


async def expired(store: Store) -> Link:
    """A session of a key with all rights, whose access token is over; or only that token."""
    master = store.master
    link = await master.connect("expired", None)
    if store.expired_token:
        code, _ = await result_of(link, Attach(token=store.expired_token))
        assert code == "token_expired"
        return link
    key = await master.add_key(int(EVERYTHING))
    expires_at_s = int(time.time()) + 2
    claims = AccessClaims(key_id=key.key_id, epoch=epoch_of(master, key), expires_at_s=expires_at_s)
    store.expired_token = master.initialized.keyring.access.sign(claims)
    await link.wait_up()
    await link.request(Attach(token=store.expired_token), timeout_s=30)
    with trio.fail_after(30):
        while (await result_of(link, ListBuckets()))[0] == PASSES:
            await trio.sleep(0.02)
    return link


async def forged(store: Store) -> Link:
    """A token for a key with all rights that somebody else has signed."""
    master = store.master
    key = await master.add_key(int(EVERYTHING))  # the claims are right, too
    claims = AccessClaims(key_id=key.key_id, epoch=epoch_of(master, key), expires_at_s=int(time.time()) + 60)
    signer = AccessSigner(generate_access_pem())
    link = await master.connect("forger", None)
    code, _ = await result_of(link, Attach(token=signer.sign(claims)))
    assert code in ("token_invalid", "not_authenticated")
    return link


async def disabled(store: Store) -> Link:
    return await changed(store, is_enabled=False)


async def edited(store: Store) -> Link:
    return await changed(store, permissions=0)


async def changed(store: Store, **columns: Any) -> Link:
    """The session of a key that had all rights a moment ago."""
    master = store.master
    key = await master.add_key(int(EVERYTHING))
    link = await master.connect_as(key)
    assert (await result_of(link, ListBuckets()))[0] == PASSES
    await master.running.keys.change(key.key_id, lambda row: msgspec.structs.replace(row, **columns))
    return link


def epoch_of(master: RunningMaster, key: ApiKey) -> int:
    row = master.running.context.catalog.api_key(key.key_id)
    assert row is not None
    return row.epoch


async def with_store(folder: Path, work: Callable[[Store, Report], Awaitable[None]]) -> None:
    report = Report()
    async with open_master(folder, has_compactor=False) as master:
        store = Store(master)
        await store.set_up()
        await work(store, report)
    assert not report.wrong, "\n".join(report.wrong)
    assert report.count >= len(ROWS)


@pytest.mark.parametrize("connect", [nobody, expired, forged, disabled, edited])
async def test_without_a_session_nothing_is_answered(
    tmp_path: Path, connect: Callable[[Store], Awaitable[Link]]
) -> None:
    async def work(store: Store, report: Report) -> None:
        for number, (name, row) in enumerate(rows()):
            if number % STRANGER_ASKS == 0:
                link = await connect(store)
            report.check(name, await result_of(link, await row.make(store, HERE)), "not_authenticated")

    await with_store(tmp_path, work)


async def test_without_a_permission_nothing_is_answered(tmp_path: Path) -> None:
    async def work(store: Store, report: Report) -> None:
        link = await store.master.connect_with(0)
        for name, row in rows():
            for bucket in (HERE, "absent"):
                result = await result_of(link, await row.make(store, bucket))
                report.check(f"{name} {bucket}", result, "permission_denied")

    await with_store(tmp_path, work)


async def test_the_rights_are_those_of_the_token_that_was_shown_last(tmp_path: Path) -> None:
    async def work(store: Store, report: Report) -> None:
        link = await store.master.connect_with(int(EVERYTHING))
        other = await store.master.add_key(0)
        await link.request(Attach(token=await store.master.token(other)), timeout_s=30)
        for name, row in rows():
            report.check(name, await result_of(link, await row.make(store, HERE)), "permission_denied")

    await with_store(tmp_path, work)


async def test_a_login_that_fails_does_not_say_why(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        names = ("good", "disabled", "expired", "deleted")
        keys = {name: await master.add_key(int(EVERYTHING)) for name in names}
        live = master.running.keys
        tokens = {name: await master.token(key) for name, key in keys.items()}
        await live.change(keys["disabled"].key_id, lambda row: msgspec.structs.replace(row, is_enabled=False))
        await live.change(keys["expired"].key_id, lambda row: msgspec.structs.replace(row, expires_ms=1))
        await live.delete(keys["deleted"].key_id)
        logins = [Login(key_id=key.key_id, secret=key.secret) for key in keys.values()]
        logins += [
            Login(key_id=keys["good"].key_id, secret=keys["disabled"].secret),
            Login(key_id=keys["good"].key_id, secret=""),
            Login(key_id="WHUNKNOWN", secret=keys["good"].secret),
        ]
        told: dict[int, tuple[str, str]] = {}

        async def log_in(number: int, login: Login) -> None:
            told[number] = await result_of(await master.connect(f"client-{number}", None), login)

        async with trio.open_nursery() as nursery:
            for number, login in enumerate(logins):
                nursery.start_soon(log_in, number, login)
        assert told.pop(0)[0] == PASSES
        assert {code for code, _ in told.values()} == {"bad_credentials"}
        assert len(set(told.values())) == 1
        refused = {
            name: await result_of(await master.connect(name, None), Attach(token=token))
            for name, token in tokens.items()
        }
        assert refused.pop("good")[0] == PASSES
        assert {code for code, _ in refused.values()} == {"not_authenticated"}
        assert len(set(refused.values())) == 1


async def test_what_was_given_to_others_is_no_help(tmp_path: Path) -> None:
    """A key with the right permissions for one bucket, and what another key was given for another one."""
    async with open_master(tmp_path, has_compactor=False) as master:
        store = Store(master)
        await store.set_up()
        grant = Grant(int(ABOUT_OBJECTS), store.ids[THERE], None, PART_OF_IT)
        link = await master.connect_with(int(EVERYTHING), (grant,))
        request = await ROWS[ResolveNeedle][0].make(store, THERE)
        assert (await result_of(link, request))[0] == "token_scope"
        upload_id = await store.upload()
        for kind in (RequestSlots, FinishUpload, AbortUpload):
            request = msgspec.structs.replace(await ROWS[kind][0].make(store, HERE), upload_id=upload_id)
            absent = msgspec.structs.replace(request, upload_id=upload_id ^ 1)
            code, words = await result_of(link, request)
            assert code == "no_such_upload"
            told = await result_of(link, absent)
            assert told == (code, words.replace(str(upload_id), str(upload_id ^ 1)))


async def test_exactly_the_right_permissions_are_enough(tmp_path: Path) -> None:
    async def work(store: Store, report: Report) -> None:
        # What deletes the bucket comes last.
        for name, row in sorted(rows(), key=lambda named: named[0].startswith("DeleteBucket")):
            request = await row.make(store, HERE)
            link = await store.master.connect_with(int(flags_of(request)), exact_grants(store, request))
            report.check(name, await result_of(link, request), PASSES, row)

    await with_store(tmp_path, work)


async def test_all_permissions_but_one_are_not_enough(tmp_path: Path) -> None:
    async def work(store: Store, report: Report) -> None:
        links: dict[tuple[int, int], Link] = {}

        async def ask(name: str, row: Row, flags: int, granted: int, expected: str) -> None:
            if (flags, granted) not in links:
                grants = (Grant(granted & int(ABOUT_BUCKETS), store.ids[HERE]),)
                is_everywhere = granted == int(EVERYTHING)
                link = await store.master.connect_with(flags, None if is_everywhere else grants)
                links[flags, granted] = link
            result = await result_of(links[flags, granted], await row.make(store, HERE))
            report.check(f"{name} with {flags} granted {granted}", result, expected, row)

        for name, row in rows():
            request = await row.make(store, HERE)
            for need in doors.needs_of(request):
                lacking = [need.permission] if need.is_any else [*need.permission]
                for flag in lacking:
                    less = int(EVERYTHING & ~flag)
                    await ask(name, row, less, int(EVERYTHING), "permission_denied")
                    if flag & ABOUT_BUCKETS and need.of not in (SEEN, SEEN_ONE, NAME):
                        # The bucket is seen, for all else is granted there.
                        is_hidden = need.of == UPLOAD and not row.names_bucket
                        expected = "no_such_upload" if is_hidden else "permission_denied"
                        await ask(name, row, int(EVERYTHING), less, expected)

    await with_store(tmp_path, work)


# --- other buckets, other parts -------------------------------------------------------------------

_ELSEWHERE = {
    STORE: PASSES,
    EVERYWHERE: "permission_denied",
    SEEN: PASSES,
    SEEN_ONE: "no_such_bucket",
    NAME: "permission_denied",
    WHOLE: "no_such_bucket",
    PART: "no_such_bucket",
    KEY: "no_such_bucket",
    KEYS: "no_such_bucket",
    UPLOAD: "no_such_upload",
}


def spoilt(request: Request) -> Iterator[Request]:
    """The request, and the same with mistakes."""
    yield request
    for field, values in {
        "key": ("", "\0", "k" * 1025),
        "keys": ([], [""], ["a"] * 999),
        "delimiter": ("",),
        "needle_count": (0,),
        "expires_in_s": (0.0,),
        "content_type": ("no type",),
        "volume_id": (99,),
        "token": ("no token",),
        "limit": (0,),
    }.items():
        if hasattr(request, field):
            for value in values:
                yield msgspec.structs.replace(request, **{field: value})


async def test_another_bucket_is_like_none_at_all(tmp_path: Path) -> None:
    async def work(store: Store, report: Report) -> None:
        grants = (Grant(int(ABOUT_BUCKETS), store.ids[THERE]),)
        link = await store.master.connect_with(int(EVERYTHING), grants)
        for name, row in rows():
            request = await row.make(store, HERE)
            result = await result_of(link, request)
            report.check(name, result, _ELSEWHERE[of(request)], row)
            if isinstance(request, ListBuckets):
                answer = await link.request(request, timeout_s=30)
                assert isinstance(answer, Buckets)
                assert [info.name for info in answer.buckets] == [THERE]
            if _ELSEWHERE[of(request)] != "no_such_bucket":
                continue
            for one in spoilt(request):
                absent = msgspec.structs.replace(one, bucket="absent")
                told = [
                    (code, words.replace(bucket, "BUCKET"))
                    for bucket, (code, words) in (
                        (HERE, await result_of(link, one)),
                        ("absent", await result_of(link, absent)),
                    )
                ]
                if told[0] != told[1]:
                    report.wrong.append(f"{name}: {told[0]} and {told[1]} are told apart")

    await with_store(tmp_path, work)


async def test_another_part_of_the_bucket_is_not_enough(tmp_path: Path) -> None:
    async def work(store: Store, report: Report) -> None:
        grants = (Grant(int(ABOUT_OBJECTS), store.ids[HERE], None, OTHER_PART),)
        link = await store.master.connect_with(int(EVERYTHING), grants)
        for name, row in rows():
            request = await row.make(store, HERE)
            if (where := of(request)) in (STORE, SEEN, SEEN_ONE) or row.is_confined_by_token:
                expected = PASSES
            else:
                expected = "no_such_upload" if where == UPLOAD else "permission_denied"
            report.check(name, await result_of(link, request), expected, row)

    await with_store(tmp_path, work)


# --- actors of the store --------------------------------------------------------------------------


def registration(store: Store, disk_id: str, **changes: Any) -> Register:
    return msgspec.structs.replace(
        Register(
            join_secret="",
            disk_id=disk_id,
            disk_name="disk-2",
            incarnation=1,
            url="http://127.0.0.1:2",
            volumes=[],
            disk_capacity=1 << 40,
            disk_free=1 << 40,
        ),
        **changes,
    )


async def another_volume_actor(store: Store) -> Link:
    keys = await store.master.new_node("disk-2")
    link = await store.master.connect("disk-2", None, incarnation=1, keys=keys)
    await link.wait_up()
    assert isinstance(await link.request(registration(store, OTHER_DISK), timeout_s=30), Welcome)
    return link


async def a_compactor(store: Store) -> Link:
    link = await store.master.connect("compactor", None, incarnation=99, keys=store.master.keys)
    await link.wait_up()
    await link.request(
        RegisterCompactor(join_secret="", disk_id=DISK_ID, disk_name="disk-1", incarnation=99),
        timeout_s=30,
    )
    return link


async def another_node(store: Store) -> Link:
    """It has joined, for another disk, and has not said yet what it is."""
    keys = await store.master.new_node("disk-3", OTHER_DISK)
    link = await store.master.connect("disk-3", None, incarnation=1, keys=keys)
    await link.wait_up()
    return link


def stored_needle(store: Store) -> NeedlesStored:
    return NeedlesStored(
        needles=[
            StoredNeedle(
                volume_id=1,
                needle_id=store.lease.first_needle_id,
                stamp=9 << 16,
                size=3,
                crc=1,
                stored_size=64,
                bucket_id=store.ids[HERE],
                key=THE_KEY,
                created_ms=1,
                lease_id=1,
            )
        ]
    )


@pytest.mark.parametrize("connect", [another_volume_actor, a_compactor])
async def test_an_actor_of_the_store_is_no_client(
    tmp_path: Path, connect: Callable[[Store], Awaitable[Link]]
) -> None:
    async def work(store: Store, report: Report) -> None:
        link = await connect(store)
        for name, row in rows():
            report.check(name, await result_of(link, await row.make(store, HERE)), "not_authenticated")
        token = await store.master.token()
        code, _ = await result_of(link, Attach(token=token))
        report.check("Attach", (code, ""), "permission_denied")

    await with_store(tmp_path, work)


async def test_a_disk_speaks_for_its_own_volumes_alone(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        store = Store(master)
        await store.set_up()
        link = await another_volume_actor(store)
        assert (await result_of(link, stored_needle(store)))[0] == "bad_request"
        before = master.running.context.fleet.volumes[1].report
        assert before is not None
        lie = msgspec.structs.replace(before, file_size=before.file_size + 1, needle_id_max=10**6)
        assert (await result_of(link, DiskReport(volumes=[lie], disk_free=1)))[0] == PASSES
        assert master.running.context.fleet.volumes[1].report == before
        code, _ = await result_of(link, LocateChunks(token=store.lease.token))
        assert code == "token_invalid"
        (object_,) = master.read(f"SELECT needle_id FROM objects WHERE bucket_id = {store.ids[HERE]}")
        assert object_ == (1,)


@pytest.mark.parametrize("kind", named(OF_ACTORS))
async def test_clients_strangers_and_compactors_are_no_disks(tmp_path: Path, kind: type[Message]) -> None:
    report = Report()
    async with open_master(tmp_path, has_compactor=False) as master:
        store = Store(master)
        await store.set_up()
        requests: dict[type[Message], Request] = {
            NeedlesStored: stored_needle(store),
            DiskReport: DiskReport(volumes=[], disk_free=1),
            LocateChunks: LocateChunks(token=store.lease.token),
            Register: registration(store, DISK_ID, join_secret="guessed"),
            RegisterCompactor: RegisterCompactor(
                join_secret="guessed", disk_id=DISK_ID, disk_name="disk-1", incarnation=1000
            ),
            RegisterGateway: RegisterGateway(name="gateway", incarnation=1000),
            CheckSignature: CheckSignature(
                key_id=master.root.key_id, scheme="v2", string_to_sign=b"x", signature="x"
            ),
            FindCors: FindCors(bucket="photos"),
            Join: Join(token="guessed", disk_id=DISK_ID, disk_name="disk-1", role="volume"),
        }
        is_registration = kind in (Register, RegisterCompactor, RegisterGateway)
        expected = "node_unknown" if is_registration else "not_authenticated"
        for name, link in {
            "a client with all rights": await master.connect_with(int(EVERYTHING)),
            "a client with none": await master.connect_with(0),
            "a stranger": await nobody(store),
            "a node": await another_node(store) if is_registration else await a_compactor(store),
        }.items():
            code = "disk_pinned" if is_registration and name == "a node" else expected
            if kind is RegisterGateway and name == "a node":
                code = "join_token_role"
            if kind is Join and name == "a stranger":
                code = "join_token_invalid"
            report.check(f"{kind.__name__} of {name}", await result_of(link, requests[kind]), code)
        assert master.running.context.fleet.disks[DISK_ID].peer is not None
    assert not report.wrong, "\n".join(report.wrong)


async def test_a_join_token_lets_one_machine_in(tmp_path: Path) -> None:
    async with open_master(tmp_path, has_compactor=False) as master:
        store = Store(master)
        made = await master.ask(CreateJoinToken(expires_in_s=60.0), JoinTokenMade)
        over = await master.ask(CreateJoinToken(expires_in_s=0.001), JoinTokenMade)
        gone = await master.ask(CreateJoinToken(expires_in_s=60.0), JoinTokenMade)
        await master.ask(RemoveJoinToken(token_id=gone.token_id), Done)
        await trio.sleep(0.01)
        for number, (token, expected) in enumerate(
            (
                (made.token, PASSES),
                (made.token, "join_token_used"),
                (made.token[:-1] + ("a" if made.token[-1] != "a" else "b"), "join_token_invalid"),
                (over.token, "join_token_expired"),
                (gone.token, "join_token_invalid"),
                ("", "join_token_invalid"),
            )
        ):
            disk_id = f"{number:032x}"
            link = await nobody(store)
            request = Join(token=token, disk_id=disk_id, disk_name=f"disk-{number}", role="volume")
            assert (await result_of(link, request))[0] == expected
            code, _ = await result_of(link, registration(store, disk_id))
            assert code == (PASSES if expected == PASSES else "node_unknown")


async def test_nobody_gives_orders_to_the_master(tmp_path: Path) -> None:
    report = Report()
    async with open_master(tmp_path, has_compactor=False) as master:
        store = Store(master)
        await store.set_up()
        for name, link in {
            "client": await master.connect_with(int(EVERYTHING)),
            "stranger": await nobody(store),
            "disk": await another_volume_actor(store),
            "compactor": await a_compactor(store),
        }.items():
            for kind in members(VolumeCommand) | members(CompactorCommand):
                sample = SAMPLES[str(kind.__struct_config__.tag)]
                expected = "not_authenticated" if name == "stranger" else "bad_request"
                report.check(f"{kind.__name__} of a {name}", await result_of(link, sample), expected)
    assert not report.wrong, "\n".join(report.wrong)
