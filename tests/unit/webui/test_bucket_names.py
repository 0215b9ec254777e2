"""The rules that the console explains are those of the store."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.catalog.names import check_bucket_name
from warehouse.errors import BadBucketName
from warehouse.webui.bucket_names import RULES

NAMES = st.one_of(
    st.text("ab.-_09 A/", max_size=70),
    st.ip_addresses(v=4).map(str),
    st.lists(st.integers(0, 300).map(str), min_size=3, max_size=5).map(".".join),
    st.text(max_size=5),
)


def is_explained_as_good(name: str) -> bool:
    return all(re.fullmatch(rule.pattern, name, re.DOTALL) for rule in RULES)


def is_taken_by_the_store(name: str) -> bool:
    try:
        check_bucket_name(name)
    except BadBucketName:
        return False
    return True


@given(NAMES)
def test_the_console_and_the_store_agree_about_every_name(name: str) -> None:
    assert is_explained_as_good(name) == is_taken_by_the_store(name)


@pytest.mark.parametrize(
    ("name", "broken"),
    [("", 0), ("a" * 64, 0), ("Photos", 1), ("-a", 2), ("a.", 2), ("192.168.0.1", 3)],
)
def test_a_bad_name_breaks_the_rule_that_explains_it(name: str, broken: int) -> None:
    assert not re.fullmatch(RULES[broken].pattern, name)
