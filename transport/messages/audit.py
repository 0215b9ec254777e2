"""Messages about the audit log: an operator reads it page by page.

`AuditEntry` is public: programs hold it (`warehouse.AuditEntry`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from warehouse.transport.messages.base import Message
from warehouse.transport.messages.numbers import Signed, Whole
from warehouse.transport.messages.texts import Few, Name, Page, Sentence, Word

DETAILS_MAX = 100  # of one entry

Detail = Sentence | Signed | float | bool | None | Annotated[list[Sentence], Few]


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the audit log; docs/audit.md explains the fields."""

    time: Name  # RFC 3339, UTC, milliseconds
    action: Word
    result: Word = "ok"  # or the code of an error
    key: Name = ""  # id of the API key
    account: Name = ""
    node: Name = ""
    user: Name = ""
    address: Name = ""
    target: Sentence = ""
    request: Name = ""
    details: Annotated[dict[Word, Detail], Few] = {}  # the further fields of this action


class ListAudit(Message, frozen=True, tag="list_audit"):
    """The next lines of the audit log, oldest first."""

    cursor: Name = ""  # from the last page; "": the oldest line
    since_ms: Whole = 0  # wall time; lines before are left out
    key: Name = ""  # only lines with this key; "": all
    action: Name = ""  # likewise
    limit: Whole = 1000


class AuditListed(Message, frozen=True, tag="audit_listed"):
    entries: Annotated[list[AuditEntry], Page]
    cursor: Name  # for the next page, now or later
    is_last: bool  # there is nothing more for now
    is_gap: bool = False  # lines between the last page and this one were rotated away
    unreadable_count: Whole = 0  # lines that were passed over


_OWN = frozenset(field.name for field in msgspec.structs.fields(AuditEntry)) - {"details"}


def entry_of(line: Mapping[str, Any]) -> AuditEntry | None:
    """A line of the file as an entry; None: it is not one of ours."""
    own = {name: value for name, value in line.items() if name in _OWN}
    details = [(name, value) for name, value in line.items() if name not in _OWN]
    try:
        return msgspec.convert({**own, "details": dict(details[:DETAILS_MAX])}, AuditEntry)
    except msgspec.ValidationError:
        return None


def fields_of(entry: AuditEntry) -> dict[str, Any]:
    """An entry as the fields of its line; those that are not known are left out."""
    own = {name: value for name, value in msgspec.structs.asdict(entry).items() if name != "details"}
    return {**{name: value for name, value in own.items() if value != ""}, **entry.details}
