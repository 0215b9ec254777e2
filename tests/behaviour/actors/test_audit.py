"""The audit log of a real master: what gets in, what a full disk does, and that nobody waits for it."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

import warehouse
from master_kit import open_master, settings_with, until
from warehouse.actors.control import audit_rules, audited_requests, login_rates
from warehouse.actors.control.audit import TROUBLE, AuditLog, AuditWriter
from warehouse.actors.control.audit_rules import Rule
from warehouse.actors.control.audit_sampling import Allowance
from warehouse.actors.control.events import EventLog
from warehouse.actors.control.troubles import Troubles
from warehouse.auth.rights import EVERYTHING, Permission
from warehouse.conf.audit_files import AUDIT_NAME, AuditFiles
from warehouse.conf.audit_lines import encode_line
from warehouse.conf.settings import Audit
from warehouse.errors import Busy, StoreError
from warehouse.transport.messages import (
    Attach,
    AuditEntry,
    AuditListed,
    BucketFound,
    CreateBucket,
    DeleteBucket,
    Deleted,
    DeleteObjects,
    DiskReport,
    Done,
    ListAudit,
    LoggedIn,
    Login,
    Message,
    Presign,
    Presigned,
    Register,
    SetQuota,
    StatObject,
    TokensRefused,
)


def lines_in(folder: Path) -> list[dict[str, Any]]:
    path = folder / AUDIT_NAME
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


async def wait_for(folder: Path, **wanted: Any) -> dict[str, Any]:
    """The first line with these fields; they get there a moment after the answer."""
    found: list[dict[str, Any]] = []

    def look() -> bool:
        found[:] = [line for line in lines_in(folder) if wanted.items() <= line.items()]
        return bool(found)

    await until(look)
    return found[0]


async def refused(link: Any, request: Any) -> str:
    with pytest.raises(StoreError) as caught:
        await link.request(request, timeout_s=10)
    return caught.value.code


# --- what gets in ---------------------------------------------------------------------------------


async def test_what_is_done_to_a_store_is_in_its_log(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        key_id = master._root.key_id
        await wait_for(tmp_path, action="master_started", result="ok")
        login = await wait_for(tmp_path, action="login", result="ok")
        assert login["key"] == key_id
        assert login["address"] == "127.0.0.1"
        disk = await wait_for(tmp_path, action="disk_registered", disk="disk-1")
        assert len(disk["node"]) == 40
        await wait_for(tmp_path, action="compactor_registered", disk="disk-1")

        await master.ask(CreateBucket(bucket="photos"), Done)
        await wait_for(tmp_path, action="bucket_created", target="wh://photos", key=key_id)
        await master.ask(SetQuota(bucket="photos", sets_objects=True, quota_objects=99), BucketFound)
        await wait_for(tmp_path, action="quota_set", target="wh://photos", quota_objects=99)
        await master.ask(DeleteObjects(bucket="photos", keys=[f"a/{n}" for n in range(30)]), Deleted)
        deleted = await wait_for(tmp_path, action="objects_deleted", target="wh://photos", count=30)
        assert deleted["keys"] == [f"a/{n}" for n in range(10)]
        assert deleted["existed"] == 0
        signed = await master.ask(
            Presign(bucket="photos", key="k", method="PUT", expires_in_s=60.0), Presigned
        )
        told = await wait_for(
            tmp_path, action="url_signed", target="wh://photos/k", method="PUT", life_s=60.0
        )
        assert told["request"].startswith("client-")
        await master.ask(DeleteBucket(bucket="photos", force=True), Done)
        await wait_for(tmp_path, action="bucket_deleted", is_forced=True)
        secrets = [master._root.secret, signed.url.partition("token=")[2]]
        await master.stop()
        text = (tmp_path / AUDIT_NAME).read_text()
        assert lines_in(tmp_path)[-1]["action"] == "master_stopped"
        assert not [secret for secret in secrets if secret in text]
        names = [line["request"] for line in lines_in(tmp_path) if "request" in line]
        assert len(names) == len(set(names)), "two requests have one name"


async def test_who_is_refused_is_in_the_log_with_the_code(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        stranger = await master.connect("stranger", None)
        await stranger.wait_up()
        assert await refused(stranger, Login(key_id="WHNOBODY", secret="guess")) == "bad_credentials"
        await wait_for(tmp_path, action="login", result="bad_credentials", key="WHNOBODY")
        await refused(stranger, Attach(token="eyJhbGciOi.forged.token"))
        await wait_for(tmp_path, action="attach", result="token_invalid")
        join = Register(
            join_secret="wrong",
            disk_id="e" * 32,
            disk_name="thief",
            incarnation=1,
            url="http://127.0.0.1:2",
            volumes=[],
            disk_capacity=1,
            disk_free=1,
        )
        await refused(stranger, join)
        thief = await wait_for(tmp_path, action="disk_registered", disk="thief")
        assert thief["result"] != "ok"
        assert len(thief["node"]) == 40
        assert "guess" not in (tmp_path / AUDIT_NAME).read_text()
        assert "forged" not in (tmp_path / AUDIT_NAME).read_text()


async def test_a_key_without_the_right_is_in_the_log(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        await master.ask(CreateBucket(bucket="photos"), Done)
        poor = await master.connect_with(0)
        assert await refused(poor, StatObject(bucket="photos", key="k")) == "permission_denied"
        told = await wait_for(
            tmp_path, action="request_refused", kind="stat_object", result="permission_denied"
        )
        assert "target" not in told, "this key may not know that there is such a bucket"
        lister = await master.connect_with(int(Permission.LIST))
        assert await refused(lister, StatObject(bucket="photos", key="k")) == "permission_denied"
        told = await wait_for(tmp_path, action="request_refused", kind="stat_object", target="wh://photos")
        assert "secret" not in told
        assert await refused(poor, DeleteBucket(bucket="photos")) == "permission_denied"
        await wait_for(tmp_path, action="bucket_deleted", result="permission_denied", target="wh://photos")


async def test_many_failures_are_sampled_and_counted(tmp_path: Path) -> None:
    settings = settings_with(audit={"failures_per_minute": 3, "sample": 5})
    async with open_master(tmp_path, settings=settings) as master:
        stranger = await master.connect("stranger", None)
        await stranger.wait_up()
        for _ in range(20):
            await refused(stranger, Attach(token="x"))
        await master.stop()
    lines = lines_in(tmp_path)
    written = [line for line in lines if line["action"] == "attach"]
    assert len(written) == 6  # three, and then one of five
    counted = [line for line in lines if line["action"] == "lines_left_out"]
    assert len(written) + sum(line.get("left_out", 0) for line in (*written, *counted)) == 20


async def test_a_key_that_logs_in_without_end_does_not_push_others_out_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(audit_rules.RULES[Login], repeats=Allowance(burst=3, per_s=0.0))
    rules: dict[type[Message], Rule] = {**audit_rules.RULES, Login: few}
    monkeypatch.setattr(audited_requests, "RULES", rules)
    async with open_master(tmp_path, settings=settings_with(audit={"sample": 10})) as master:
        thief, other = await master.add_key(1), await master.add_key(1)
        for _ in range(43):
            await master.token(thief)
        await master.token(other)
        await master.stop()
    lines = lines_in(tmp_path)
    written = [line for line in lines if line["action"] == "login" and line["key"] == thief.key_id]
    assert len(written) == 3 + 4
    assert [line.get("left_out", 0) for line in written] == [0, 0, 0, 9, 9, 9, 9]
    assert [line["key"] for line in lines if line["action"] == "login"].count(other.key_id) == 1


async def test_a_thousand_logins_of_one_key_at_once_are_all_let_in_and_written(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        key = await master.add_key(1)
        login, done = Login(key_id=key.key_id, secret=key.secret), []

        async def client() -> None:
            link = await master.connect_as(key)
            for _ in range(99):
                done.append(await link.request(login, timeout_s=30))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(client)
        assert all(isinstance(answer, LoggedIn) for answer in done)
        await master.stop()
    logins = [line for line in lines_in(tmp_path) if line["action"] == "login" and line["key"] == key.key_id]
    assert len(logins) == len(done) + 10 == 1000


async def test_a_key_that_logs_in_too_often_is_busy_and_the_next_client_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login_rates, "KEY_BURST", 3.0)
    monkeypatch.setattr(login_rates, "KEY_PER_S", 0.001)
    monkeypatch.setattr(login_rates, "ADDRESS_BURST", 2.0)
    async with open_master(tmp_path) as master:
        key = await master.add_key(1)
        with pytest.raises(Busy) as caught:
            for _ in range(20):
                await master.token(key)
        assert caught.value.retry_after_s > 0.0
        async with warehouse.connect(master.profile_of(key)) as store:  # it comes back when it is told to
            assert await store.buckets() == []
        await wait_for(tmp_path, action="login", result="busy", key=key.key_id)


async def test_a_store_that_is_to_keep_no_log_keeps_none(tmp_path: Path) -> None:
    async with open_master(tmp_path, settings=settings_with(audit={"enabled": "off"})) as master:
        await master.ask(CreateBucket(bucket="photos"), Done)
        await master.stop()
    assert not (tmp_path / AUDIT_NAME).exists()


# --- the thread -----------------------------------------------------------------------------------


class BadFiles(AuditFiles):
    """Files on a disk that is full, or slow, while a test says so."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, size_max=1 << 30, count_max=3)
        self.is_full = False
        self.is_open = threading.Event()
        self.is_open.set()
        self.sync_count = 0

    def append(self, lines: bytes) -> None:
        self.is_open.wait(30)
        if self.is_full:
            raise OSError(28, "No space left on device")
        super().append(lines)

    def sync(self) -> None:
        self.sync_count += 1
        super().sync()


