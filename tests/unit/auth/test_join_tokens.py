"""Join tokens: their text, their digest, and what they are good for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.auth.join_tokens import ROLES, JoinToken, allows, joined_role
from warehouse.errors import JoinTokenInvalid, JoinTokenRole


def test_a_token_is_read_as_it_was_written_and_known_by_its_digest():
    token = JoinToken.generate()
    again = JoinToken.parse(f" {token.text}\n")
    assert again == token
    assert len(token.text) == 60
    assert again.has(token.digest)
    assert not JoinToken.generate().has(token.digest)


def test_a_token_shows_its_secret_nowhere_but_in_its_text():
    token = JoinToken.generate()
    assert token.secret not in repr(token)
    assert token.secret not in token.token_id
    assert token.secret.encode() not in token.digest


@given(text=st.text(max_size=80))
def test_whatever_is_no_token_is_named_as_that(text):
    with pytest.raises(JoinTokenInvalid):
        JoinToken.parse(text)


@given(position=st.integers(0, 59), letter=st.sampled_from("aZ09-_ \n\u0660"))
def test_a_token_with_one_letter_changed_is_another_or_none(position, letter):
    token = JoinToken("2f8a61c90d4e", "x" * 43)
    changed = token.text[:position] + letter + token.text[position + 1 :]
    try:
        other = JoinToken.parse(changed)
    except JoinTokenInvalid:
        return
    assert changed == token.text or other != token


def test_a_role_allows_itself_and_both_allows_each():
    assert [(of, to) for of in ROLES for to in ROLES[:2] if allows(of, to)] == [
        ("volume", "volume"),
        ("compactor", "compactor"),
        ("both", "volume"),
        ("both", "compactor"),
    ]
    assert not allows("both", "master")
    assert [of for of in ROLES if allows(of, "gateway")] == ["gateway"]
    for pair in (("gateway", "volume"), ("both", "gateway")):
        with pytest.raises(JoinTokenRole):
            joined_role(*pair)
    assert joined_role(None, "volume") == joined_role("volume", "volume") == "volume"
    assert joined_role("volume", "compactor") == joined_role("compactor", "both") == "both"
