"""An encrypted archive is read whole and unchanged, with its key, or not at all."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warehouse.errors import BackupCorrupt, BackupKeyWrong, FormatUnsupported, SetupError
from warehouse.rescue.encryption import (
    CHUNK_SIZE,
    COST_MAX,
    HEADER_SIZE,
    MAGIC,
    TAG_SIZE,
    BackupKey,
    PlainSource,
    SealedSource,
    SealedWriter,
    kind_of,
)

KEY = BackupKey("key file", bytes(range(32)))
PASSPHRASE = BackupKey("passphrase", b"correct horse battery staple")
CHEAP = 10  # rounds of scrypt, as a power of two: these tests guess nothing
STORED = CHUNK_SIZE + TAG_SIZE

sizes = st.one_of(
    st.integers(1, 300),
    st.sampled_from([k * CHUNK_SIZE + d for k in (1, 2, 3) for d in (-1, 0, 1)]),
)


def content_of(size: int) -> bytes:
    return bytes(range(251)) * (size // 251) + bytes(range(size % 251))


def sealed(content: bytes, key: BackupKey = KEY, *, piece: int = 10_000) -> bytes:
    file = io.BytesIO()
    writer = SealedWriter(file, key, cost=CHEAP)
    for start in range(0, len(content), piece):
        writer.write(content[start : start + piece])
    assert writer.tell() == len(content)
    writer.finish()
    return file.getvalue()


@contextmanager
def opened(stored: bytes) -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        file.write(stored)
        file.flush()
        yield file.fileno()


def read(stored: bytes, key: BackupKey = KEY) -> bytes:
    with opened(stored) as descriptor:
        source = SealedSource(descriptor, key)
        return source.read_at(source.size, 0)


@settings(deadline=None)
@given(size=sizes, piece=st.sampled_from([1000, CHUNK_SIZE, 3 * CHUNK_SIZE]))
def test_what_was_written_is_read(size: int, piece: int) -> None:
    content = content_of(size)
    stored = sealed(content, piece=piece)
    assert read(stored) == content
    assert len(stored) == HEADER_SIZE + size + TAG_SIZE * -(-size // CHUNK_SIZE)


@settings(deadline=None)
@given(start=st.integers(0, 200_000), count=st.integers(0, 200_000))
def test_any_stretch_can_be_read(start: int, count: int) -> None:
    content = content_of(150_000)
    with opened(sealed(content)) as descriptor:
        source = SealedSource(descriptor, KEY)
        assert source.size == len(content)
        assert source.read_at(count, start) == content[start : start + count]


@settings(deadline=None)
@given(size=sizes, data=st.data())
def test_every_flipped_bit_is_noticed(size: int, data: st.DataObject) -> None:
    stored = bytearray(sealed(content_of(size)))
    stored[data.draw(st.integers(0, len(stored) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(SetupError) as caught:
        read(bytes(stored))
    assert isinstance(caught.value, BackupCorrupt | BackupKeyWrong | FormatUnsupported)


@pytest.mark.parametrize("at", range(HEADER_SIZE))
def test_every_byte_of_the_header_counts(at: int) -> None:
    stored = bytearray(sealed(b"content", PASSPHRASE))
    stored[at] ^= 1
    with pytest.raises((BackupCorrupt, BackupKeyWrong, FormatUnsupported)):
        read(bytes(stored), PASSPHRASE)


@settings(deadline=None)
@given(size=sizes, data=st.data())
def test_an_archive_that_was_cut_off_is_noticed_when_it_is_opened(size: int, data: st.DataObject) -> None:
    stored = sealed(content_of(size))
    length = data.draw(
        st.one_of(
            st.integers(0, len(stored) - 1),
            st.sampled_from(
                [HEADER_SIZE + k * STORED for k in range((len(stored) - HEADER_SIZE - 1) // STORED + 1)]
            ),
        )
    )
    with opened(stored[:length]) as descriptor, pytest.raises(BackupCorrupt):
        SealedSource(descriptor, KEY)


@settings(deadline=None)
@given(size=sizes, more=st.binary(min_size=1, max_size=100))
def test_an_archive_with_something_behind_it_is_noticed_when_it_is_opened(size: int, more: bytes) -> None:
    with opened(sealed(content_of(size)) + more) as descriptor, pytest.raises(BackupCorrupt):
        SealedSource(descriptor, KEY)


CHUNKS = 4


@given(st.permutations(range(CHUNKS)))
def test_chunks_in_another_order_are_noticed(order: list[int]) -> None:
    stored = sealed(content_of(CHUNKS * CHUNK_SIZE))
    chunks = [stored[HEADER_SIZE + k * STORED : HEADER_SIZE + (k + 1) * STORED] for k in range(CHUNKS)]
    moved = stored[:HEADER_SIZE] + b"".join(chunks[k] for k in order)
    if order == sorted(order):
        assert read(moved) == content_of(CHUNKS * CHUNK_SIZE)
    else:
        with pytest.raises(BackupCorrupt):
            read(moved)


@pytest.mark.parametrize("number", range(CHUNKS))
def test_a_chunk_that_is_missing_or_there_twice_is_noticed(number: int) -> None:
    stored = sealed(content_of(CHUNKS * CHUNK_SIZE))
    start, end = HEADER_SIZE + number * STORED, HEADER_SIZE + (number + 1) * STORED
    for other in (stored[:start] + stored[end:], stored[:end] + stored[start:]):
        with pytest.raises(BackupCorrupt):
            read(other)


def test_a_chunk_of_another_archive_of_the_same_key_is_noticed() -> None:
    one, other = (sealed(content_of(CHUNKS * CHUNK_SIZE)) for _ in range(2))
    with pytest.raises(BackupCorrupt):
        read(one[: HEADER_SIZE + STORED] + other[HEADER_SIZE + STORED :])


def test_the_same_archive_never_looks_the_same() -> None:
    assert len({sealed(b"content")[HEADER_SIZE:] for _ in range(50)}) == 50
    assert b"content" not in sealed(b"content")


@pytest.mark.parametrize("right", [KEY, PASSPHRASE], ids=lambda key: key.kind)
def test_another_key_is_told_from_damage(right: BackupKey) -> None:
    stored = sealed(b"content", right)
    with pytest.raises(BackupKeyWrong, match=f"this {right.kind} does not open"):
        read(stored, BackupKey(right.kind, right.secret + b"x"))
    other = KEY if right is PASSPHRASE else PASSPHRASE
    with pytest.raises(BackupKeyWrong, match=f"not encrypted with a {other.kind}"):
        read(stored, other)
    assert read(stored, right) == b"content"


def test_a_kind_is_told_before_the_key_is_asked_for() -> None:
    for stored, kind in (
        (sealed(b"c", KEY), "key file"),
        (sealed(b"c", PASSPHRASE), "passphrase"),
        (b"manifest.json\0", None),
        (b"", None),
    ):
        with opened(stored) as descriptor:
            assert kind_of(descriptor) == kind
    with opened(MAGIC + b"\1\7" + bytes(100)) as descriptor, pytest.raises(BackupCorrupt):
        kind_of(descriptor)
    with opened(MAGIC) as descriptor, pytest.raises(BackupCorrupt):
        kind_of(descriptor)


@pytest.mark.parametrize("cost", [0, 1, COST_MAX + 1, 63, 255])
def test_a_backup_cannot_ask_for_more_memory_than_there_is(cost: int) -> None:
    stored = bytearray(sealed(b"content", PASSPHRASE))
    stored[18] = cost
    with pytest.raises(BackupCorrupt, match="scrypt"):
        read(bytes(stored), PASSPHRASE)


def test_a_later_format_is_named() -> None:
    stored = bytearray(sealed(b"content"))
    stored[16] = 2
    with pytest.raises(FormatUnsupported, match="format 2"):
        read(bytes(stored))


def test_an_archive_without_an_end_does_not_open() -> None:
    file = io.BytesIO()
    writer = SealedWriter(file, KEY)
    writer.write(content_of(2 * CHUNK_SIZE + 1))
    with pytest.raises(BackupCorrupt):
        read(file.getvalue())


def test_no_secret_shows_in_a_print() -> None:
    assert "horse" not in repr(PASSPHRASE)


def test_a_plain_archive_is_read_as_it_is() -> None:
    with opened(b"0123456789") as descriptor:
        source = PlainSource(descriptor)
        assert (source.size, source.read_at(3, 2), source.read_at(9, 8)) == (10, b"234", b"89")


def test_frozen_bytes_open() -> None:
    """Written by the first release that encrypted: a backup must open forever."""
    assert read(bytes.fromhex(FROZEN_KEY_FILE)) == b"the archive"
    assert read(bytes.fromhex(FROZEN_PASSPHRASE), PASSPHRASE) == b"the archive"


FROZEN_KEY_FILE = (
    "77617265686f7573652d6261636b7570010200008b1fa4a64d0f302801bb1a1a3d44a24800fd797c"
    "a652f796dc26d5937114e9a7422f43ac68e186761a4153956f54e327db7e4619a8f379eacc43fd50"
    "39864647d5dd3898a341d44f73b2e7fe1dd68b10b0061464ece631c95b3e21"
)
FROZEN_PASSPHRASE = (
    "77617265686f7573652d6261636b757001010a00c784a3c06cbfa217e005ca8d906dea262e11a94c"
    "64b1fdfcb1c937da92d8033563f351a57c911b9dd98a570ae265e01c836c9ae068739ecc4b2005d5"
    "2e4093c26bb74c929d7e8552c5fd7a7692951a53e0193c6805516c9af76c01"
)
