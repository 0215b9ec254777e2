"""Output about the machines of a store: join tokens, nodes, disks; for people and for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.table import Table
from rich.text import Text

from warehouse.cli.output.formats import format_count, format_size, format_time, printable
from warehouse.cli.output.objects import plain, result_console, say_json
from warehouse.transport.messages import DiskInfo, JoinTokenInfo, LostObject, NodeInfo

WIDTH_MIN = 220  # columns: a key or an id is for copying, and must not be cut


def print_tokens(tokens: Sequence[JoinTokenInfo], *, is_json: bool) -> None:
    if is_json:
        for token in tokens:
            say_json(**plain(token))
        return
    rows = [
        (
            token.token_id,
            token.role,
            "any number" if token.is_reusable else "one machine",
            "never" if token.expires_ms is None else format_time(token.expires_ms),
            f"{token.use_count:,}",
            token.created_by or "the first start",
        )
        for token in tokens
    ]
    _print_table(("token", "role", "for", "expires", "used", "made by"), rows)


def print_nodes(nodes: Sequence[NodeInfo], disk_names: Mapping[str, str], *, is_json: bool) -> None:
    if is_json:
        for node in nodes:
            say_json(**plain(node))
        return
    rows = [
        (
            printable(node.name),
            _state_of(node),
            node.role,
            ", ".join(printable(disk_names.get(disk_id, disk_id)) for disk_id in node.disk_ids) or "-",
            node.host or "here",
            node.joined_with or "-",
            node.key,
        )
        for node in nodes
    ]
    _print_table(("node", "state", "role", "disk", "from", "token", "key"), rows)


def _state_of(node: NodeInfo) -> str:
    if node.removed_ms is not None:
        return "removed"
    return "online" if node.is_online else "offline"


def print_disks(disks: Sequence[DiskInfo], *, is_json: bool) -> None:
    if is_json:
        for disk in disks:
            say_json(**plain(disk))
        return
    rows = [
        (
            printable(disk.name),
            "online" if disk.is_online else "offline",
            format_count(disk.volume_count, "volume"),
            format_size(disk.byte_count),
            disk.url or "-",
            printable(disk.node_name) or "-",
            disk.disk_id,
        )
        for disk in disks
    ]
    _print_table(("disk", "state", "volumes", "size", "url", "node", "id"), rows)


def print_lost(lost: LostObject, *, is_json: bool) -> None:
    if is_json:
        say_json(**plain(lost))
        return
    name = f"wh://{printable(lost.bucket)}/{printable(lost.key)}" if lost.key else "(an object of others)"
    print(f"{format_size(lost.size):>12}  {name}")


def _print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="")
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = result_console()
    console.width = max(console.width, WIDTH_MIN)
    console.print(table)
