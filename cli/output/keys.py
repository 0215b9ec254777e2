"""Output about API keys and accounts: tables for people, objects for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from warehouse.cli.output.formats import (
    format_ago,
    format_count,
    format_size,
    format_span,
    format_time,
    printable,
)
from warehouse.cli.output.objects import plain, result_console, say, say_json
from warehouse.client.grant_texts import format_grant
from warehouse.client.identities import NewKey
from warehouse.transport.messages import AccountInfo, KeyInfo, KeyLimits

GRANTS_SHOWN = 3  # in a table
WIDTH_MIN = 160  # columns of a window for the table; in a narrower one, keys take several lines


def print_new_key(new: NewKey, saved: Path | None, *, is_json: bool) -> None:
    """Show a secret, the only time that it is shown.

    Args:
        saved: the profile that has it; None: there is none, so print it.
    """
    if is_json:
        say_json(
            key_id=new.key_id,
            secret=new.secret,
            profile=None if saved is None else str(saved),
            **{name: value for name, value in plain(new.key).items() if name != "key_id"},
        )
        return
    console = result_console()
    console.print(Text.assemble(("key id  ", "dim"), (new.key_id, "bold")), soft_wrap=True)
    if saved is None:
        console.print(Text.assemble(("secret  ", "dim"), (new.secret, "bold")), soft_wrap=True)
        say("The secret is shown this once, and nobody can find it out later: keep it in a safe place.")
    else:
        say(f"The secret is in {printable(str(saved))} and shown nowhere else: keep that file to yourself.")
    for sentence in new.key.abilities:
        if sentence.startswith("can "):  # `keys show` also says what it cannot
            say(f"  {printable(sentence)}")
    for name, line in (
        ("ends", None if new.key.expires_ms is None else format_time(new.key.expires_ms)),
        ("limits", _limits(new.key.limits)),
    ):
        if line:
            say(f"  {name}: {line}")
    if new.key.previous_until_ms is not None:
        say(f"The secret before works until {format_time(new.key.previous_until_ms)}.")


# --- keys -----------------------------------------------------------------------------------------


def print_keys(keys: Sequence[KeyInfo], *, is_json: bool, now_s: float) -> None:
    """
    Args:
        now_s: wall time, seconds since 1970.
    """
    if is_json:
        for key in keys:
            say_json(**plain(key))
        return
    console = result_console()
    if console.is_terminal and console.width < WIDTH_MIN:
        _print_narrow(console, keys, now_s)
    else:
        console.width = max(console.width, WIDTH_MIN)  # a pipe: a line a key
        _print_wide(console, keys, now_s)
    console.print(format_count(len(keys), "key"))
    old = [key.key_id for key in keys if not key.is_sealed]
    if old:
        line = f"{format_count(len(old), 'key')} of an earlier release, to be rotated before use with S3: "
        console.print(Text(line + ", ".join(old), "yellow"), soft_wrap=True)


def _print_wide(console: Console, keys: Sequence[KeyInfo], now_s: float) -> None:
    table = _table("id", "name", "account", "state", "last used", "can", "where")
    for key in keys:
        table.add_row(*_cells(key, now_s), _can(key), _where(key))
    console.print(table)


def _print_narrow(console: Console, keys: Sequence[KeyInfo], now_s: float) -> None:
    """What a key can do and where stands below its line; ids are for copying and never cut."""
    head = [Text(name, "dim") for name in ("id", "name", "account", "state", "last used")]
    rows = [_cells(key, now_s) for key in keys]
    widths = [max(cell.cell_len for cell in column) for column in zip(head, *rows, strict=True)]

    def line(cells: Sequence[Text]) -> None:
        parts: list[Text] = []
        for cell, width in zip(cells, widths, strict=True):
            parts += [cell, Text(" " * (width - cell.cell_len + 2))]
        console.print(Text.assemble(*parts[:-1]), soft_wrap=True)

    line(head)
    for key, cells in zip(keys, rows, strict=True):
        line(cells)
        console.print(Padding(Text(f"{_can(key)}; {_where(key)}", "dim"), (0, 0, 0, 2)))


def _cells(key: KeyInfo, now_s: float) -> list[Text]:
    used = "never" if key.last_used_ms is None else format_ago(max(now_s - key.last_used_ms / 1000, 0.0))
    names = [key.key_id, printable(key.name), printable(key.account)]
    return [*map(Text, names), _state(key, now_s), Text(used)]


def _can(key: KeyInfo) -> str:
    return ", ".join(key.permissions) or "nothing"


def _state(key: KeyInfo, now_s: float) -> Text:
    if not key.is_enabled:
        return Text("disabled", "yellow")
    if key.expires_ms is None:
        return Text("enabled", "green")
    left_s = key.expires_ms / 1000 - now_s
    return Text("expired", "red") if left_s <= 0 else Text(f"ends in {format_span(left_s)}", "green")


def _where(key: KeyInfo) -> str:
    if key.grants is None:
        return "every bucket"
    places = [printable(format_grant(grant)) for grant in key.grants[:GRANTS_SHOWN]]
    left = len(key.grants) - len(places) + key.hidden_grant_count
    return "; ".join(places + ([f"and {left} more"] if left else [])) or "no bucket"


def print_key(key: KeyInfo, *, now_s: float) -> None:
    """Show everything about one key, and what it can do in words."""
    console = result_console()
    for name, value in _lines(key, now_s):
        shown = value if isinstance(value, Text) else Text(printable(value))
        console.print(Text.assemble((f"{name:<12}", "dim"), shown), soft_wrap=True)
    for sentence in key.abilities:
        console.print(
            Text(f"  {printable(sentence)}", "" if sentence.startswith("can ") else "dim"), soft_wrap=True
        )


def _lines(key: KeyInfo, now_s: float) -> Iterator[tuple[str, str | Text]]:
    yield "key id", key.key_id
    yield "name", key.name
    if key.description:
        yield "description", key.description
    yield "account", f"{key.account} ({key.account_id})"
    yield "state", _state(key, now_s)
    yield "created", format_time(key.created_ms)
    if key.expires_ms is not None:
        yield "expires", format_time(key.expires_ms)
    yield "last used", "never" if key.last_used_ms is None else format_time(key.last_used_ms)
    if not key.is_sealed:
        yield "secret", Text("of an earlier release: rotate the key before you use it for S3", "yellow")
    if key.previous_until_ms is not None:
        yield "rotated", f"the secret before works until {format_time(key.previous_until_ms)}"
    yield "permissions", ", ".join(key.permissions) or "none"
    for grant in key.grants or ():
        yield "grant", format_grant(grant)
    if key.hidden_grant_count:
        yield "grants", f"and {key.hidden_grant_count} on buckets that your key may not see"
    if key.sign_s_max is not None:
        yield "signs", f"URLs that live for at most {format_span(key.sign_s_max)}"
    if limits := _limits(key.limits):
        yield "limits", limits


def _limits(limits: KeyLimits) -> str:
    parts = []
    if limits.requests_per_s is not None:
        parts.append(f"{limits.requests_per_s:g} requests/s")
    if limits.bytes_per_s is not None:
        parts.append(f"{format_size(int(limits.bytes_per_s))}/s")
    if limits.requests_at_once is not None:
        parts.append(f"{limits.requests_at_once:,} requests at once")
    if limits.open_uploads is not None:
        parts.append(f"{limits.open_uploads:,} open uploads")
    if limits.lease_bytes is not None:
        parts.append(f"{format_size(limits.lease_bytes)} under lease")
    return ", ".join(parts)


# --- accounts -------------------------------------------------------------------------------------


def print_accounts(accounts: Sequence[AccountInfo], *, is_json: bool) -> None:
    if is_json:
        for account in accounts:
            say_json(**plain(account))
        return
    table = _table("name", "e-mail", "created", "id")
    for account in accounts:
        table.add_row(
            printable(account.name),
            printable(account.email or ""),
            format_time(account.created_ms),
            account.account_id,
        )
    result_console().print(table)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, no_wrap=column not in ("can", "where"), header_style="dim")
    return table
