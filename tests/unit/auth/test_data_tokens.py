"""Data tokens: whatever was not signed, for this disk, for this moment, is refused."""

import base64
import json
import time

import jwt
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.actors.control.read_grants import UPLOADS_MAX
from warehouse.auth import data_tokens
from warehouse.auth.data_tokens import (
    TOKEN_SIZE_MAX,
    DataClaims,
    DataTokenVerifier,
    named_upload,
    sign_data_token,
)
from warehouse.auth.rights import BUCKET_ID_MAX, KEY_PREFIXES_MAX
from warehouse.errors import ClockSkew, TokenExpired, TokenInvalid, TokenMissing, TokenRevoked

NOW = 1_800_000_000.0
KEY = bytes(range(32))
DISK = "disk-1"
BASE64URL = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def data_claims(**changes):
    values = {
        "operation": "put",
        "audience": DISK,
        "volume_id": 7,
        "expires_at_s": int(NOW) + 60,
        "bucket_id": 3,
        "bucket": "photos",
    }
    return DataClaims(**{**values, "first_needle_id": 10, "last_needle_id": 19, **changes})


def verifier():
    return DataTokenVerifier(DISK, {"k1": KEY})


def signed(claims=None, *, key_id="k1", key=KEY):
    return sign_data_token(claims or data_claims(), key_id=key_id, key=key).encode()


def pyjwt_token(payload, key=KEY, algorithm="HS256", **headers):
    return jwt.encode(payload, key, algorithm=algorithm, headers={"kid": "k1", **headers}).encode()


def segment(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")


def test_a_signed_token_says_what_was_signed():
    claims = data_claims(
        key="été/1", body_size_max=100, room=1000, lease_id=5, content_type="text/plain", metadata={"a": "b"}
    )
    assert verifier().verify(signed(claims), now_s=NOW) == claims


def test_parts_of_a_presigned_get_survive():
    claims = data_claims(
        operation="get", parts=[(1, 2, 3, "http://127.0.0.1:7410", "a.b.c")], chunk_count=None
    )
    assert verifier().verify(signed(claims), now_s=NOW) == claims


def test_pyjwt_accepts_a_data_token():
    claims = data_claims(expires_at_s=int(time.time()) + 60)
    decoded = jwt.decode(
        signed(claims), KEY, algorithms=["HS256"], audience=DISK, options={"require": ["exp"]}
    )
    assert msgspec.convert(decoded, DataClaims) == claims
    assert jwt.get_unverified_header(signed(claims)) == {"alg": "HS256", "kid": "k1", "typ": "JWT"}


def test_a_token_signed_by_pyjwt_is_accepted():
    # The format is JWT and nothing of our own: a gateway in another language can make these data_tokens.
    header = segment_compact({"alg": "HS256", "kid": "k1", "typ": "JWT"})
    payload = segment(msgspec.to_builtins(data_claims()))
    signed_part = header + b"." + payload
    hs256 = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    mac = base64.urlsafe_b64encode(hs256.sign(signed_part, KEY)).rstrip(b"=")
    assert verifier().verify(signed_part + b"." + mac, now_s=NOW) == data_claims()


def segment_compact(value):
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).rstrip(b"=")


@pytest.mark.parametrize("is_cached", [False, True])
def test_every_changed_byte_is_noticed(is_cached):
    token = signed()
    checker = verifier()
    if is_cached:
        checker.verify(token, now_s=NOW)
    for position in range(len(token)):
        for other in {*BASE64URL, ord("."), ord("=")} - {token[position]}:
            mutant = token[:position] + bytes([other]) + token[position + 1 :]
            with pytest.raises(TokenInvalid):
                checker.verify(mutant, now_s=NOW)


def test_a_token_cut_short_or_extended_is_refused():
    token = signed()
    for mutant in [token[:length] for length in range(1, len(token))] + [
        token + b"A",
        token + b"=",
        b"." + token,
    ]:
        with pytest.raises(TokenInvalid):
            verifier().verify(mutant, now_s=NOW)


@given(
    st.binary(min_size=1, max_size=300)
    | st.lists(st.binary(max_size=50), min_size=3, max_size=3).map(b".".join)
)
def test_noise_is_refused(noise):
    with pytest.raises(TokenInvalid):
        verifier().verify(noise, now_s=NOW)


