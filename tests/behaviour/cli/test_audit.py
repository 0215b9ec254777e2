"""`warehouse audit`: from a store and from its files, for people and for programs."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio

from cli_kit import Run, command_of, process
from fake_store import FakeStore
from warehouse.cli.output.formats import parse_moment
from warehouse.cli.usage import UsageError
from warehouse.conf.audit_files import AUDIT_NAME, AuditFiles
from warehouse.conf.audit_lines import encode_line
from warehouse.errors import ReadFailed
from warehouse.transport.messages import AuditEntry


def entry(number: int, **fields: object) -> AuditEntry:
    return AuditEntry(
        time=f"2026-11-29T16:00:{number:02d}.000Z",
        action=str(fields.pop("action", "login")),
        key=str(fields.pop("key", "WHKEY")),
        address="192.0.2.7",
        **fields,  # type: ignore[arg-type]
    )


async def test_lines_are_printed_in_their_order_with_what_is_in_them(store: FakeStore, run: Run) -> None:
    store.audit = [
        entry(1),
        entry(2, result="bad_credentials", details={"left_out": 99}),
        entry(
            3, action="objects_deleted", target="wh://photos", details={"count": 2, "keys": ["a", "\x1b[2J"]}
        ),
    ]
    ran = await run("audit")
    heading, first, second, third = ran.out.splitlines()
    assert heading.split() == ["time", "result", "action", "key", "address", "target"]
    assert first.split()[2:] == ["ok", "login", "WHKEY", "192.0.2.7"]
    assert "bad_credentials" in second
    assert second.endswith("left_out=99")
    assert third.endswith(r"wh://photos  count=2  keys=a,\x1b[2J")


async def test_a_program_gets_the_fields_of_the_file(store: FakeStore, run: Run) -> None:
    store.audit = [entry(1), entry(2, key="WHOTHER", target="t", details={"count": 2})]
    ran = await run("audit", "--json", "--key", "WHOTHER")
    assert ran.objects == [
        {
            "time": "2026-11-29T16:00:02.000Z",
            "action": "login",
            "result": "ok",
            "key": "WHOTHER",
            "address": "192.0.2.7",
            "target": "t",
            "count": 2,
        }
    ]


async def test_nothing_found_is_said_and_no_failure(store: FakeStore, run: Run) -> None:
    ran = await run("audit", "--since", "1h")
    assert (ran.status, ran.out) == (0, "")
    assert "no line" in ran.err


async def next_line(stream: Any) -> Any:
    line = b""
    while not line.endswith(b"\n"):
        line += await stream.receive_some(1)
    return json.loads(line)


async def test_a_follower_prints_what_comes(store: FakeStore, tmp_path: Path) -> None:
    store.audit = [entry(1)]
    command, environment = command_of(tmp_path, "audit", "--follow", "--json")
    async with trio.open_nursery() as nursery:
        child = await nursery.start(
            lambda task_status: trio.run_process(
                command, env=environment, stdout=-1, check=False, task_status=task_status
            )
        )
        with trio.fail_after(30):
            assert (await next_line(child.stdout))["time"].endswith("01.000Z")
            store.audit.append(entry(2))
            assert (await next_line(child.stdout))["time"].endswith("02.000Z")
        child.terminate()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--since", "soon"], "must look like"),
        (["--since", ""], "must look like"),
        (["--since", "2999-01-01"], "lies ahead"),
        (["--since", "99999999999999d"], "must look like"),
        (["--action", "logn"], "did you mean login"),
        (["--action", "x"], "docs/audit.md lists them"),
        (["--key", ""], "id of an API key"),
        (["--key", "a b"], "id of an API key"),
        (["--data", "/nonexistent"], "give one of them"),
    ],
)
async def test_wrong_words_are_explained(store: FakeStore, run: Run, words: list[str], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        await run("audit", *words)


def test_a_time_is_a_span_or_a_date() -> None:
    now = datetime.now(UTC)
    assert abs(parse_moment("1h") - (now - timedelta(hours=1))) < timedelta(minutes=1)
    assert parse_moment("2026-01-02T03:04:05Z") == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert parse_moment("2026-01-02").tzinfo is not None


# --- from the files -------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["", "master"])
async def test_the_files_are_read_without_a_store(tmp_path: Path, folder: str) -> None:
    master = tmp_path / "master"
    master.mkdir()
    files = AuditFiles(master / AUDIT_NAME, size_max=300, count_max=9)
    for number in range(12):
        files.append(encode_line("bucket_created", {"target": f"wh://b{number}", "key": f"WH{number % 2}"}))
    files.append(b"nonsense\n")
    files.close()
    ran = await process(tmp_path, "audit", "--data", str(tmp_path / folder), "--json", "--key", "WH1")
    assert [line["target"] for line in ran.objects] == [f"wh://b{number}" for number in range(1, 12, 2)]
    assert "1 line of the audit log cannot be read" in ran.err
    assert ran.status == 0


async def test_a_folder_without_a_log_is_a_failure(tmp_path: Path) -> None:
    ran = await process(tmp_path, "audit", "--data", str(tmp_path))
    assert ran.status == 1
    assert ReadFailed.code in ran.err
