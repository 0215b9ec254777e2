"""Tags: what S3 allows in them, from the header and from documents."""

from __future__ import annotations

import pytest

from warehouse.s3.failures import Failure
from warehouse.s3.tags import BUCKET_TAGS_MAX, OBJECT_TAGS_MAX, check_tags, read_tagging_header


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        (b"", ()),
        (b"project=blue", (("project", "blue"),)),
        (b"Hello=World&foo=bar", (("Hello", "World"), ("foo", "bar"))),
        (b"a=&b", (("a", ""), ("b", ""))),
        (b"a=x%20y+z", (("a", "x y z"),)),
        (b"a=b=c", (("a", "b=c"),)),
        (b"%C3%BC=%2B-%3D._%3A%2F%40", (("ü", "+-=._:/@"),)),
        ("ü=é".encode(), (("ü", "é"),)),
        (b"z=1&a=2&", (("a", "2"), ("z", "1"))),
    ],
)
def test_the_header_is_a_query(value: bytes, tags: object) -> None:
    assert read_tagging_header(value) == tags


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"a=%zz", "InvalidArgument"),
        (b"a=%2", "InvalidArgument"),
        (b"a=%", "InvalidArgument"),
        (b"a=%FF", "InvalidArgument"),
        (b"a=\xff", "InvalidArgument"),
        (b"x" * 9000, "InvalidArgument"),
        (b"=b", "InvalidTag"),
        (b"a=1&a=2", "InvalidTag"),
        (b"a=%0A", "InvalidTag"),
        (b"a=%00", "InvalidTag"),
        (b"a=1;b=2", "InvalidTag"),
        (b"a<b=1", "InvalidTag"),
        (b"aws:created=1", "InvalidTag"),
        (b"AWS:created=1", "InvalidTag"),
        ("a=😀".encode(), "InvalidTag"),
    ],
)
def test_a_bad_header_is_refused(value: bytes, code: str) -> None:
    with pytest.raises(Failure) as refused:
        read_tagging_header(value)
    assert refused.value.code == code


@pytest.mark.parametrize("count_max", [OBJECT_TAGS_MAX, BUCKET_TAGS_MAX])
def test_the_number_of_tags_is_bounded(count_max: int) -> None:
    tags = [(str(number), "x") for number in range(count_max)]
    assert check_tags(tags, count_max) == tuple(tags)
    with pytest.raises(Failure, match=f"InvalidTag: .*{count_max}"):
        check_tags([*tags, ("more", "x")], count_max)


@pytest.mark.parametrize(("key", "value", "is_good"), [(128, 256, True), (129, 0, False), (1, 257, False)])
def test_lengths_count_characters(key: int, value: int, is_good: bool) -> None:
    tags = [("é" * key, "é" * value)]
    if is_good:
        assert check_tags(tags, 1) == tuple(tags)
    else:
        with pytest.raises(Failure, match="InvalidTag"):
            check_tags(tags, 1)
