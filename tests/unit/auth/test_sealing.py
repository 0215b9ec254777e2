"""Sealed secrets open as what they were sealed for, with a key of the keyring, and unchanged; else not at all."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from warehouse.auth.sealing import (
    API_KEY_SECRET,
    SECRET_SIZE_MAX,
    Sealer,
    generate_seal_key,
    seal_key_id_of,
)
from warehouse.errors import SealBroken, SealUnknown

OLD, NEW, OTHER = (generate_seal_key() for _ in range(3))
SEALER = Sealer(dict([OLD, NEW]))
texts = st.text(st.characters(codec="utf-8"), max_size=40)


@given(secret=st.binary(max_size=SECRET_SIZE_MAX), purpose=texts, subject=texts)
def test_what_was_sealed_opens(secret: bytes, purpose: str, subject: str) -> None:
    sealed = SEALER.seal(secret, purpose=purpose, subject=subject)
    assert SEALER.open(sealed, purpose=purpose, subject=subject) == secret
    assert len(secret) < 4 or secret not in sealed


@given(st.binary(max_size=64), st.data())
def test_every_flipped_bit_is_noticed(secret: bytes, data: st.DataObject) -> None:
    sealed = bytearray(SEALER.seal(secret, purpose=API_KEY_SECRET, subject="WH1"))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(SealBroken):
        SEALER.open(bytes(sealed), purpose=API_KEY_SECRET, subject="WH1")


@given(st.binary(max_size=64), st.data())
def test_every_other_length_is_noticed(secret: bytes, data: st.DataObject) -> None:
    sealed = SEALER.seal(secret, purpose=API_KEY_SECRET, subject="WH1")
    cut = sealed[: data.draw(st.integers(0, len(sealed) - 1))]
    longer = sealed + data.draw(st.binary(min_size=1, max_size=9))
    for other in (cut, longer):
        with pytest.raises(SealBroken):
            SEALER.open(other, purpose=API_KEY_SECRET, subject="WH1")


@given(texts, texts, texts, texts)
def test_a_secret_opens_as_nothing_but_what_it_was_sealed_for(
    purpose: str, subject: str, other_purpose: str, other_subject: str
) -> None:
    assume((purpose, subject) != (other_purpose, other_subject))
    sealed = SEALER.seal(b"secret", purpose=purpose, subject=subject)
    with pytest.raises(SealBroken):
        SEALER.open(sealed, purpose=other_purpose, subject=other_subject)


def test_a_letter_that_moves_from_purpose_to_subject_is_noticed() -> None:
    sealed = SEALER.seal(b"secret", purpose="ab", subject="c")
    with pytest.raises(SealBroken):
        SEALER.open(sealed, purpose="a", subject="bc")


def test_another_key_under_the_same_id_does_not_open() -> None:
    sealed = SEALER.seal(b"secret", purpose="p", subject="s")
    with pytest.raises(SealBroken, match="does not open"):
        Sealer({NEW[0]: OTHER[1]}).open(sealed, purpose="p", subject="s")


def test_a_key_that_the_keyring_lacks_is_named() -> None:
    sealed = Sealer(dict([OTHER])).seal(b"secret", purpose="p", subject="s")
    with pytest.raises(SealUnknown, match=OTHER[0]) as caught:
        SEALER.open(sealed, purpose="p", subject="s")
    assert "secret" not in caught.value.message


def test_the_newest_key_seals_and_all_open() -> None:
    earlier = Sealer(dict([OLD])).seal(b"secret", purpose="p", subject="s")
    assert seal_key_id_of(earlier) == OLD[0]
    assert SEALER.open(earlier, purpose="p", subject="s") == b"secret"
    assert seal_key_id_of(SEALER.seal(b"secret", purpose="p", subject="s")) == SEALER.key_id == NEW[0]


def test_the_same_secret_never_looks_the_same() -> None:
    assert len({SEALER.seal(b"secret", purpose="p", subject="s") for _ in range(100)}) == 100


@pytest.mark.parametrize("keys", [{"ab": bytes(32)}, {"ab" * 8: bytes(16)}, {"xy" * 8: bytes(32)}])
def test_a_key_of_another_form_is_refused(keys: dict[str, bytes]) -> None:
    with pytest.raises(ValueError):
        Sealer(keys)


def test_a_secret_too_long_to_be_one_is_refused() -> None:
    with pytest.raises(ValueError, match="4096"):
        SEALER.seal(bytes(SECRET_SIZE_MAX + 1), purpose="p", subject="s")


def test_frozen_bytes_open() -> None:
    """Sealed by the first release that sealed: what is in a catalog must open forever."""
    sealer = Sealer({"0001020304050607": bytes(range(32))})
    frozen = bytes.fromhex(
        "0100010203040506076465666768696a6b6c6d6e6f3c73bb460a8c35ec5b1689ebc2ff211cda2fe0da442fb92be7b1"
    )
    assert sealer.open(frozen, purpose=API_KEY_SECRET, subject="WHKEY") == b"the secret"
    again = sealer.seal(
        b"the secret",
        purpose=API_KEY_SECRET,
        subject="WHKEY",
        entropy=lambda size: bytes(range(100, 100 + size)),
    )
    assert again == frozen
