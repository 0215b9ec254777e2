"""Tokens: whatever was not signed, for this disk or this master, for this moment, is refused."""

import base64
import json
import time

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from warehouse.auth import tokens
from warehouse.auth.rights import READ_ONLY, Rights
from warehouse.auth.tokens import AccessClaims, AccessSigner, DataClaims, DataTokenVerifier, sign_data_token
from warehouse.errors import ClockSkew, SecretMissing, TokenExpired, TokenInvalid, TokenMissing

NOW = 1_800_000_000.0
KEY = bytes(range(32))
DISK = "disk-1"
BASE64URL = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def data_claims(**changes):
    values = {"op": "put", "aud": DISK, "vol": 7, "exp": int(NOW) + 60, "bid": 3, "bkt": "photos"}
    return DataClaims(**{**values, "lo": 10, "hi": 19, **changes})


def verifier():
    return DataTokenVerifier(DISK, {"k1": KEY})


def signed(claims=None, *, key_id="k1", key=KEY):
    return sign_data_token(claims or data_claims(), key_id=key_id, key=key).encode()


def pyjwt_token(payload, key=KEY, algorithm="HS256", **headers):
    return jwt.encode(payload, key, algorithm=algorithm, headers={"kid": "k1", **headers}).encode()


def segment(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")


# --- data tokens ----------------------------------------------------------------------------------


def test_a_signed_token_says_what_was_signed():
    claims = data_claims(key="été/1", max=100, room=1000, lid=5, ct="text/plain", meta={"a": "b"})
    assert verifier().verify(signed(claims), now_s=NOW) == claims


def test_parts_of_a_presigned_get_survive():
    claims = data_claims(op="get", parts=[(1, 2, 3, "http://127.0.0.1:7410", "a.b.c")], cnt=None)
    assert verifier().verify(signed(claims), now_s=NOW) == claims


def test_pyjwt_accepts_a_data_token():
    claims = data_claims(exp=int(time.time()) + 60)
    decoded = jwt.decode(
        signed(claims), KEY, algorithms=["HS256"], audience=DISK, options={"require": ["exp"]}
    )
    assert msgspec.convert(decoded, DataClaims) == claims
    assert jwt.get_unverified_header(signed(claims)) == {"alg": "HS256", "kid": "k1", "typ": "JWT"}


def test_a_token_signed_by_pyjwt_is_accepted():
    # The format is JWT and nothing of our own: a gateway in another language can make these tokens.
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
        verifier().verify(b"A" * (tokens.TOKEN_SIZE_MAX + 1), now_s=NOW)


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
    mac = tokens._signature_segment(signed_part, KEY)
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
            verifier().verify(signed(data_claims(aud=audience)), now_s=NOW)


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
    signed_part = tokens._header_segment("k1") + b"." + segment(payload)
    return signed_part + b"." + tokens._signature_segment(signed_part, KEY)


def test_a_token_expires_also_while_it_is_remembered():
    checker, token = verifier(), signed(data_claims(exp=int(NOW) + 1))
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
    monkeypatch.setattr(tokens, "VERIFIED_MAX", 10)
    checker = verifier()
    hot, *others = [signed(data_claims(lid=lid)) for lid in range(100)]
    for token in (hot, *others[:9], hot, *others[9:14]):
        checker.verify(token, now_s=NOW)
    assert hot in checker._verified, "the one in use must not be the one forgotten"
    for token in others:
        checker.verify(token, now_s=NOW)
    assert len(checker._verified) == 10
    checker.verify(signed(data_claims(meta={"a": "x" * tokens.VERIFIED_SIZE_MAX})), now_s=NOW)
    assert len(checker._verified) == 10
    assert all(len(token) <= tokens.VERIFIED_SIZE_MAX for token in checker._verified)


def test_a_remembered_token_does_not_pin_the_buffer_it_came_in():
    checker, buffer = verifier(), bytearray(signed())
    checker.verify(bytes(buffer), now_s=NOW)
    buffer[-1] ^= 1
    with pytest.raises(TokenInvalid):
        checker.verify(bytes(buffer), now_s=NOW)


# --- access tokens --------------------------------------------------------------------------------


def new_pem():
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


PEM = new_pem()
SIGNER = AccessSigner(PEM)


def access_claims(**changes):
    values = {
        "sub": "WHA",
        "perms": int(READ_ONLY),
        "buckets": {"photos": "r"},
        "epoch": 4,
        "exp": int(NOW) + 600,
    }
    return AccessClaims(**{**values, **changes})


def access_payload(**changes):
    payload = {
        **msgspec.to_builtins(access_claims()),
        "iss": "warehouse-master",
        "aud": "warehouse-control",
        **changes,
    }
    return {name: value for name, value in payload.items() if value is not ...}


def access_token(payload, *, pem=PEM, algorithm="EdDSA", **headers):
    headers = {"kid": SIGNER.key_id, "typ": "warehouse-access+jwt", **headers}
    if headers["typ"] is ...:
        headers["typ"] = None  # PyJWT writes "JWT" unless told to write none
    headers = {name: value for name, value in headers.items() if value is not ...}
    return jwt.encode(payload, pem, algorithm=algorithm, headers=headers)


def test_an_access_token_carries_the_rights_and_the_epoch():
    claims = SIGNER.verify(SIGNER.sign(access_claims()), now_s=NOW)
    assert claims == access_claims()
    assert claims.rights == Rights(READ_ONLY, {"photos": "r"})
    assert SIGNER.verify(SIGNER.sign(access_claims(buckets=None)), now_s=NOW).rights.buckets is None


def test_the_reference_payload_is_accepted():
    # Otherwise the refusals below would prove nothing.
    assert SIGNER.verify(access_token(access_payload()), now_s=NOW) == access_claims()


@pytest.mark.parametrize(
    "change",
    [
        {"exp": ...},
        {"aud": ...},
        {"iss": ...},
        {"sub": ...},
        {"epoch": ...},
        {"buckets": ...},
        {"aud": "warehouse-data"},
        {"iss": "somebody"},
        {"exp": "1800000600"},
        {"perms": "all"},
        {"buckets": {"photos": "x"}},
        {"admin": True},
    ],
    ids=str,
)
def test_an_access_token_with_a_missing_wrong_or_unknown_claim_is_refused(change):
    with pytest.raises(TokenInvalid):
        SIGNER.verify(access_token(access_payload(**change)), now_s=NOW)


@pytest.mark.parametrize(
    "headers",
    [
        {"typ": "JWT"},
        {"typ": ...},
        {"kid": "other"},
        {"kid": ...},
        {"crit": ["x"], "x": 1},
        {"jku": "http://a"},
    ],
    ids=str,
)
def test_an_access_token_with_another_header_is_refused(headers):
    with pytest.raises(TokenInvalid):
        SIGNER.verify(access_token(access_payload(), **headers), now_s=NOW)


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_an_access_token_of_another_key_or_algorithm_is_refused():
    public = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    for token in (
        access_token(access_payload(), pem=new_pem()),
        access_token(access_payload(), pem=None, algorithm="none"),
        access_token(access_payload(), pem=public, algorithm="HS256"),
    ):
        with pytest.raises(TokenInvalid):
            SIGNER.verify(token, now_s=NOW)


def test_a_data_token_is_no_access_token_and_the_other_way_round():
    with pytest.raises(TokenInvalid):
        SIGNER.verify(signed().decode(), now_s=NOW)
    with pytest.raises(TokenInvalid):
        verifier().verify(SIGNER.sign(access_claims()).encode(), now_s=NOW)


def test_an_access_token_expires():
    token = SIGNER.sign(access_claims())
    SIGNER.verify(token, now_s=NOW + 599.9)
    with pytest.raises(TokenExpired):
        SIGNER.verify(token, now_s=NOW + 600)


def test_every_changed_character_of_an_access_token_is_noticed():
    token = SIGNER.sign(access_claims())
    # The last character of an Ed25519 signature's base64 has bits that no decoder looks at; changing them
    # changes nothing that was signed.
    for position in range(len(token) - 1):
        other = "A" if token[position] != "A" else "B"
        with pytest.raises(TokenInvalid):
            SIGNER.verify(token[:position] + other + token[position + 1 :], now_s=NOW)


@given(
    st.text(min_size=1, max_size=200) | st.lists(st.text(max_size=30), min_size=3, max_size=3).map(".".join)
)
def test_noise_is_no_access_token(noise):
    with pytest.raises(TokenInvalid):
        SIGNER.verify(noise, now_s=NOW)


def test_an_empty_access_token_is_missing_and_a_huge_one_invalid():
    with pytest.raises(TokenMissing):
        SIGNER.verify("", now_s=NOW)
    with pytest.raises(TokenInvalid, match="at most"):
        SIGNER.verify("A" * (tokens.TOKEN_SIZE_MAX + 1), now_s=NOW)


def test_an_earlier_signing_key_is_believed_until_it_is_left_away():
    token = SIGNER.sign(access_claims())
    successor = new_pem()
    assert AccessSigner(successor, earlier_keys=[PEM]).verify(token, now_s=NOW) == access_claims()
    with pytest.raises(TokenInvalid, match="current signing key"):
        AccessSigner(successor).verify(token, now_s=NOW)


def test_a_signing_key_of_another_kind_is_named():
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(SecretMissing, match="Ed25519"):
        AccessSigner(pem)


def test_a_damaged_or_different_signing_key_is_named():
    rsa_like = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    for pem in (b"", b"not a key", rsa_like):
        with pytest.raises(SecretMissing, match="PEM"):
            AccessSigner(pem)


def test_a_token_that_is_good_by_the_masters_clock_is_no_expired_one_and_the_clock_is_named():
    checker, token = verifier(), signed(data_claims(exp=int(NOW) + 1))
    checker.ahead_s = 3600.0
    with pytest.raises(ClockSkew, match="clock"):
        checker.verify(token, now_s=NOW + 3600)
    with pytest.raises(TokenExpired, match="clock"):
        checker.verify(token, now_s=NOW + 3602)