def wait_until(condition: Any, timeout_s: float = 30.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.002)


def writer_of(files: AuditFiles, **options: Any) -> tuple[AuditWriter, list[str | None]]:
    told: list[str | None] = []
    return AuditWriter(files, on_failure=told.append, retry_s=0.005, **options), told


def numbered(number: int) -> bytes:
    return encode_line("login", {"target": str(number)})


def test_what_a_full_disk_loses_is_counted_in_its_place(tmp_path: Path) -> None:
    files = BadFiles(tmp_path / AUDIT_NAME)
    writer, told = writer_of(files, queue_size_max=50 * len(numbered(100)))
    writer.start()
    writer.put(numbered(1))
    wait_until(lambda: writer.written_count == 1)
    files.is_full = True
    writer.put(numbered(2))
    wait_until(lambda: told == ["No space left on device"])
    for number in range(3, 203):
        writer.put(numbered(number))
    files.is_full = False
    wait_until(lambda: any(line["action"] == "lines_lost" for line in lines_in(tmp_path)))
    writer.put(numbered(999))
    writer.stop()
    lines = lines_in(tmp_path)
    lost = next(index for index, line in enumerate(lines) if line["action"] == "lines_lost")
    kept = [int(line["target"]) for line in lines[:lost]]
    assert kept == list(range(1, len(kept) + 1))
    assert lines[lost]["count"] == writer.lost_count == 202 - len(kept) > 0
    assert lines[lost]["cause"] == "No space left on device"
    assert [line["target"] for line in lines[lost + 1 :]] == ["999"]
    assert told == ["No space left on device", None]
    assert writer.failure is None


