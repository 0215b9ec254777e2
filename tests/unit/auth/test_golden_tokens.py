"""Tokens that release 0.1.0 signed: today's code reads the same claims, and signs the same bytes."""

import json
from pathlib import Path

import jwt
import msgspec
import pytest

from warehouse.auth.access_tokens import AccessClaims, AccessSigner
from warehouse.auth.data_tokens import DataClaims, DataTokenVerifier, sign_data_token
from warehouse.errors import TokenExpired

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "setup.cfg").exists())
GOLDEN = json.loads((ROOT / "tests" / "golden" / "tokens_0_1.json").read_text(encoding="utf-8"))
NOW_S = GOLDEN["now_s"]
DATA, ACCESS = GOLDEN["data"], GOLDEN["access"]
KEY = bytes.fromhex(DATA["key_hex"])


def cases(kind):
    return pytest.mark.parametrize(
        ("claims", "token"),
        [pytest.param(case["claims"], case["token"], id=case["name"]) for case in kind["tokens"]],
    )


def verify_data(token, now_s=NOW_S):
    return DataTokenVerifier(DATA["disk_id"], {DATA["key_id"]: KEY}).verify(token.encode(), now_s=now_s)


def signer():
    return AccessSigner(ACCESS["private_key"].encode())


@cases(DATA)
def test_a_data_token_of_0_1_says_the_same(claims, token):
    assert verify_data(token) == msgspec.convert(claims, DataClaims)
    with pytest.raises(TokenExpired):
        verify_data(token, now_s=claims["exp"])


@cases(DATA)
def test_a_data_token_is_signed_as_in_0_1(claims, token):
    assert sign_data_token(msgspec.convert(claims, DataClaims), key_id=DATA["key_id"], key=KEY) == token


@cases(ACCESS)
def test_an_access_token_of_0_1_says_the_same(claims, token):
    assert signer().verify(token, now_s=NOW_S) == msgspec.convert(claims, AccessClaims)
    with pytest.raises(TokenExpired):
        signer().verify(token, now_s=claims["exp"])


@cases(ACCESS)
def test_an_access_token_is_signed_as_in_0_1(claims, token):
    """PyJWT writes the JSON, so its layout may change with PyJWT; what is in it may not."""
    ours = signer().sign(msgspec.convert(claims, AccessClaims))
    assert jwt.get_unverified_header(ours) == jwt.get_unverified_header(token)
    payloads = [jwt.decode(one, options={"verify_signature": False}) for one in (ours, token)]
    assert payloads[0] == payloads[1]
    assert signer().key_id == ACCESS["key_id"]
