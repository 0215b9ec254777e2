"""Audit lines: what a line of the audit log may say, and how it is written.  Pure.

A line is one JSON object in ASCII: control characters and letters beyond ASCII are escaped, so a key or a
name that somebody chose can neither end a line nor move a terminal's cursor.  `time` comes first, always with
the same length, so that a reader finds old lines without decoding them.

    {"time":"2026-11-29T16:23:24.123Z","action":"bucket_deleted","result":"ok","key":"WH...", ...}

`ACTIONS` says which fields each action has besides those that all have.  A field that is not listed there
cannot be written, and no field of a secret, token or URL is listed.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Value: TypeAlias = str | int | float | bool | Sequence[str] | None

TEXT_LENGTH_MAX = 1024  # characters of one value; a longer one is cut
LIST_LENGTH_MAX = 10  # texts in a list
LINE_SIZE_MAX = 256 * 1024  # bytes; a longer line was not written by us

# Fields of every action.
COMMON = (
    "time",  # RFC 3339, UTC, milliseconds
    "action",
    "result",  # "ok", or the code of the error that the request was refused with
    "key",  # id of the API key
    "account",  # id of the account that the key belongs to
    "node",  # public CURVE key of one of our actors
    "user",  # of the operating system, for what was done to files and not through the master
    "address",  # where the connection comes from
    "target",  # what it was done to
    "request",  # name of the connection, and the number of the request on it
    "left_out",  # lines like this one that were not written since the last one: see `audit_sampling.py`
)

# Fields of each action besides those.
ACTIONS: dict[str, tuple[str, ...]] = {
    # Who comes in.
    "login": (),
    "attach": (),
    "disk_registered": ("disk", "url"),
    "compactor_registered": ("disk",),
    "node_joined": ("disk", "role"),
    "gateway_registered": (),
    "signature_checked": ("scheme", "date"),
    # What is done to buckets and objects.
    "bucket_created": (),
    "bucket_deleted": ("is_forced",),
    "quota_set": ("quota_objects", "quota_bytes"),
    "bucket_configured": ("config", "is_removed"),
    "objects_deleted": ("count", "existed", "keys"),
    "url_signed": ("method", "life_s"),
    # What is done to the store.
    "secret_rotated": ("overlap_s",),
    "jobs_started": ("work", "is_all", "is_forced"),
    "jobs_cancelled": ("count",),
    "jobs_paused": (),
    "jobs_resumed": (),
    "orphans_decided": ("decision",),
    "join_token_made": ("role", "is_reusable", "life_s"),
    "join_token_removed": (),
    "node_removed": (),
    "disk_removed": (),
    "disk_confirmed": ("url",),
    # What is done to API keys and accounts.
    "key_created": ("id", "name", "permissions", "grants"),
    "key_imported": ("id", "name", "permissions", "grants"),
    "key_changed": ("id", "changed", "is_enabled", "permissions", "grants"),
    "key_rotated": ("id", "overlap_s"),
    "key_deleted": ("id",),
    "bucket_given": ("to",),
    "account_created": (),
    "account_changed": (),
    "account_deleted": (),
    # What was refused.
    "request_refused": ("kind",),
    "tokens_refused": ("count",),
    "lines_left_out": ("of",),
    # Tools that work on the files.
    "backup_made": (),
    "store_restored": (),
    "catalog_rebuilt": (),
    "objects_exported": (),
    "root_reset": ("disabled",),
    # The log itself.
    "master_started": ("version",),
    "master_stopped": (),
    "lines_lost": ("count", "cause", "since"),
}


def encode_line(action: str, fields: Mapping[str, Value], *, at_s: float | None = None) -> bytes:
    """One line, with its end.

    Args:
        fields: those that are None or "" are left out; `result` is "ok" if it is missing.
        at_s: seconds since 1970; None: now.
    Raises:
        ValueError: there is no such action, or a field is not one of its own.
    """
    unknown = fields.keys() - {*COMMON[2:], *_fields_of(action)}
    if unknown:
        raise ValueError(f"the audit log has no field {', '.join(sorted(unknown))} for {action}")
    line: dict[str, Value] = {"time": format_utc(time.time() if at_s is None else at_s), "action": action}
    line["result"] = "ok"
    line |= {name: _clean(value) for name, value in fields.items() if value is not None and value != ""}
    return json.dumps(line, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"


def _fields_of(action: str) -> tuple[str, ...]:
    if action not in ACTIONS:
        raise ValueError(f"the audit log has no action {action!r}")
    return ACTIONS[action]


def _clean(value: Value) -> Value:
    if isinstance(value, str):
        return value if len(value) <= TEXT_LENGTH_MAX else value[:TEXT_LENGTH_MAX] + "..."
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no such number
    if isinstance(value, Sequence):
        return [str(_clean(str(text))) for text in value[:LIST_LENGTH_MAX]]
    return value


def format_utc(at_s: float) -> str:
    """Seconds since 1970 as RFC 3339, with milliseconds: 24 characters, for the years 1970 to 9999."""
    at_ms = min(max(int(at_s * 1000), 0), 253_402_300_799_999)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_ms // 1000)) + f".{at_ms % 1000:03d}Z"
