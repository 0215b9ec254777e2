"""API keys: unguessable, shown once, checked by hash."""

import re

from warehouse.auth.keys import generate_api_key, hash_secret, verify_secret


def test_a_key_has_the_documented_form():
    key = generate_api_key()
    assert re.fullmatch(r"WH[A-Z2-7]{20}", key.key_id)
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", key.secret)


def test_only_the_secret_itself_is_accepted():
    key = generate_api_key()
    assert verify_secret(key.secret, key.hashed)
    for position in range(len(key.secret)):
        other = "A" if key.secret[position] != "A" else "B"
        assert not verify_secret(key.secret[:position] + other + key.secret[position + 1 :], key.hashed)
    for wrong in ("", key.secret + "A", key.secret[:-1], key.secret.swapcase(), "\ud800"):
        assert not verify_secret(wrong, key.hashed)


def test_a_key_that_does_not_exist_is_refused():
    assert not verify_secret("", None)
    assert not verify_secret(generate_api_key().secret, None)


def test_the_same_secret_is_stored_differently_for_each_salt():
    secret = generate_api_key().secret
    assert hash_secret(secret, salt=b"a" * 16).digest != hash_secret(secret, salt=b"b" * 16).digest


def test_keys_differ():
    keys = [generate_api_key() for _ in range(100)]
    assert len({key.key_id for key in keys}) == len({key.secret for key in keys}) == 100
    assert len({key.hashed.salt for key in keys}) == 100


def test_a_printed_key_shows_no_secret():
    key = generate_api_key()
    assert key.secret not in repr(key)
    assert repr(key.hashed.digest) not in repr(key)
    assert key.key_id in repr(key)


def test_entropy_is_an_argument():
    assert generate_api_key(bytes) == generate_api_key(bytes)
    assert generate_api_key(bytes).key_id == "WH" + "A" * 20
