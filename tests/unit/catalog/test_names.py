"""Names: what users may call things, at every edge of the rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.catalog.names import check_bucket_name, check_key, check_metadata
from warehouse.errors import BadBucketName, BadKey, BadMetadata


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "7",
        "photos",
        "a.b",
        "a-b",
        "a_b",
        "a..b",
        "x" * 63,
        "1.2.3",
        "1.2.3.4.5",
        "1.2.3.400",
        "01.2.3.4",
    ],
)
def test_these_are_bucket_names(name):
    check_bucket_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x" * 64,
        "Photos",
        ".a",
        "a.",
        "-a",
        "a-",
        "_a",
        "a_",
        "a/b",
        "a b",
        "é",
        "a\n",
        "a\0",
        "..",
        ".",
        "127.0.0.1",
        "0.0.0.0",
        "²",
        "٣",
        "a\ud800",
    ],
)
def test_these_are_not(name):
    with pytest.raises(BadBucketName, match="a bucket name has 1 to 63"):
        check_bucket_name(name)


@pytest.mark.parametrize(
    "key",
    [
        "a",
        "/",
        "..",
        "../../etc/passwd",
        "a//b",
        " ",
        "\0",
        "é" * 512,
        "x" * 1024,
        "\U0010ffff",
        "a\nb",
        "%2e%2e",
        "\u202e",
    ],
)
def test_keys_are_opaque(key):
    check_key(key)


@pytest.mark.parametrize("key", ["", "x" * 1025, "é" * 513, "\U0001f600" * 257])
def test_keys_have_1_to_1024_bytes_of_utf_8(key):
    with pytest.raises(BadKey, match="1 to 1024 bytes"):
        check_key(key)


def test_a_key_with_a_lone_surrogate_is_refused():
    with pytest.raises(BadKey, match="surrogate"):
        check_key("a\udc80")


@given(st.text())
def test_every_key_is_accepted_by_its_size_alone(key):
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        size = 0
    if 1 <= size <= 1024:
        check_key(key)
    else:
        with pytest.raises(BadKey):
            check_key(key)


def test_metadata_has_a_limit_for_names_and_values_together():
    check_metadata({})
    check_metadata({"colour": "", "é": "ü\n"})
    check_metadata({"a": "x" * 8191})
    with pytest.raises(BadMetadata, match="at most 8192 bytes, this has 8193"):
        check_metadata({"a": "x" * 8192})
    with pytest.raises(BadMetadata, match="8193"):
        check_metadata({"aa": "", "b": "é" * 4095})


@pytest.mark.parametrize("metadata", [{"": "x"}, {"a\ud800": "x"}, {"a": "\udfff"}])
def test_metadata_is_valid_text_with_names(metadata):
    with pytest.raises(BadMetadata):
        check_metadata(metadata)
