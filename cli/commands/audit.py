"""The command about the audit log: audit."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import trio
from cyclopts import Parameter

from warehouse.cli.app import STORE, app
from warehouse.cli.options import Common
from warehouse.cli.output.audit import print_entry, print_heading, tell_what_is_missing
from warehouse.cli.output.formats import parse_moment, shortened
from warehouse.cli.output.objects import result_console, say_failure
from warehouse.cli.usage import UsageError
from warehouse.client.audit import FOLLOW_S, AuditStream
from warehouse.conf.audit_files import AUDIT_NAME, AuditFilter, read_page
from warehouse.conf.audit_lines import ACTIONS, format_utc
from warehouse.errors import ReadFailed
from warehouse.transport.messages import AuditEntry
from warehouse.transport.messages.audit import entry_of


@Parameter(name="*")
@dataclass(frozen=True)
class OfAudit(Common):
    """`--data` means the files here, and not the profile of a store that runs."""

    data: Annotated[
        Path | None,
        Parameter(
            metavar="DIR",
            help="Data folder of a master or of `warehouse up`: read the log's files there, whether the store"
            " runs or not.",
        ),
    ] = None


@app.command(group=STORE)
async def audit(
    *,
    since: Annotated[
        str | None,
        Parameter(metavar="TIME", help="Only lines since then: 90s, 30m, 1h or 7d ago, or 2026-11-29T16:00."),
    ] = None,
    key: Annotated[str | None, Parameter(metavar="ID", help="Only lines with this id of an API key.")] = None,
    action: Annotated[
        str | None, Parameter(metavar="NAME", help="Only lines of this action, such as login.")
    ] = None,
    follow: Annotated[
        bool, Parameter(name=["--follow", "-f"], help="Wait for new lines, until Ctrl-C.")
    ] = False,
    common: OfAudit = OfAudit(),
) -> int:
    """Print who did what: the lines of the audit log, oldest first.

    For example:

        warehouse audit --since 1h
        warehouse audit --since 7d --action bucket_deleted
        warehouse audit --follow --key WHABCDEFGHIJKLMNOPQR

    It takes the permission manage_keys. With `--data DIR` it reads the files in that data folder instead, so
    the store need not be running.
    """
    moment = None if since is None else parse_moment(since)
    _check(key, action)
    if common.data is not None:
        if common.profile is not None:
            raise UsageError("--profile asks a running store, --data reads its files: give one of them")
        files = OfflineAudit(common.data, since=moment, key=key or "", action=action or "", follow=follow)
        return await _print(files, common.json)
    async with common.connect() as store:
        stream = store.audit(since=moment, key=key or "", action=action or "", follow=follow)
        return await _print(stream, common.json)


async def _print(source: AuditStream | OfflineAudit, is_json: bool) -> int:
    console = result_console()
    count = 0
    try:
        async for entry in source:
            if not count and not is_json:
                print_heading(console)
            count += 1
            print_entry(entry, console, is_json=is_json)
    finally:
        tell_what_is_missing(source.unreadable_count, source.gap_count)
    if not count and not is_json:
        say_failure("warehouse: no line of the audit log is like that")
    return 0


def _check(key: str | None, action: str | None) -> None:
    if key is not None and not re.fullmatch(r"[!-~]{1,128}", key):
        raise UsageError(
            f"--key takes the id of an API key, such as WHABCDEFGHIJKLMNOPQR, not {shortened(repr(key))}"
        )
    if action is not None and action not in ACTIONS:
        near = get_close_matches(action, ACTIONS, 1)
        hint = f"; did you mean {near[0]}?" if near else "; docs/audit.md lists them"
        raise UsageError(f"the audit log has no action {shortened(repr(action))}{hint}")


class OfflineAudit:
    """The entries in the files of a data folder; otherwise as `AuditStream`."""

    def __init__(self, data: Path, *, since: datetime | None, key: str, action: str, follow: bool) -> None:
        self.unreadable_count = 0
        self.gap_count = 0
        self._path = _path_in(data)
        self._only = AuditFilter(
            since="" if since is None else format_utc(since.timestamp()), key=key, action=action
        )
        self._follow = follow

    async def __aiter__(self) -> AsyncIterator[AuditEntry]:
        cursor = ""
        while True:
            try:
                page = await trio.to_thread.run_sync(read_page, self._path, cursor, self._only)
            except OSError as error:
                raise ReadFailed(f"{self._path} cannot be read: {error.strerror}") from error
            self.unreadable_count += page.unreadable_count
            self.gap_count += page.is_gap
            cursor = page.cursor
            for line in page.lines:
                entry = entry_of(line)
                if entry is None:
                    self.unreadable_count += 1
                else:
                    yield entry
            if page.is_last:
                if not self._follow:
                    return
                await trio.sleep(FOLLOW_S)


def _path_in(data: Path) -> Path:
    """
    Raises:
        ReadFailed: there is no audit log.
    """
    for folder in (data / "master", data):
        try:
            if (folder / AUDIT_NAME).exists():
                return folder / AUDIT_NAME
        except OSError as error:
            raise ReadFailed(f"{folder} cannot be read: {error.strerror}") from error
    raise ReadFailed(
        f"there is no {AUDIT_NAME} in {data / 'master'}: name the data folder of the store's master"
    )
