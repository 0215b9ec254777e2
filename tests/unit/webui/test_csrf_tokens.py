"""CSRF tokens: one for each answer, all of one secret and of no other."""

from __future__ import annotations

import base64

import pytest

from warehouse.webui.security import csrf_token, is_csrf_token

SECRET, OTHER = bytes(range(32)), bytes(range(1, 33))


def test_no_two_tokens_are_alike_and_all_are_good() -> None:
    tokens = [csrf_token(SECRET) for _ in range(50)]
    assert all(is_csrf_token(token, SECRET) for token in tokens)
    for at in range(0, len(tokens[0]) - 4, 4):
        assert len({token[at : at + 4] for token in tokens}) > 40, "a part of it is the same in all answers"


def test_a_token_does_not_contain_the_secret() -> None:
    assert SECRET not in base64.urlsafe_b64decode(csrf_token(SECRET))


def test_the_token_of_another_secret_is_refused() -> None:
    assert not is_csrf_token(csrf_token(OTHER), SECRET)


def test_every_flipped_bit_is_noticed() -> None:
    token = base64.urlsafe_b64decode(csrf_token(SECRET))
    for bit in range(len(token) * 8):
        other = bytearray(token)
        other[bit // 8] ^= 1 << bit % 8
        assert not is_csrf_token(base64.urlsafe_b64encode(other).decode(), SECRET)


@pytest.mark.parametrize(
    "shown", ["", "A", "====", "é" * 88, "\udc80", "A" * 86 + "==", "A" * 88, "A" * 1_000_000, "+/+/" * 22]
)
def test_garbage_is_refused(shown: str) -> None:
    assert not is_csrf_token(shown, SECRET)


def test_the_secret_itself_is_no_token() -> None:
    assert not is_csrf_token(base64.urlsafe_b64encode(SECRET).decode(), SECRET)
    assert not is_csrf_token(SECRET.hex(), SECRET)
