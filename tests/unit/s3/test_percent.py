"""Percent coding: each octet is decoded once and encoded once, and nothing else changes."""

from __future__ import annotations

from urllib.parse import quote_from_bytes, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.s3 import percent
from warehouse.s3.failures import Failure


@given(octets=st.binary(max_size=60))
def test_what_was_encoded_is_decoded_to_itself(octets: bytes) -> None:
    assert percent.decode(percent.encode(octets)) == octets


@given(octets=st.binary(max_size=60))
def test_the_standard_library_encodes_the_same(octets: bytes) -> None:
    assert percent.encode(octets).decode() == quote_from_bytes(octets, safe="-._~")
    raw = quote_from_bytes(octets, safe="").encode()
    assert percent.canonical_path(raw).decode() == quote_from_bytes(octets, safe="/-._~")
    assert percent.decode(raw) == unquote_to_bytes(raw)


@pytest.mark.parametrize(
    ("raw", "decoded"),
    [
        (b"", b""),
        (b"a%2Fb", b"a/b"),
        (b"%2f%2F", b"//"),
        (b"a+b", b"a+b"),  # a plus sign is a plus sign
        (b"%2541", b"%41"),  # once, not until nothing changes
        (b"%00", b"\0"),
        (b"%C3%A9", b"\xc3\xa9"),
        (b"\xc3\xa9", b"\xc3\xa9"),
    ],
)
def test_each_octet_is_decoded_once(raw: bytes, decoded: bytes) -> None:
    assert percent.decode(raw) == decoded


@pytest.mark.parametrize(
    "raw", [b"%", b"a%", b"%4", b"%zz", b"%0x1", b"%-1", b"% 1", b"%+1", b"%%41", b"%u0041"]
)
def test_a_percent_sign_without_two_digits_is_no_address(raw: bytes) -> None:
    with pytest.raises(Failure) as caught:
        percent.decode(raw)
    assert (caught.value.code, caught.value.status) == ("InvalidURI", 400)
    with pytest.raises(Failure):
        percent.canonical_path(raw)


@pytest.mark.parametrize("raw", [b"%FF", b"%C3", b"\xff", b"%ED%A0%80", b"%C0%AF", b"%F5%80%80%80"])
def test_octets_that_are_no_utf_8_are_no_text(raw: bytes) -> None:
    """Among them a lone surrogate, and a slash in more octets than it needs."""
    with pytest.raises(Failure) as caught:
        percent.decode_text(raw)
    assert caught.value.code == "InvalidURI"


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        (b"/photos/puppy.jpg", b"/photos/puppy.jpg"),
        (b"/a%2fb", b"/a/b"),
        (b"/%41%7e", b"/A~"),
        (b"/a+b", b"/a%2Bb"),
        (b"/a b!*'()", b"/a%20b%21%2A%27%28%29"),
        (b"//a/../b/", b"//a/../b/"),
        (b"/\xc3\xa9", b"/%C3%A9"),
    ],
)
def test_the_canonical_path_keeps_slashes_and_unreserved_characters(raw: bytes, canonical: bytes) -> None:
    assert percent.canonical_path(raw) == canonical