def test_nobody_waits_for_a_disk_that_does_not_answer(tmp_path: Path) -> None:
    files = BadFiles(tmp_path / AUDIT_NAME)
    files.is_open.clear()
    writer, _ = writer_of(files, queue_size_max=1000)
    writer.start()
    began = time.monotonic()
    for number in range(2000):
        writer.put(numbered(number))
    assert time.monotonic() - began < 20
    assert writer.queue_size <= 1000
    files.is_open.set()
    writer.stop()
    lines = lines_in(tmp_path)
    lost = sum(line.get("count", 0) for line in lines)
    assert lost + sum(line["action"] == "login" for line in lines) == 2000


def test_lines_are_made_durable_within_a_second_and_at_the_end(tmp_path: Path) -> None:
    files = BadFiles(tmp_path / AUDIT_NAME)
    writer, _ = writer_of(files)
    writer.start()
    writer.put(numbered(1))
    wait_until(lambda: files.sync_count == 1)
    writer.put(numbered(2))
    wait_until(lambda: writer.written_count == 2)
    writer.stop()
    assert files.sync_count == 2


def test_the_end_of_a_master_does_not_wait_for_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warehouse.actors.control.audit.STOP_S", 60.0)
    files = BadFiles(tmp_path / AUDIT_NAME)
    files.is_full = True
    writer, told = writer_of(files)
    writer.start()
    writer.put(numbered(1))
    wait_until(lambda: bool(told))
    began = time.monotonic()
    writer.stop()
    assert time.monotonic() - began < 30