def test_an_empty_token_is_missing_and_a_huge_one_invalid():
    with pytest.raises(TokenMissing):
        verifier().verify(b"", now_s=NOW)
    with pytest.raises(TokenInvalid, match="at most"):
        verifier().verify(b"A" * (data_tokens.TOKEN_SIZE_MAX + 1), now_s=NOW)


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none", "kid": "k1", "typ": "JWT"},
        {"alg": "HS512", "kid": "k1", "typ": "JWT"},
        {"alg": "EdDSA", "kid": "k1", "typ": "JWT"},
        {"alg": "HS256", "kid": "k2", "typ": "JWT"},
        {"alg": "HS256", "typ": "JWT"},
        {"alg": "HS256", "kid": "k1", "typ": "warehouse-access+jwt"},
        {"alg": "HS256", "kid": "k1", "typ": "JWT", "crit": ["exp"]},
        {"alg": "HS256", "kid": "k1", "typ": "JWT", "jwk": {"kty": "oct", "k": "AA"}},
    ],
    ids=["none", "hs512", "eddsa", "other-kid", "no-kid", "other-typ", "crit", "jwk"],
)
def test_no_other_header_is_believed_even_if_correctly_signed(header):
    signed_part = segment_compact(header) + b"." + segment(msgspec.to_builtins(data_claims()))
    mac = data_tokens._signature_segment(signed_part, KEY)
    for signature in (mac, b""):
        with pytest.raises(TokenInvalid, match="header"):
            verifier().verify(signed_part + b"." + signature, now_s=NOW)


def test_an_unsigned_token_of_pyjwt_is_refused():
    payload = msgspec.to_builtins(data_claims())
    with pytest.raises(TokenInvalid):
        verifier().verify(pyjwt_token(payload, key=None, algorithm="none"), now_s=NOW)


def test_a_token_of_another_key_is_refused():
    with pytest.raises(TokenInvalid, match="signature"):
        verifier().verify(signed(key=b"x" * 32), now_s=NOW)


def test_a_token_for_another_disk_is_refused():
    for audience in ("disk-2", "disk-11", "disk", ""):
        with pytest.raises(TokenInvalid, match="another disk"):
            verifier().verify(signed(data_claims(audience=audience)), now_s=NOW)


@pytest.mark.parametrize("missing", ["exp", "aud", "op", "vol", "bid", "bkt"])
def test_a_token_without_a_required_claim_is_refused(missing):
    payload = msgspec.to_builtins(data_claims())
    del payload[missing]
    with pytest.raises(TokenInvalid, match=missing):
        verifier().verify(sign_payload(payload), now_s=NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"op": "delete"},
        {"exp": "1800000060"},
        {"exp": None},
        {"vol": -0.5},
        {"narrow": True},
        {"aud": [DISK]},
    ],
)
def test_a_claim_of_a_wrong_kind_or_unknown_name_is_refused(change):
    with pytest.raises(TokenInvalid, match="cannot be read"):
        verifier().verify(sign_payload({**msgspec.to_builtins(data_claims()), **change}), now_s=NOW)


def sign_payload(payload):
    signed_part = data_tokens._header_segment("k1") + b"." + segment(payload)
    return signed_part + b"." + data_tokens._signature_segment(signed_part, KEY)


def test_a_token_expires_also_while_it_is_remembered():
    checker, token = verifier(), signed(data_claims(expires_at_s=int(NOW) + 1))
    checker.verify(token, now_s=NOW)
    checker.verify(token, now_s=NOW + 0.999)
    for late in (1.0, 1.5, 1e9):
        with pytest.raises(TokenExpired):
            checker.verify(token, now_s=NOW + late)


def test_keys_rotate_in_two_steps_and_a_removed_key_is_void_at_once():
    checker, new_key = verifier(), b"n" * 32
    old, new = signed(), signed(key_id="k2", key=new_key)
    checker.verify(old, now_s=NOW)
    checker.replace_keys({"k1": KEY, "k2": new_key})
    checker.verify(old, now_s=NOW)
    checker.verify(new, now_s=NOW)
    checker.replace_keys({"k2": new_key})
    checker.verify(new, now_s=NOW)
    with pytest.raises(TokenInvalid):
        checker.verify(old, now_s=NOW)


def test_two_keys_are_not_mixed_up():
    checker = DataTokenVerifier(DISK, {"k1": KEY, "k2": b"n" * 32})
    with pytest.raises(TokenInvalid, match="signature"):
        checker.verify(signed(key_id="k2", key=KEY), now_s=NOW)


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(data_tokens, "VERIFIED_MAX", 10)
    checker = verifier()
    hot, *others = [signed(data_claims(lease_id=lid)) for lid in range(100)]
    for token in (hot, *others[:9], hot, *others[9:14]):
        checker.verify(token, now_s=NOW)
    assert hot in checker._verified, "the one in use must not be the one forgotten"
    for token in others:
        checker.verify(token, now_s=NOW)
    assert len(checker._verified) == 10
    checker.verify(signed(data_claims(metadata={"a": "x" * data_tokens.VERIFIED_SIZE_MAX})), now_s=NOW)
    assert len(checker._verified) == 10
    assert all(len(token) <= data_tokens.VERIFIED_SIZE_MAX for token in checker._verified)


