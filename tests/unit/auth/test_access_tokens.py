"""Access tokens: whatever was not signed, by this master, for this moment, is refused."""

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from warehouse.auth.access_tokens import TOKEN_SIZE_MAX, AccessClaims, AccessSigner
from warehouse.auth.data_tokens import DataClaims, DataTokenVerifier, sign_data_token
from warehouse.errors import SecretMissing, TokenExpired, TokenInvalid, TokenMissing

NOW = 1_800_000_000.0


def new_pem():
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


PEM = new_pem()
SIGNER = AccessSigner(PEM)


def access_claims(**changes):
    values = {
        "key_id": "WHA",
        "epoch": 4,
        "expires_at_s": int(NOW) + 600,
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


def test_an_access_token_names_the_key_and_its_epoch_and_no_rights():
    token = SIGNER.sign(access_claims())
    assert SIGNER.verify(token, now_s=NOW) == access_claims()
    payload = jwt.decode(token, options={"verify_signature": False})
    assert sorted(payload) == ["aud", "epoch", "exp", "iss", "sub"]


def test_a_token_of_the_first_release_is_read():
    claims = access_claims(permissions=9, buckets={"photos": "r"})
    assert SIGNER.verify(SIGNER.sign(claims), now_s=NOW) == claims


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
    key = bytes(32)
    verifier = DataTokenVerifier("disk", {"k1": key})
    claims = DataClaims(
        operation="put",
        audience="disk",
        volume_id=7,
        expires_at_s=int(NOW) + 60,
        bucket_id=3,
        bucket="photos",
    )
    data_token = sign_data_token(claims, key_id="k1", key=key)
    assert verifier.verify(data_token.encode(), now_s=NOW) == claims
    with pytest.raises(TokenInvalid):
        SIGNER.verify(data_token, now_s=NOW)
    with pytest.raises(TokenInvalid):
        verifier.verify(SIGNER.sign(access_claims()).encode(), now_s=NOW)


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
        SIGNER.verify("A" * (TOKEN_SIZE_MAX + 1), now_s=NOW)


def test_an_earlier_signing_key_is_believed_until_its_time_is_over_or_it_is_left_away():
    token = SIGNER.sign(access_claims())
    successor = new_pem()
    lasting = AccessSigner(successor, earlier_keys={SIGNER.public: NOW + 1e6})
    assert lasting.verify(token, now_s=NOW) == access_claims()
    ending = AccessSigner(successor, earlier_keys={SIGNER.public: NOW + 5})
    assert ending.verify(token, now_s=NOW + 4).expires_at_s == NOW + 5, "no session outlives the overlap"
    with pytest.raises(TokenExpired):
        ending.verify(token, now_s=NOW + 5)
    own = AccessSigner(PEM, earlier_keys={SIGNER.public: NOW - 5})
    assert own.verify(token, now_s=NOW) == access_claims(), "a rotation that was cut off ends nothing"
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
