"""Conditions: every spelling of the five, and what each does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.errors import BadRequest, PreconditionFailed
from warehouse.transport.http.conditions import (
    CONDITION_SIZE_MAX,
    check_etag_condition,
    is_not_modified,
    is_range_current,
    parse_date,
    parse_field,
    parse_tags,
    refuse_conditions,
    require_conditions,
    write_conditions,
)

ETAG = "1-2-abc"
STORED_S = 784111777  # Sun, 06 Nov 1994 08:49:37 GMT
THEN = b"Sun, 06 Nov 1994 08:49:37 GMT"
BEFORE = b"Sun, 06 Nov 1994 08:49:36 GMT"
AFTER = b"Sun, 06 Nov 1994 08:49:38 GMT"


def outcome(**headers: bytes) -> int:
    """The status of a GET with these conditions: 200, 304, 400 or 412."""
    fields = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    try:
        return 304 if is_not_modified(fields, ETAG, STORED_S) else 200
    except (BadRequest, PreconditionFailed) as error:
        return error.status


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b'"1-2-abc"', 200),
        (b' "1-2-abc" ', 200),
        (b"*", 200),
        (b'"x", "1-2-abc"', 200),
        (b'"x","1-2-abc" , "y"', 200),
        (b',, "x" ,,\t"1-2-abc",', 200),
        (b'"a,b", "1-2-abc"', 200),
        (b'*, "x"', 200),
        (b'W/"1-2-abc"', 412),  # strong comparison
        (b'"1-2-abcd"', 412),
        (b'"1-2-ab"', 412),
        (b'"1-2-ABC"', 412),
        (b'"*"', 412),
        (b'"x, 1-2-abc"', 412),
        (b'""', 412),
        (b"", 412),
        (b" , ", 412),
        (b"1-2-abc", 412),  # an ETag stands in quotes
        (b'"1-2-abc', 412),
        (b'"x" "1-2-abc"', 412),
        (b'w/"1-2-abc"', 412),
        (b'"\xe9"', 412),
    ],
)
def test_if_match_compares_strongly_and_what_names_nothing_is_not_met(value, expected):
    assert outcome(if_match=value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b'"1-2-abc"', 304),
        (b'W/"1-2-abc"', 304),
        (b"*", 304),
        (b'*, "x"', 304),
        (b'"x", W/"1-2-abc"', 304),
        (b'"x"', 200),
        (b'""', 200),
        (b"", 200),
        (b'"x,1-2-abc"', 200),
        (b'"x, 1-2-abc"', 400),
        (b"1-2-abc", 400),
        (b'"1-2-abc', 400),
        (b'"x" "y"', 400),
        (b"**", 400),
        (b'W/ "x"', 400),
    ],
)
def test_if_none_match_compares_weakly_and_what_cannot_be_read_is_refused(value, expected):
    assert outcome(if_none_match=value) == expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("if_modified_since", BEFORE, 200),
        ("if_modified_since", THEN, 304),
        ("if_modified_since", AFTER, 304),
        ("if_modified_since", b"Sunday, 06-Nov-94 08:49:37 GMT", 304),
        ("if_modified_since", b"Sun Nov  6 08:49:37 1994", 304),
        ("if_modified_since", b"yesterday", 400),
        ("if_modified_since", THEN + b", " + THEN, 400),
        ("if_modified_since", b"784111777", 400),
        ("if_unmodified_since", BEFORE, 412),
        ("if_unmodified_since", THEN, 200),
        ("if_unmodified_since", AFTER, 200),
        ("if_unmodified_since", b"Sunday, 06-Nov-94 08:49:36 GMT", 412),
        ("if_unmodified_since", b"Sun Nov  6 08:49:36 1994", 412),
        ("if_unmodified_since", b"", 400),
        ("if_unmodified_since", b"1994-11-06T08:49:37Z", 400),
    ],
)
def test_dates_are_compared_by_the_second_and_what_is_no_date_is_refused(name, value, expected):
    assert outcome(**{name: value}) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        # An ETag counts, and a date beside it does not.
        ({"if_match": b'"1-2-abc"', "if_unmodified_since": BEFORE}, 200),
        ({"if_match": b'"x"', "if_unmodified_since": AFTER}, 412),
        ({"if_none_match": b'"x"', "if_modified_since": AFTER}, 200),
        ({"if_none_match": b'"1-2-abc"', "if_modified_since": BEFORE}, 304),
        # What guards the request comes before what saves an answer.
        ({"if_match": b'"x"', "if_none_match": b'"1-2-abc"'}, 412),
        ({"if_match": b'"1-2-abc"', "if_none_match": b'"1-2-abc"'}, 304),
        ({"if_unmodified_since": BEFORE, "if_modified_since": AFTER}, 412),
        ({"if_unmodified_since": AFTER, "if_none_match": b'"1-2-abc"'}, 304),
    ],
)
def test_the_order_is_that_of_rfc_9110(headers, expected):
    assert outcome(**headers) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b'"1-2-abc"', True),
        (b'W/"1-2-abc"', False),
        (b'"x"', False),
        (THEN, True),
        (BEFORE, False),
        (AFTER, False),
        (b"Sunday, 06-Nov-94 08:49:37 GMT", True),
    ],
)
def test_a_range_is_of_this_version_only_if_its_condition_names_exactly_this_one(value, expected):
    assert is_range_current({b"if-range": value}, ETAG, STORED_S) is expected


@pytest.mark.parametrize("value", [b"1-2-abc", b"", b'"a", "b"', b"*", b"soon"])
def test_an_if_range_that_is_neither_etag_nor_date_is_refused(value):
    with pytest.raises(BadRequest):
        is_range_current({b"if-range": value}, ETAG, STORED_S)


def test_without_a_condition_nothing_is_asked():
    assert outcome() == 200
    assert is_range_current({}, ETAG, STORED_S)
    assert write_conditions({}) == (None, None)
    refuse_conditions({b"host": b"x"}, "nowhere")


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (b'"1-2-abc"', "1-2-abc"),
        (b"*", "*"),
        (b'"*"', '"*"'),
        (b'"a", W/"b"', '"a", W/"b"'),
        (b'"a,b"', '"a,b"'),
        (b"", ""),
    ],
)
def test_a_put_carries_its_conditions_on_in_one_form(value, kept):
    assert write_conditions({b"if-match": value, b"if-none-match": value}) == (kept, kept)
    assert parse_field(kept) == parse_tags(value.decode())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({b"if-match": b"unquoted"}, 412),
        ({b"if-none-match": b"unquoted"}, 400),
        ({b"if-unmodified-since": THEN}, 400),
        ({b"if-modified-since": THEN}, 400),
        ({b"if-match": b'"' + b"x" * CONDITION_SIZE_MAX + b'"'}, 400),
        ({b"if-none-match": b'"x", ' * 300}, 400),
    ],
)
def test_a_condition_that_a_put_cannot_honour_is_refused(headers, status):
    with pytest.raises((BadRequest, PreconditionFailed)) as caught:
        write_conditions(headers)
    assert caught.value.status == status


@pytest.mark.parametrize(
    "name", [b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since"]
)
def test_where_there_is_nothing_to_compare_no_condition_is_taken(name):
    with pytest.raises(BadRequest):
        refuse_conditions({name: b"*"}, "here")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (None, None),
        ("1-2-abc", "1-2-abc"),
        ('"1-2-abc"', "1-2-abc"),
        (' "1-2-abc" ', "1-2-abc"),
        ("*", "*"),
        ('*, "x"', "*"),
        ('"a" , W/"b"', '"a", W/"b"'),
    ],
)
def test_a_condition_of_a_message_may_stand_without_quotes(text, kept):
    assert check_etag_condition(text) == kept


@pytest.mark.parametrize(
    "text", ["a, b", "a b", "a\r\nX: y", "\0", '"a', "é", "x" * (CONDITION_SIZE_MAX + 1), '"a" "b"']
)
def test_text_that_is_no_condition_does_not_enter_the_catalog(text):
    with pytest.raises(BadRequest):
        check_etag_condition(text)


@pytest.mark.parametrize(
    ("if_match", "if_none_match", "etag", "is_met"),
    [
        (None, None, None, True),
        ("1-2-abc", None, "1-2-abc", True),
        ("1-2-abc", None, "1-2-def", False),
        ("1-2-abc", None, None, False),
        ("*", None, None, False),
        ("*", None, "1-2-abc", True),
        ('W/"1-2-abc"', None, "1-2-abc", False),
        ("", None, "1-2-abc", False),
        (None, "*", None, True),
        (None, "*", "1-2-abc", False),
        (None, '*, "x"', "1-2-abc", False),
        (None, "1-2-abc", "1-2-abc", False),
        (None, 'W/"1-2-abc"', "1-2-abc", False),
        (None, '"x", "1-2-abc"', "1-2-abc", False),
        (None, "1-2-def", "1-2-abc", True),
        (None, "", "1-2-abc", True),
        ("1-2-abc", "1-2-abc", "1-2-abc", False),
        # An older release kept whatever it was told: what cannot be read is not met.
        ("a b", None, "1-2-abc", False),
        (None, "a b", "1-2-abc", False),
        ("x" * 30_000, None, "1-2-abc", False),
    ],
)
def test_a_write_is_held_to_both_of_its_conditions(if_match, if_none_match, etag, is_met):
    if is_met:
        require_conditions(if_match, if_none_match, etag)
    else:
        with pytest.raises(PreconditionFailed) as caught:
            require_conditions(if_match, if_none_match, etag)
        assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", STORED_S),
        ("Sunday, 06-Nov-94 08:49:37 GMT", STORED_S),
        ("Sun Nov  6 08:49:37 1994", STORED_S),
        ("Sun Nov 16 08:49:37 1994", STORED_S + 10 * 86_400),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Wed, 31 Dec 1969 23:59:59 GMT", -1),
        ("Thu, 29 Feb 2024 12:00:00 GMT", 1709208000),
        ("Tue, 30 Jun 2015 23:59:60 GMT", 1435708799),  # a leap second
        ("Fri, 31 Dec 9999 23:59:59 GMT", 253402300799),
        ("Monday, 06-Nov-00 00:00:00 GMT", 973468800),
        ("Monday, 01-Jan-76 00:00:00 GMT", 3345062400),  # at most 50 years ahead
        ("Friday, 01-Jan-77 00:00:00 GMT", 220924800),
        ("sun, 06 nov 1994 08:49:37 gmt", None),
        ("Sun, 6 Nov 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08:49:37 UTC", None),
        ("Sun, 06 Nov 1994 08:49:37 +0000", None),
        ("Sun, 06 Nov 1994 24:00:00 GMT", None),
        ("Sun, 06 Nov 1994 08:60:00 GMT", None),
        ("Sun, 06 Nov 1994 08:49:61 GMT", None),
        ("Sun, 30 Feb 1994 08:49:37 GMT", None),
        ("Sun, 00 Nov 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 0000 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08:49:37 GMT; length=5", None),
        ("Sun, 06 Nov ١٩٩٤ 08:49:37 GMT", None),
        ("", None),
    ],
)
def test_dates_are_read_in_all_three_formats_and_in_no_other(text, expected):
    assert parse_date(text, now_s=1_767_225_600) == expected  # 2026-01-01


@given(st.binary(max_size=80))
def test_whatever_comes_is_an_outcome_and_never_an_accident(value):
    for name in ("if_match", "if_none_match", "if_modified_since", "if_unmodified_since"):
        assert outcome(**{name: value}) in (200, 304, 400, 412)
    try:
        is_range_current({b"if-range": value}, ETAG, STORED_S)
        write_conditions({b"if-match": value, b"if-none-match": value})
    except (BadRequest, PreconditionFailed):
        pass


@given(
    st.lists(
        st.tuples(st.booleans(), st.text(st.characters(min_codepoint=35, max_codepoint=126), max_size=9))
    )
)
def test_a_list_that_was_written_is_read_again(tags):
    text = ", ".join(f'W/"{tag}"' if is_weak else f'"{tag}"' for is_weak, tag in tags)
    if len(text) > CONDITION_SIZE_MAX:
        return
    kept = check_etag_condition(text)
    assert kept is not None
    read = parse_field(kept)
    assert sorted(read.strong) == sorted(tag for is_weak, tag in tags if not is_weak)
    assert sorted(read.weak) == sorted(tag for is_weak, tag in tags if is_weak)


@pytest.mark.parametrize("conditions", [('"x"', None), (None, "*"), (None, '"7-9-abcdef"')])
def test_a_write_that_is_refused_does_not_tell_the_etag(conditions: tuple[str | None, str | None]) -> None:
    """It names the checksum of what is stored, and whoever may write may not be allowed to read."""
    with pytest.raises(PreconditionFailed) as caught:
        require_conditions(*conditions, "7-9-abcdef")
    assert caught.value.message.replace(conditions[1] or "-", "").count("abcdef") == 0