def test_a_remembered_token_does_not_pin_the_buffer_it_came_in():
    checker, buffer = verifier(), bytearray(signed())
    checker.verify(bytes(buffer), now_s=NOW)
    buffer[-1] ^= 1
    with pytest.raises(TokenInvalid):
        checker.verify(bytes(buffer), now_s=NOW)


def test_a_token_that_is_good_by_the_masters_clock_is_no_expired_one_and_the_clock_is_named():
    checker, token = verifier(), signed(data_claims(expires_at_s=int(NOW) + 1))
    checker.ahead_s = 3600.0
    with pytest.raises(ClockSkew, match="clock"):
        checker.verify(token, now_s=NOW + 3600)
    with pytest.raises(TokenExpired, match="clock"):
        checker.verify(token, now_s=NOW + 3602)


# --- keys that lose rights ------------------------------------------------------------------------


def of_key(key_id="WHA", epoch=3, **changes):
    return signed(data_claims(key_id=key_id, epoch=epoch, token_id="t1", **changes))


def test_what_a_token_says_of_its_key_and_of_a_url_survives():
    claims = data_claims(
        key_id="WHA",
        epoch=3,
        token_id="t1",
        prefixes=("photos/", "é/"),
        upload_ids=(1 << 62,),
        body_size_min=5,
        if_none_match="*",
        disposition="attachment",
        file_name="a b.txt",
        cache_control="public, max-age=60",
        once=1 << 41,
    )
    assert verifier().verify(signed(claims), now_s=NOW) == claims


@pytest.mark.parametrize("is_remembered", [False, True])
@pytest.mark.parametrize(("epoch", "is_good"), [(2, False), (3, False), (4, True), (5, True)])
def test_a_revoked_key_loses_its_older_tokens_and_no_others(is_remembered, epoch, is_good):
    checker = verifier()
    mine, others, old = of_key(epoch=epoch), of_key("WHB", epoch=1), signed()
    for token in (mine, others, old) if is_remembered else ():
        checker.verify(token, now_s=NOW)
    checker.revoke({"WHA": 4})
    checker.verify(others, now_s=NOW)
    checker.verify(old, now_s=NOW)
    if is_good:
        checker.verify(mine, now_s=NOW)
    else:
        with pytest.raises(TokenRevoked):
            checker.verify(mine, now_s=NOW)


def test_a_revocation_that_comes_late_does_not_undo_a_later_one():
    checker, token = verifier(), of_key(epoch=4)
    checker.revoke({"WHA": 5})
    checker.revoke({"WHA": 4})
    with pytest.raises(TokenRevoked):
        checker.verify(token, now_s=NOW)


def test_a_welcome_says_all_that_is_revoked():
    checker, token = verifier(), of_key(epoch=4)
    checker.revoke({"WHA": 5})
    checker.replace_keys({"k1": KEY})  # a rotation says nothing of API keys
    with pytest.raises(TokenRevoked):
        checker.verify(token, now_s=NOW)
    checker.replace_keys({"k1": KEY}, {"WHB": 5})
    checker.verify(token, now_s=NOW)


def test_the_revoked_keys_in_memory_are_bounded_and_the_latest_stay(monkeypatch):
    monkeypatch.setattr(data_tokens, "REVOKED_MAX", 10)
    checker = verifier()
    checker.revoke({"first": 9})
    checker.revoke({f"key{number}": 9 for number in range(9)})
    checker.revoke({"first": 9})
    checker.revoke({"last": 9})
    assert len(checker._revoked) == 10
    for key_id in ("first", "key8", "last"):
        with pytest.raises(TokenRevoked):
            checker.verify(of_key(key_id), now_s=NOW)


def test_the_longest_read_grant_is_a_token():
    """As many beginnings of keys as a key may have in a bucket, and as many uploads as a grant names."""
    claims = DataClaims(
        operation="get",
        audience="d" * 32,
        volume_id=2**32 - 1,
        expires_at_s=2**33,
        bucket_id=BUCKET_ID_MAX,
        bucket="b" * 63,
        key_id="K" * 32,
        epoch=2**62,
        token_id="t" * 12,
        prefixes=("p" * (KEY_PREFIXES_MAX - 2),),
        upload_ids=tuple(named_upload(2**63 - 1 - number) for number in range(UPLOADS_MAX)),
    )
    assert len(sign_data_token(claims, key_id="k" * 16, key=b"k" * 32)) <= TOKEN_SIZE_MAX