async def test_operators_are_told_while_the_log_cannot_be_written(tmp_path: Path) -> None:
    troubles = Troubles(EventLog())
    (tmp_path / AUDIT_NAME).symlink_to(tmp_path / "elsewhere")
    audit = AuditLog(tmp_path, Audit(), troubles)
    audit.start()
    audit.note("login", key="WHKEY")
    await until(lambda: troubles.has(TROUBLE))
    assert "symbolic links" in troubles.listed()[0].message
    (tmp_path / AUDIT_NAME).unlink()
    await until(lambda: not troubles.has(TROUBLE))
    await audit.aclose()
    assert lines_in(tmp_path)[0]["key"] == "WHKEY"


async def test_a_field_that_is_not_listed_fails_no_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    audit = AuditLog(tmp_path, Audit(), Troubles(EventLog()))
    audit.start()
    audit.note("login", secret="never-to-be-seen")
    await audit.aclose()
    assert lines_in(tmp_path) == []
    assert "audit line cannot be written" in caplog.text


async def test_a_loop_that_ends_leaves_no_thread_behind(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path, Audit(), Troubles(EventLog()))
    audit.start()
    with trio.CancelScope() as scope:
        scope.cancel()
        await audit.aclose()
    assert not [thread for thread in threading.enumerate() if thread.name == "audit"]


# --- reading it through the master ----------------------------------------------------------------


async def read_log(link: Any, **fields: Any) -> list[AuditEntry]:
    entries, cursor = list[AuditEntry](), ""
    while True:
        page = await link.request(ListAudit(cursor=cursor, **fields), timeout_s=10)
        assert isinstance(page, AuditListed)
        entries += page.entries
        cursor = page.cursor
        if page.is_last:
            return entries


async def test_an_operator_reads_the_log_page_by_page(tmp_path: Path) -> None:
    settings = settings_with(audit={"size": 64 * 1024, "files": 50})
    async with open_master(tmp_path, settings=settings) as master:
        await master.ask(CreateBucket(bucket="photos"), Done)
        keys = ["k" * 1000 + f"{n:03d}" for n in range(10)]
        for _ in range(200):
            await master.ask(DeleteObjects(bucket="photos", keys=keys), Deleted)
        with trio.fail_after(60):  # the last lines are written a moment after their answers
            while len(await read_log(master.client, action="objects_deleted")) < 200:
                await trio.sleep(0.02)
        # How many depends on how many lines the thread finds at once: they go into one file together.
        assert len(list(tmp_path.glob(f"{AUDIT_NAME}*"))) > 1
        for limit in (3, 1000):
            deleted = await read_log(master.client, action="objects_deleted", limit=limit)
            assert len(deleted) == 200
            assert [one.time for one in deleted] == sorted(one.time for one in deleted)
        assert deleted[0].details["keys"] == keys
        key_id = master._root.key_id
        assert {one.key for one in await read_log(master.client, key=key_id)} == {key_id}
        ahead_ms = int(time.time() * 1000) + 3_600_000
        assert await read_log(master.client, since_ms=ahead_ms) == []


async def test_reading_the_log_takes_its_permission_and_a_cursor_of_ours(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        assert await refused(master.client, ListAudit(cursor="nonsense")) == "bad_request"
        poor = await master.connect_with(int(EVERYTHING & ~Permission.MANAGE_KEYS))
        assert await refused(poor, ListAudit()) == "permission_denied"


async def test_tokens_that_a_disk_refused_are_in_the_log(tmp_path: Path) -> None:
    async with open_master(tmp_path) as master:
        assert master.disk.link is not None
        rows = [
            TokensRefused(address="203.0.113.9", code="token_invalid", count=4711),
            TokensRefused(address="::1", code="token_expired", count=1),
        ]
        report = DiskReport(volumes=[], disk_free=1, refused=rows)
        await master.disk.link.request(report, timeout_s=10)
        told = await wait_for(tmp_path, action="tokens_refused", address="203.0.113.9", count=4711)
        assert told["result"] == "token_invalid"
        assert told["target"] == "disk-1"
        await wait_for(tmp_path, action="tokens_refused", address="::1", result="token_expired")
