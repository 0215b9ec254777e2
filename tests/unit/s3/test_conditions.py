"""Conditions: in the order of RFC 9110, and never ignored."""

from __future__ import annotations

import itertools

import pytest

from warehouse.s3.conditions import (
    DELETE_WHATEVER,
    NO_CONDITIONS,
    UNCONDITIONAL,
    Facts,
    as_field,
    check_copy,
    check_delete,
    check_write,
    conditions_of_key,
    copy_conditions,
    delete_conditions,
    is_not_modified,
    is_range_current,
    read_conditions,
    refuse_conditions,
    write_conditions,
)
from warehouse.s3.etags import parse_tags
from warehouse.s3.failures import Failure
from warehouse.s3.xml_in import DeleteKey
from warehouse.transport.http import conditions as data_plane

NOW_MS = 1_790_000_000_250
OBJECT = Facts("abc-2", NOW_MS, 5)
BEFORE = b"Mon, 21 Sep 2026 14:13:19 GMT"
SAME = b"Mon, 21 Sep 2026 14:13:20 GMT"
AFTER = b"Mon, 21 Sep 2026 14:13:21 GMT"
SINCE = b"if-modified-since"
UNTIL = b"if-unmodified-since"


def answer(headers: dict[bytes, bytes]) -> int:
    try:
        return 304 if is_not_modified(read_conditions(headers), OBJECT) else 200
    except Failure as failure:
        return failure.status


def test_a_date_counts_seconds() -> None:
    assert [answer({SINCE: date}) for date in (BEFORE, SAME, AFTER)] == [200, 304, 304]
    assert [answer({UNTIL: date}) for date in (BEFORE, SAME, AFTER)] == [412, 200, 200]


@pytest.mark.parametrize("good", [b'"abc-2"', b"abc-2", b"*", b'"x", "abc-2"', b'W/"y","abc-2"'])
@pytest.mark.parametrize("bad", [b'"abc"', b"ABC-2", b'"x", "y"', b'"abc-22"'])
def test_etags_come_with_or_without_quotes(good: bytes, bad: bytes) -> None:
    assert (answer({b"if-match": good}), answer({b"if-match": bad})) == (200, 412)
    assert (answer({b"if-none-match": good}), answer({b"if-none-match": bad})) == (304, 200)


def test_a_weak_etag_is_no_match_but_one_to_exclude() -> None:
    assert answer({b"if-match": b'W/"abc-2"'}) == 412
    assert answer({b"if-none-match": b'W/"abc-2"'}) == 304


def expected_answer(match: bool | None, until: bool | None, none: bool | None, since: bool | None) -> int:
    """The table of RFC 9110, 13.2.2: each condition holds, fails, or was not sent."""
    if match is False or (match is None and until is False):
        return 412
    if none is False or (none is None and since is False):
        return 304
    return 200


def test_every_combination_is_decided_in_the_order_of_the_rfc() -> None:
    holds = {
        b"if-match": {True: b'"abc-2"', False: b'"x"'},
        UNTIL: {True: AFTER, False: BEFORE},
        b"if-none-match": {True: b'"x"', False: b'"abc-2"'},
        SINCE: {True: BEFORE, False: AFTER},
    }
    for states in itertools.product((True, False, None), repeat=4):
        sent = zip(holds, states, strict=True)
        headers = {name: holds[name][state] for name, state in sent if state is not None}
        assert answer(headers) == expected_answer(*states), headers
        copied = {b"x-amz-copy-source-" + name: value for name, value in headers.items()}
        assert copy_answer(copied) == (200 if expected_answer(*states) == 200 else 412), headers


def copy_answer(headers: dict[bytes, bytes]) -> int:
    try:
        check_copy(copy_conditions(headers), OBJECT)
    except Failure as failure:
        return failure.status
    return 200


def test_a_plain_read_has_no_conditions() -> None:
    assert read_conditions({b"host": b"x"}) is NO_CONDITIONS
    assert copy_conditions({b"if-match": b"x"}) is NO_CONDITIONS
    assert write_conditions({b"x-amz-copy-source-if-match": b"x"}) is UNCONDITIONAL
    assert delete_conditions({b"host": b"x"}) is DELETE_WHATEVER


def test_a_date_that_cannot_be_read_guards_nothing_only_where_it_saves_bytes() -> None:
    assert answer({SINCE: b"yesterday"}) == 200
    assert answer({UNTIL: b"yesterday"}) == 400
    for name in (SINCE, UNTIL):
        assert copy_answer({b"x-amz-copy-source-" + name: b"yesterday"}) == 400


@pytest.mark.parametrize("value", [b"", b'"x', b'"x" "y"', b",", b'W/"'])
def test_etags_that_cannot_be_read_are_refused(value: bytes) -> None:
    assert answer({b"if-match": value}) == 400
    assert answer({b"if-none-match": value}) == 400
    with pytest.raises(Failure, match="InvalidArgument"):
        write_conditions({b"if-match": value})


def test_a_failure_names_the_condition_and_no_etag() -> None:
    with pytest.raises(Failure) as refused:
        is_not_modified(read_conditions({b"if-match": b"x"}), OBJECT)
    assert (refused.value.code, refused.value.fields) == ("PreconditionFailed", {"Condition": "If-Match"})
    assert OBJECT.etag not in str(refused.value)


