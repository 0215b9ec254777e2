"""The form of an API key: what somebody wants it to be.  Pure.

A form is read as it is, also half typed, so that a page can show it again; `wish` admits it.

    name, description, account            text
    may                                   names of permissions, one field each
    where                                 "everywhere" or "grants"
    bucket-0, prefix-0, may-0, …          rows of grants; may-0 one field for each permission
    expires, expires_at                   "never", "keep", a number of seconds, or "at" with a moment in UTC
    sign_max                              a time span, such as 1h; "": no limit of its own
    requests_per_s, bytes_per_s, …        limits; "": none
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import msgspec
from werkzeug.datastructures import MultiDict

from warehouse import KeyGrant, KeyInfo, KeyLimits
from warehouse.client.grant_texts import format_grant
from warehouse.conf.setting_types import parse_seconds, parse_size, size_text
from warehouse.errors import BadRequest
from warehouse.webui.key_rights import FLAGS, GRANT_FLAGS, PRESET_FLAGS, preset_of, sentences

ROWS_MAX = 256
FIELD_MAX = 4096  # characters
LIVES = {"3600": "1 hour", "86400": "1 day", "604800": "1 week", "2592000": "30 days", "7776000": "90 days",
         "31536000": "1 year"}  # fmt: skip
LIMITS = {
    "requests_per_s": "Requests a second",
    "bytes_per_s": "Bytes of objects a second, such as 10MiB",
    "requests_at_once": "Requests at once",
    "open_uploads": "Open uploads",
    "lease_bytes": "Room under lease, such as 1GiB",
}
_SIZES = ("bytes_per_s", "lease_bytes")


@dataclass(frozen=True)
class Row:
    """A grant: of which bucket, of which keys, and what.

    Attributes:
        bucket: a name, or how names begin, with a * after it.
    """

    bucket: str = ""
    prefix: str = ""
    may: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not self.bucket and not self.prefix


@dataclass(frozen=True)
class KeyForm:
    """What the fields hold."""

    name: str = ""
    description: str = ""
    account: str = ""
    may: frozenset[str] = frozenset()
    is_everywhere: bool = True
    rows: tuple[Row, ...] = ()
    expires: str = "never"
    expires_at: str = ""
    sign_max: str = ""
    limits: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, form: MultiDict[str, str]) -> KeyForm:
        """
        Raises:
            BadRequest: there is more than a form has room for.
        """
        rows: list[Row] = []
        while len(rows) <= ROWS_MAX and f"bucket-{len(rows)}" in form:
            number = len(rows)
            prefix = form.get(f"kept-{number}", "")
            rows.append(
                Row(
                    _text(form, f"bucket-{number}"),
                    unquote(prefix) if prefix else _raw(form, f"prefix-{number}"),
                    tuple(name for name in GRANT_FLAGS if name in form.getlist(f"may-{number}")),
                )
            )
        if len(rows) > ROWS_MAX:
            raise BadRequest(f"a key has at most {ROWS_MAX} grants")
        return cls(
            name=_text(form, "name"),
            description=_text(form, "description").replace("\r\n", "\n"),
            account=_text(form, "account"),
            may=frozenset(form.getlist("may")) & frozenset(FLAGS),
            is_everywhere=form.get("where") == "everywhere",
            rows=tuple(rows),
            expires=_text(form, "expires") or "never",
            expires_at=_text(form, "expires_at"),
            sign_max=_text(form, "sign_max"),
            limits={name: _text(form, name) for name in LIMITS},
        )

    @classmethod
    def of(cls, key: KeyInfo) -> KeyForm:
        """The form of a key as it is."""
        limits = msgspec.structs.asdict(key.limits)
        return cls(
            name=key.name,
            description=key.description,
            account=key.account,
            may=frozenset(key.permissions) & frozenset(FLAGS),
            is_everywhere=key.grants is None,
            rows=tuple(
                Row(grant.bucket, grant.prefix, tuple(grant.permissions)) for grant in key.grants or ()
            ),
            expires="never" if key.expires_ms is None else "keep",
            sign_max="" if key.sign_s_max is None else f"{key.sign_s_max}s",
            limits={name: _limit_text(name, limits[name]) for name in LIMITS},
        )

    def after(self, action: str, mine: Iterable[str]) -> KeyForm:
        """The form after a button that only changes it: "add", "remove-2", "preset-reader"; or after the
        choice of "Only these": "only"."""
        verb, _, what = action.partition("-")
        have = frozenset(mine)
        if verb == "only" and self.rows:
            return replace(self, is_everywhere=False)
        if verb in ("add", "only") and len(self.rows) < ROWS_MAX:
            may = tuple(name for name in GRANT_FLAGS if name in self.may & have and name != "manage_buckets")
            return replace(self, rows=(*self.rows, Row(may=may)), is_everywhere=False)
        if verb == "remove" and what.isascii() and what.isdigit():
            return replace(self, rows=tuple(row for at, row in enumerate(self.rows) if at != int(what)))
        if verb == "preset" and what in PRESET_FLAGS:
            flags = frozenset(PRESET_FLAGS[what])
            rows = tuple(replace(row, may=self._preset_row(row, flags)) for row in self.rows)
            return replace(self, may=flags & have, rows=rows)
        return self

    def _preset_row(self, row: Row, flags: frozenset[str]) -> tuple[str, ...]:
        """What the preset has, without what somebody took from the row before."""
        taken = self.may - frozenset(row.may)
        return tuple(name for name in GRANT_FLAGS if name in flags - taken)

    # --- what it comes to -------------------------------------------------------------------------

    @property
    def permissions(self) -> list[str]:
        return [name for name in FLAGS if name in self.may]

    @property
    def grants(self) -> list[KeyGrant] | None:
        """Rows that name nothing are left out; no row gives more than the key has."""
        if self.is_everywhere:
            return None
        return [
            KeyGrant(
                bucket=row.bucket,
                prefix=row.prefix,
                permissions=[
                    name
                    for name in row.may
                    if name in self.may and not (name == "manage_buckets" and row.prefix)
                ],
            )
            for row in self.rows
            if not row.is_empty
        ]

    def sentences(self) -> list[str]:
        return sentences(self.permissions, self.grants)

    def wish(self, now: datetime, kept: datetime | None = None) -> dict[str, Any]:
        """What the library takes.

        Args:
            kept: the expiry that "keep" stands for.
        Raises:
            BadRequest: a field does not hold what it should.
        """
        if not self.name:
            raise BadRequest("Name is missing: what or who uses the key")
        for number, grant in enumerate(self.grants or (), 1):
            if not grant.bucket:
                raise BadRequest(f"row {number} names no bucket")
            if not grant.permissions:
                raise BadRequest(f"row {number} gives nothing: tick what the key may do in {grant.bucket}")
        return {
            "name": self.name,
            "description": self.description,
            "account": self.account,
            "permissions": self.permissions,
            "grants": self.grants,
            "expires": self._expires(now, kept),
            "sign_s_max": _number("Longest life of signed URLs", self.sign_max, parse_seconds, int),
            "limits": self._limits(),
        }

    def _expires(self, now: datetime, kept: datetime | None) -> datetime | None:
        if self.expires == "never":
            return None
        if self.expires == "keep":
            return kept
        if self.expires in LIVES:
            return now + timedelta(seconds=int(self.expires))
        try:
            return datetime.fromisoformat(self.expires_at).replace(tzinfo=UTC)
        except ValueError:
            raise BadRequest("choose the day and the time when the key ends") from None

    def _limits(self) -> KeyLimits:
        found: dict[str, Any] = {}
        for name, label in LIMITS.items():
            parse: Callable[[str], float] = parse_size if name in _SIZES else float
            found[name] = _number(
                label, self.limits.get(name, ""), parse, float if name.endswith("_per_s") else int
            )
        return KeyLimits(**found)


def changes(form: KeyForm, key: KeyInfo, now: datetime) -> dict[str, Any]:
    """What of a key the form changes, as `Store.edit_key` takes it.

    Raises:
        BadRequest: as `KeyForm.wish`.
    """
    kept = None if key.expires_ms is None else datetime.fromtimestamp(key.expires_ms / 1000, UTC)
    wish, before = form.wish(now, kept), KeyForm.of(key)
    as_it_is = before.wish(now, kept) | {"sign_s_max": key.sign_s_max, "limits": key.limits}
    changed = {name: value for name, value in wish.items() if value != as_it_is[name]}
    if set(form.permissions) == set(before.permissions) and len(before.permissions) != len(key.permissions):
        changed.pop("permissions", None)  # it has some that this release does not know
    return changed


# --- texts ----------------------------------------------------------------------------------------


def as_json(wish: dict[str, Any]) -> str:
    """What a program would pass to `Store.create_key`, as JSON."""
    plain = {name: _plain(value) for name, value in wish.items()}
    return json.dumps({n: v for n, v in plain.items() if v not in ("", {})}, indent=2, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, KeyLimits):
        return {name: one for name, one in msgspec.structs.asdict(value).items() if one is not None}
    return msgspec.to_builtins(value)


def as_command(wish: dict[str, Any], key_id: str = "") -> str:
    """The command that does the same.

    Args:
        key_id: of the key that is edited; "": a new one.
    """
    words = ["warehouse", "keys", "edit" if key_id else "create", key_id or wish["name"]]
    if key_id and "name" in wish:
        words += ["--name", wish["name"]]
    if "permissions" in wish:
        preset = preset_of(wish["permissions"])
        words += (
            ["--preset", preset] if preset else ["--permissions", ",".join(wish["permissions"]) or "none"]
        )
    words += _grant_words(wish, is_edit=bool(key_id))
    for name, option in (("description", "--description"), ("account", "--account")):
        if wish.get(name) or (key_id and name in wish):
            words += [option, wish[name]]
    if "expires" in wish and (wish["expires"] is not None or key_id):
        ends = wish["expires"]
        words += ["--expires", "none" if ends is None else ends.isoformat(timespec="seconds")]
    if "sign_s_max" in wish and (wish["sign_s_max"] is not None or key_id):
        words += ["--sign-max", "none" if wish["sign_s_max"] is None else f"{wish['sign_s_max']}s"]
    words += _limit_words(wish, is_edit=bool(key_id))
    return shlex.join(words)


def _grant_words(wish: dict[str, Any], *, is_edit: bool) -> list[str]:
    if "grants" not in wish:
        return []
    if wish["grants"] is None:
        return ["--every-bucket"] if is_edit else []
    words = [word for grant in wish["grants"] for word in ("--grant", format_grant(grant))]
    return words or ["--grant", "none"]


_OPTIONS = {
    "requests_per_s": "--limit-requests",
    "bytes_per_s": "--limit-bytes",
    "requests_at_once": "--limit-at-once",
    "open_uploads": "--limit-uploads",
    "lease_bytes": "--limit-lease",
}


def _limit_words(wish: dict[str, Any], *, is_edit: bool) -> list[str]:
    if "limits" not in wish:
        return []
    limits = msgspec.structs.asdict(wish["limits"])
    words: list[str] = []
    for name, option in _OPTIONS.items():
        if limits[name] is not None:
            words += [option, _limit_text(name, limits[name])]
        elif is_edit:
            words += [option, "none"]
    return words


# --- fields ---------------------------------------------------------------------------------------


def _raw(form: MultiDict[str, str], name: str) -> str:
    value = form.get(name, "")
    if len(value) > FIELD_MAX:
        raise BadRequest(f"{name} has {len(value)} characters; allowed are {FIELD_MAX}")
    return value


def _text(form: MultiDict[str, str], name: str) -> str:
    return _raw(form, name).strip()


def _limit_text(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return size_text(int(value)) if name in _SIZES else f"{value:g}" if value < 1e6 else str(value)


def _number(
    label: str, text: str, parse: Callable[[str], float], kind: Callable[[float], float]
) -> float | None:
    if not text:
        return None
    try:
        return kind(parse(text))
    except (ValueError, OverflowError):
        raise BadRequest(f"{label.partition(',')[0]}: {text[:50]!r} is not understood") from None
