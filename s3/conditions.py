"""Conditions: If-Match and its siblings, and whether they hold.  Pure

    reads      If-Match fails: 412, whatever else; it holds: If-Unmodified-Since does not count
               If-None-Match matches: 304, whatever else; it does not: If-Modified-Since does not count
    copies     the same of x-amz-copy-source-if-..., and 412 in place of 304
    writes     If-Match, If-None-Match, with `*` or ETags.  If-Match without an object: 404 NoSuchKey
    deletions  If-Match, x-amz-if-match-last-modified-time, x-amz-if-match-size; all of them hold where there
               is no object, because then nothing is deleted

Whether a condition of a write or a deletion holds is decided in the transaction that commits it; what stands
here says what it means.  A condition guards something, so one that cannot be read is refused, and so is one
of a kind that an operation does not know.  The exception is If-Modified-Since: it only saves bytes.

Source: RFC 9110, section 13; the Amazon S3 user guide, "Conditional requests".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from warehouse.s3 import dates
from warehouse.s3.etags import Tags, parse_tags
from warehouse.s3.failures import Failure
from warehouse.s3.xml_in import DeleteKey

_COPY: Final = b"x-amz-copy-source-"
CONDITION_NAMES: Final = frozenset(
    (b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since")
)
_COPY_NAMES: Final = frozenset(_COPY + name for name in CONDITION_NAMES)
_DATE_NAMES: Final = (b"if-modified-since", b"if-unmodified-since")
_DELETE_TIME: Final = b"x-amz-if-match-last-modified-time"
_DELETE_SIZE: Final = b"x-amz-if-match-size"
_SIZE_DIGITS_MAX: Final = 19
_is_etag: Final = re.compile(r"[\x21\x23-\x7e\x80-\xff]*").fullmatch  # RFC 9110, 8.8.3


class Facts(Struct, frozen=True):
    """An object as it is now, as far as conditions ask.  The ETag has no quotes."""

    etag: str
    modified_ms: int
    size: int

    @property
    def modified_s(self) -> int:
        return self.modified_ms // 1000


# --- reads --------------------------------------------------------------------------------------------


class ReadConditions(Struct, frozen=True):
    if_match: Tags | None = None
    if_none_match: Tags | None = None
    if_modified_since_s: int | None = None
    if_unmodified_since_s: int | None = None


NO_CONDITIONS: Final = ReadConditions()


def read_conditions(headers: Mapping[bytes, bytes]) -> ReadConditions:
    """The conditions of a GET or HEAD.

    Raises:
        Failure: InvalidArgument: one that guards something cannot be read.
    """
    if CONDITION_NAMES.isdisjoint(headers):
        return NO_CONDITIONS
    return _conditions(headers, b"")


def copy_conditions(headers: Mapping[bytes, bytes]) -> ReadConditions:
    """The conditions of a copy's source; raises as `read_conditions` does."""
    if _COPY_NAMES.isdisjoint(headers):
        return NO_CONDITIONS
    since = _COPY + b"if-modified-since"
    if since in headers:
        _date(since, headers[since])  # here it guards something
    return _conditions(headers, _COPY)


def _conditions(headers: Mapping[bytes, bytes], prefix: bytes) -> ReadConditions:
    match, none_match = headers.get(prefix + b"if-match"), headers.get(prefix + b"if-none-match")
    modified = headers.get(prefix + b"if-modified-since")
    unmodified = headers.get(prefix + b"if-unmodified-since")
    return ReadConditions(
        None if match is None else parse_tags(match),
        None if none_match is None else parse_tags(none_match),
        None if modified is None else dates.read_http(modified.strip()),
        None if unmodified is None else _date(prefix + b"if-unmodified-since", unmodified),
    )


def is_not_modified(conditions: ReadConditions, facts: Facts) -> bool:
    """Whether a read is answered with 304.

    Raises:
        Failure: PreconditionFailed.
    """
    if conditions is NO_CONDITIONS:
        return False
    if conditions.if_match is not None:
        if not conditions.if_match.match(facts.etag):
            raise _failed("If-Match")
    elif conditions.if_unmodified_since_s is not None and facts.modified_s > conditions.if_unmodified_since_s:
        raise _failed("If-Unmodified-Since")
    if conditions.if_none_match is not None:
        return conditions.if_none_match.match_weakly(facts.etag)
    return conditions.if_modified_since_s is not None and facts.modified_s <= conditions.if_modified_since_s


def check_copy(conditions: ReadConditions, source: Facts) -> None:
    """
    Raises:
        Failure: PreconditionFailed: the source may not be copied.
    """
    if is_not_modified(conditions, source):
        name = "If-None-Match" if conditions.if_none_match is not None else "If-Modified-Since"
        raise _failed(f"x-amz-copy-source-{name}")


def is_range_current(headers: Mapping[bytes, bytes], facts: Facts) -> bool:
    """Whether If-Range allows a range of this version; otherwise the whole object is sent."""
    value = headers.get(b"if-range")
    if value is None:
        return True
    moment_s = dates.read_http(value.strip())
    if moment_s is not None:
        return moment_s == facts.modified_s
    try:
        return parse_tags(value).match(facts.etag)
    except Failure:
        return False


# --- writes -------------------------------------------------------------------------------------------


class WriteConditions(Struct, frozen=True):
    if_match: Tags | None = None
    if_none_match: Tags | None = None


UNCONDITIONAL: Final = WriteConditions()


