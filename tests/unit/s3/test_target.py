"""Target: bucket and key, from the path or from the host; a key is never a path."""

from __future__ import annotations

import pytest

from warehouse.catalog.names import check_key
from warehouse.errors import BadKey
from warehouse.s3.failures import Failure
from warehouse.s3.target import KEY_SIZE_MAX, SERVICE, Target, target_of

DOMAINS = ("s3.example.org", "example.org", "localhost")


@pytest.mark.parametrize(
    ("path", "target"),
    [
        (b"/", SERVICE),
        (b"/photos", Target("photos", "")),
        (b"/photos/", Target("photos", "")),
        (b"/photos/a", Target("photos", "a")),
        (b"/photos/a/", Target("photos", "a/")),
        (b"/photos//", Target("photos", "/")),
        (b"/photos//a", Target("photos", "/a")),
        (b"/photos/a%2Fb", Target("photos", "a/b")),
        (b"/photos/%2F", Target("photos", "/")),
        (b"/photos/../a/./b", Target("photos", "../a/./b")),
        (b"/photos/a+b%2B", Target("photos", "a+b+")),
        (b"/photos/a%2541", Target("photos", "a%41")),
        (b"/photos/%00", Target("photos", "\0")),
        (b"/photos/\xc3\xa9%C3%A9", Target("photos", "éé")),
        (b"/photos/%F0%9F%98%80", Target("photos", "\N{GRINNING FACE}")),
        (b"/ph%6Ftos/a", Target("photos", "a")),
        (b"/Photos%2Fa", Target("Photos/a", "")),  # no bucket can have this name
    ],
)
def test_the_path_holds_bucket_and_key(path: bytes, target: Target) -> None:
    assert target_of(path, b"127.0.0.1:7490", DOMAINS) == target


@pytest.mark.parametrize(
    ("host", "bucket"),
    [
        (b"photos.s3.example.org", "photos"),
        (b"photos.s3.example.org:7490", "photos"),
        (b"photos.s3.example.org.", "photos"),
        (b"Photos.S3.Example.ORG", "photos"),
        (b"my.old.photos.s3.example.org", "my.old.photos"),
        (b"photos.localhost:7490", "photos"),
        (b"photos.example.org", "photos"),
    ],
)
def test_a_host_below_a_domain_names_the_bucket(host: bytes, bucket: str) -> None:
    assert target_of(b"/a/b", host, DOMAINS) == Target(bucket, "a/b", is_virtual=True)
    assert target_of(b"/", host, DOMAINS) == Target(bucket, "", is_virtual=True)
    assert target_of(b"//a", host, DOMAINS) == Target(bucket, "/a", is_virtual=True)


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"s3.example.org",  # a domain of its own, not the bucket "s3" below the other one
        b"s3.example.org:443",
        b"127.0.0.1",
        b"[::1]:7490",
        b"photos.elsewhere.net",
        b"photoss3.elsewhere-example.org",
        b"\xff.example",
    ],
)
def test_any_other_host_leaves_the_bucket_to_the_path(host: bytes) -> None:
    assert target_of(b"/a/b", host, DOMAINS) == Target("a", "b")


def test_without_domains_no_host_names_a_bucket() -> None:
    assert target_of(b"/a/b", b"photos.s3.example.org", ()) == Target("a", "b")


@pytest.mark.parametrize(
    ("path", "host", "code"),
    [
        (b"", b"", "InvalidURI"),
        (b"*", b"", "InvalidURI"),
        (b"photos/a", b"", "InvalidURI"),
        (b"/photos/%zz", b"", "InvalidURI"),
        (b"/%zz/a", b"", "InvalidURI"),
        (b"/photos/%", b"", "InvalidURI"),
        (b"/photos/%FF", b"", "InvalidURI"),
        (b"/photos/\xff", b"", "InvalidURI"),
        (b"/photos/%ED%A0%80", b"", "InvalidURI"),
        (b"//a", b"", "InvalidBucketName"),
        (b"//", b"", "InvalidBucketName"),
        (b"/a", b".example.org", "InvalidBucketName"),
        (b"/photos/" + b"a" * 1025, b"", "KeyTooLongError"),
        (b"/photos/" + b"%C3%A9" * 513, b"", "KeyTooLongError"),
        (b"/" + b"a" * 1025, b"photos.example.org", "KeyTooLongError"),
    ],
)
def test_a_target_that_cannot_be_is_refused(path: bytes, host: bytes, code: str) -> None:
    with pytest.raises(Failure) as caught:
        target_of(path, host, DOMAINS)
    assert (caught.value.code, caught.value.status) == (code, 400)


def test_a_key_that_is_too_long_hears_by_how_much() -> None:
    with pytest.raises(Failure) as caught:
        target_of(b"/photos/" + b"%41" * 1025, b"", ())
    assert caught.value.fields == {"Size": "1025", "MaxSizeAllowed": "1024"}


@pytest.mark.parametrize(
    "key", ["a", "é" * 512, "a" * 1024, "\0", "\x7f", "/", "//", "..", " ", "\N{GRINNING FACE}" * 256]
)
def test_keys_of_the_catalog_are_keys_here(key: str) -> None:
    check_key(key)
    encoded = b"".join(b"%%%02x" % octet for octet in key.encode())
    assert target_of(b"/photos/" + encoded, b"", ()).key == key


@pytest.mark.parametrize("key", ["a" * 1025, "é" * 513, "\N{GRINNING FACE}" * 257])
def test_keys_that_the_catalog_refuses_are_refused_here(key: str) -> None:
    with pytest.raises(BadKey):
        check_key(key)
    with pytest.raises(Failure):
        target_of(b"/photos/" + key.encode(), b"", ())
    assert len(key.encode()) > KEY_SIZE_MAX