@pytest.mark.parametrize(
    ("value", "is_current"),
    [
        (b'"abc-2"', True),
        (b"abc-2", True),
        (SAME, True),
        (b'"x"', False),
        (b'W/"abc-2"', False),
        (BEFORE, False),
        (AFTER, False),
        (b"", False),
        (b'"x', False),
    ],
)
def test_a_range_of_another_version_is_the_whole_object(value: bytes, is_current: bool) -> None:
    assert is_range_current({b"if-range": value}, OBJECT) is is_current
    assert is_range_current({}, OBJECT)


# --- writes -------------------------------------------------------------------------------------------


def outcome(headers: dict[bytes, bytes], etag: str | None) -> str:
    try:
        check_write(write_conditions(headers), etag)
    except Failure as failure:
        return failure.code
    return "written"


@pytest.mark.parametrize(
    ("headers", "absent", "present"),
    [
        ({}, "written", "written"),
        ({b"if-none-match": b"*"}, "written", "PreconditionFailed"),
        ({b"if-none-match": b'"abc-2"'}, "written", "PreconditionFailed"),
        ({b"if-none-match": b"abc-2"}, "written", "PreconditionFailed"),
        ({b"if-none-match": b'"x"'}, "written", "written"),
        ({b"if-match": b"*"}, "NoSuchKey", "written"),
        ({b"if-match": b'"abc-2"'}, "NoSuchKey", "written"),
        ({b"if-match": b'"x"'}, "NoSuchKey", "PreconditionFailed"),
        ({b"if-match": b'"abc-2"', b"if-none-match": b'"x"'}, "NoSuchKey", "written"),
        ({b"if-match": b'"abc-2"', b"if-none-match": b"*"}, "NoSuchKey", "PreconditionFailed"),
    ],
)
def test_writes(headers: dict[bytes, bytes], absent: str, present: str) -> None:
    assert outcome(headers, None) == absent
    assert outcome(headers, "abc-2") == present


@pytest.mark.parametrize("name", [SINCE, UNTIL])
def test_a_write_with_a_date_is_not_implemented(name: bytes) -> None:
    for read in (write_conditions, delete_conditions):
        with pytest.raises(Failure) as refused:
            read({name: AFTER})
        assert refused.value.status == 501
    with pytest.raises(Failure, match="NotImplemented"):
        refuse_conditions({name: AFTER})
    refuse_conditions({b"host": b"x"})


@pytest.mark.parametrize(
    "value", [b"*", b'"abc-2"', b"abc-2", b'"x", "y-1"', b'W/"x", "y"', b'"a.b c"', b'""']
)
def test_the_catalog_understands_a_condition_as_we_do(value: bytes) -> None:
    """The master compares it when it commits, with rules of its own."""
    tags = parse_tags(value)
    field = as_field(tags)
    assert field is not None
    theirs = data_plane.parse_field(data_plane.check_etag_condition(field) or "")
    for etag in (None, "abc-2", "x", "y", "y-1", ""):  # no object has one with a blank
        assert theirs.match_strongly(etag) == tags.match(etag)
        assert theirs.match_weakly(etag) == tags.match_weakly(etag)
    assert as_field(None) is None


# --- deletions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({b"if-match": b"*"}, None),
        ({b"if-match": b"abc-2"}, None),
        ({b"if-match": b"badetag"}, "If-Match"),
        ({b"x-amz-if-match-last-modified-time": SAME}, None),
        ({b"x-amz-if-match-last-modified-time": b"2026-09-21T14:13:20.250Z"}, None),
        ({b"x-amz-if-match-last-modified-time": AFTER}, "x-amz-if-match-last-modified-time"),
        ({b"x-amz-if-match-size": b"5"}, None),
        ({b"x-amz-if-match-size": b"6"}, "x-amz-if-match-size"),
        ({b"if-match": b"abc-2", b"x-amz-if-match-size": b"6"}, "x-amz-if-match-size"),
    ],
)
def test_deletions(headers: dict[bytes, bytes], expected: str | None) -> None:
    conditions = delete_conditions(headers)
    key = DeleteKey(
        "a",
        etag=text(headers.get(b"if-match")),
        modified=text(headers.get(b"x-amz-if-match-last-modified-time")),
        size=text(headers.get(b"x-amz-if-match-size")),
    )
    assert conditions_of_key(key) == conditions
    check_delete(conditions, None)  # nothing is deleted, so nothing is guarded
    if expected is None:
        check_delete(conditions, OBJECT)
    else:
        with pytest.raises(Failure) as refused:
            check_delete(conditions, OBJECT)
        assert refused.value.fields == {"Condition": expected}


def text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({b"x-amz-if-match-size": b"-1"}, "InvalidArgument"),
        ({b"x-amz-if-match-size": b""}, "InvalidArgument"),
        ({b"x-amz-if-match-size": b"9" * 5000}, "InvalidArgument"),
        ({b"x-amz-if-match-last-modified-time": b"yesterday"}, "InvalidArgument"),
        ({b"if-match": b'"x'}, "InvalidArgument"),
        ({b"if-none-match": b"*"}, "NotImplemented"),
    ],
)
def test_conditions_of_deletions_that_cannot_be_read(headers: dict[bytes, bytes], code: str) -> None:
    with pytest.raises(Failure) as refused:
        delete_conditions(headers)
    assert refused.value.code == code