def write_conditions(headers: Mapping[bytes, bytes]) -> WriteConditions:
    """The conditions of a put, a copy's target or a Complete.

    Raises:
        Failure: InvalidArgument: one cannot be read; NotImplemented: a date, which no write compares.
    """
    if CONDITION_NAMES.isdisjoint(headers):
        return UNCONDITIONAL
    for name in _DATE_NAMES:
        if name in headers:
            raise _not_implemented(name)
    match, none_match = headers.get(b"if-match"), headers.get(b"if-none-match")
    return WriteConditions(
        None if match is None else parse_tags(match),
        None if none_match is None else parse_tags(none_match),
    )


def check_write(conditions: WriteConditions, etag: str | None) -> None:
    """Compare with the object that a write would replace.

    Args:
        etag: None: there is no object, or a delete marker hides it.
    Raises:
        Failure: NoSuchKey, PreconditionFailed.
    """
    if conditions.if_match is not None:
        if etag is None:
            raise Failure("NoSuchKey", "The specified key does not exist.")
        if not conditions.if_match.match(etag):
            raise _failed("If-Match")
    if conditions.if_none_match is not None and conditions.if_none_match.match_weakly(etag):
        raise _failed("If-None-Match")


def as_field(tags: Tags | None) -> str | None:
    """A condition as the store's messages have it: `*`, one ETag alone, or a list in quotes; None: none.

    ETags that no object can have are left out; what is left may be the empty list, which nothing matches.
    """
    if tags is None or tags.is_any:
        return None if tags is None else "*"
    strong, weak = (sorted(filter(_is_etag, one)) for one in (tags.strong, tags.weak))
    if len(strong) == 1 and not weak and strong[0].replace("-", "").isalnum():
        return strong[0]
    return ", ".join([f'"{tag}"' for tag in strong] + [f'W/"{tag}"' for tag in weak])


def refuse_conditions(headers: Mapping[bytes, bytes]) -> None:
    """Refuse a conditional request of an operation that has no conditions.

    Raises:
        Failure: NotImplemented.
    """
    for name in CONDITION_NAMES.intersection(headers):
        raise _not_implemented(name)


# --- deletions ----------------------------------------------------------------------------------------


class DeleteConditions(Struct, frozen=True):
    if_match: Tags | None = None
    modified_s: int | None = None
    size: int | None = None


DELETE_WHATEVER: Final = DeleteConditions()


def delete_conditions(headers: Mapping[bytes, bytes]) -> DeleteConditions:
    """
    Raises:
        Failure: InvalidArgument: one cannot be read; NotImplemented: one that deletions do not know.
    """
    for name in (*_DATE_NAMES, b"if-none-match"):
        if name in headers:
            raise _not_implemented(name)
    return _of_deletion(headers.get(b"if-match"), headers.get(_DELETE_TIME), headers.get(_DELETE_SIZE))


def conditions_of_key(key: DeleteKey) -> DeleteConditions:
    """Those of one key of a DeleteObjects; what `delete_conditions` would raise concerns this key alone."""
    if key.etag is None and key.modified is None and key.size is None:
        return DELETE_WHATEVER
    return _of_deletion(
        *(None if one is None else one.encode() for one in (key.etag, key.modified, key.size))
    )


def _of_deletion(etag: bytes | None, modified: bytes | None, size: bytes | None) -> DeleteConditions:
    if etag is None and modified is None and size is None:
        return DELETE_WHATEVER
    return DeleteConditions(
        None if etag is None else parse_tags(etag),
        None if modified is None else _date(_DELETE_TIME, modified),
        None if size is None else _size(size),
    )


def check_delete(conditions: DeleteConditions, facts: Facts | None) -> None:
    """
    Args:
        facts: of the version that would be deleted; None: there is none.
    Raises:
        Failure: PreconditionFailed.
    """
    if facts is None or conditions is DELETE_WHATEVER:
        return
    if conditions.if_match is not None and not conditions.if_match.match(facts.etag):
        raise _failed("If-Match")
    if conditions.modified_s is not None and conditions.modified_s != facts.modified_s:
        raise _failed("x-amz-if-match-last-modified-time")
    if conditions.size is not None and conditions.size != facts.size:
        raise _failed("x-amz-if-match-size")


# --- values -------------------------------------------------------------------------------------------


def _date(name: bytes, value: bytes) -> int:
    moment_s = dates.read_date(value.strip())
    if moment_s is None:
        raise _unreadable(name, value, "a date, as in Sun, 06 Nov 1994 08:49:37 GMT")
    return moment_s


def _size(value: bytes) -> int:
    digits = value.strip()
    if not digits.isdigit() or len(digits) > _SIZE_DIGITS_MAX:
        raise _unreadable(_DELETE_SIZE, value, "a number of bytes")
    return int(digits)


def _unreadable(name: bytes, value: bytes, expected: str) -> Failure:
    return Failure(
        "InvalidArgument",
        f"{name.decode()} must be {expected}.",
        {"ArgumentName": name.decode(), "ArgumentValue": value[:100].decode("ascii", "backslashreplace")},
    )


def _failed(name: str) -> Failure:
    # Never which ETag the object has: whoever may write it may not be allowed to read it.
    return Failure(
        "PreconditionFailed",
        "At least one of the pre-conditions you specified did not hold",
        {"Condition": name},
    )


def _not_implemented(name: bytes) -> Failure:
    return Failure(
        "NotImplemented",
        "A header you provided implies functionality that is not implemented: a condition of another kind.",
        {"Header": name.decode()},
    )
