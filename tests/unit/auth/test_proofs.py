"""Proofs: what the master has promised, and nobody else can."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.auth.data_tokens import DataClaims, DataTokenVerifier, check_proof, sign_data_token
from warehouse.errors import TokenInvalid

CLAIMS = DataClaims(
    operation="put", audience="d", volume_id=7, expires_at_s=2_000_000_000, bucket_id=3, bucket="b",
    first_needle_id=5, last_needle_id=9, room=100, lease_id=1, metadata={"a": '","prf":"'},
)  # fmt: skip
OURS, THEIRS = b"o" * 32, b"t" * 32


def proof_of(token: str, key: bytes = THEIRS) -> str | None:
    return DataTokenVerifier("d", {"k": key}).verify(token.encode(), now_s=0.0).proof


def test_a_disk_learns_the_text_that_proves_its_claims_to_the_master():
    token = sign_data_token(CLAIMS, key_id="k", key=THEIRS, proof_key=OURS)
    text = proof_of(token)
    assert text is not None
    for keys in ([OURS], [THEIRS, OURS]):
        claims = check_proof(text, keys)
        assert (claims.lease_id, claims.volume_id, claims.metadata) == (1, 7, CLAIMS.metadata)
    assert proof_of(sign_data_token(CLAIMS, key_id="k", key=THEIRS)) is None


def test_a_disk_cannot_make_one_with_its_own_key_or_take_one_off():
    for token in (
        sign_data_token(CLAIMS, key_id="k", key=THEIRS, proof_key=THEIRS),
        sign_data_token(CLAIMS, key_id="k", key=THEIRS),
    ):
        with pytest.raises(TokenInvalid):
            check_proof(token.split(".")[1], [OURS])


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_every_flipped_bit_of_a_proof_is_noticed(position, bit):
    payload = sign_data_token(CLAIMS, key_id="k", key=THEIRS, proof_key=OURS).split(".")[1]
    raw = bytearray(urlsafe_b64decode(payload + "=="))
    raw[position % len(raw)] ^= 1 << bit
    with pytest.raises(TokenInvalid):
        check_proof(urlsafe_b64encode(raw).decode(), [OURS])


@given(text=st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: urlsafe_b64encode(raw).decode()))
def test_whatever_a_disk_says_is_no_proof(text):
    with pytest.raises(TokenInvalid):
        check_proof(text, [OURS])
