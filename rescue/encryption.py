"""Encryption: the bytes of a backup that only its passphrase or key file opens, and that nobody can change.

A header, then the archive in chunks, each encrypted and authenticated with its place:

    offset  size  field
         0    16  magic       b"warehouse-backup"
        16     1  version     1
        17     1  kind        1: a passphrase; 2: a key file
        18     1  cost        log2 of scrypt's N; 0 for a key file
        19     1  zero
        20    32  salt        random
        52    32  header tag  HMAC-SHA-256 of bytes 0 to 51
        84        chunks      65,536 bytes of the archive each, the last one 1 to 65,536; then 16 bytes of tag

The secret is scrypt(passphrase, salt, N, r = 8, p = 1), 32 bytes; or what the key file holds.  HKDF-SHA-256
(salt as above, info b"warehouse backup 1") makes 64 bytes of it: 32 for the header tag, 32 for the chunks.
Because of the header tag a wrong passphrase is told from a damaged backup, and only one key opens a backup.

Chunks are ChaCha20-Poly1305; the nonce is the number of the chunk (11 bytes, big-endian, from 0) and a byte
that is 1 for the last chunk.  So chunks that are swapped, repeated or left out do not open, and a backup that
was cut off has no last chunk.  A salt makes the keys of each backup its own, so no nonce is used twice.
Memory is one chunk, whatever the size.

The construction is STREAM, as the file format "age" uses it.  Sources: Hoang, Reyhanitabar, Rogaway and
Vizár, "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", CRYPTO 2015;
age-encryption.org/v1; RFC 5869 (HKDF), RFC 7914 (scrypt), RFC 8439 (ChaCha20-Poly1305).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass, field
from typing import BinaryIO, Final, Literal, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from warehouse.errors import BackupCorrupt, BackupKeyWrong, FormatUnsupported

MAGIC: Final = b"warehouse-backup"
HEADER_SIZE: Final = 84
CHUNK_SIZE: Final = 64 * 1024
TAG_SIZE: Final = 16
KEY_FILE_SIZE_MIN: Final = 32
COST: Final = 17  # 128 MiB and half a second for each guess; OWASP's first choice for scrypt
COST_MAX: Final = 20  # 1 GiB: a backup that asks for more is an attack on who opens it
_COST_MIN: Final = 10
_VERSION: Final = 1
_KINDS: Final = {"passphrase": 1, "key file": 2}
_TAG_AT: Final = 52
_STORED_SIZE: Final = CHUNK_SIZE + TAG_SIZE

Kind = Literal["passphrase", "key file"]


@dataclass(frozen=True)
class BackupKey:
    """What opens a backup.

    Attributes:
        secret: the passphrase in UTF-8, or the content of the key file (at least 32 bytes).
    """

    kind: Kind
    secret: bytes = field(repr=False)


class Source(Protocol):
    """The bytes of an archive, wherever they come from."""

    @property
    def size(self) -> int: ...

    def read_at(self, count: int, offset: int) -> bytes:
        """Up to `count` bytes; less at the end alone.

        Raises:
            BackupCorrupt: they were changed.
            OSError: from the system.
        """


class PlainSource:
    """An archive that is not encrypted."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def read_at(self, count: int, offset: int) -> bytes:
        return os.pread(self._descriptor, count, offset)


def kind_of(descriptor: int) -> Kind | None:
    """What opens this file; None: it is not encrypted."""
    head = os.pread(descriptor, HEADER_SIZE, 0)
    if not head.startswith(MAGIC):
        return None
    kinds: dict[int, Kind] = {1: "passphrase", 2: "key file"}
    kind = kinds.get(head[17]) if len(head) == HEADER_SIZE else None
    if kind is None:
        raise BackupCorrupt("the header of the backup is damaged")
    return kind


class SealedSource:
    """An encrypted archive, opened with its key; every chunk is authenticated before a byte of it is used.

    Raises:
        BackupKeyWrong: it was encrypted with something else, or its header was changed.
        BackupCorrupt: it is damaged, or was cut off.
        FormatUnsupported: a later release wrote it.
        OSError: from the system.
    """

    def __init__(self, descriptor: int, key: BackupKey) -> None:
        self._descriptor = descriptor
        head = os.pread(descriptor, HEADER_SIZE, 0)
        self._cipher = ChaCha20Poly1305(_payload_key(head, key))
        stored = os.fstat(descriptor).st_size - HEADER_SIZE
        self._chunk_count = -(-stored // _STORED_SIZE)
        self.size = stored - self._chunk_count * TAG_SIZE
        self._at, self._chunk = -1, b""  # the chunk that was read last: most reads go on where one ended
        if stored <= TAG_SIZE or self.size <= (self._chunk_count - 1) * CHUNK_SIZE:
            raise BackupCorrupt("it was cut off")
        self._read_chunk(self._chunk_count - 1)  # says whether this is the end

    def read_at(self, count: int, offset: int) -> bytes:
        pieces, end = [], min(offset + count, self.size)
        while offset < end:
            number, start = divmod(offset, CHUNK_SIZE)
            piece = self._read_chunk(number)[start : start + end - offset]
            pieces.append(piece)
            offset += len(piece)
        return b"".join(pieces)

    def _read_chunk(self, number: int) -> bytes:
        if number != self._at:
            stored = os.pread(self._descriptor, _STORED_SIZE, HEADER_SIZE + number * _STORED_SIZE)
            nonce = _nonce(number, is_last=number == self._chunk_count - 1)
            try:
                self._chunk = self._cipher.decrypt(nonce, stored, None)
            except InvalidTag:
                raise BackupCorrupt("it is damaged, was changed, or was cut off") from None
            self._at = number
        return self._chunk


class SealedWriter:
    """Encrypts what is written to it into `file`; without `finish`, nothing opens the result."""

    def __init__(self, file: BinaryIO, key: BackupKey, *, cost: int = COST) -> None:
        head = MAGIC + bytes((_VERSION, _KINDS[key.kind], cost if key.kind == "passphrase" else 0, 0))
        head += secrets.token_bytes(32)
        header_key, payload_key = _keys(head, key)
        file.write(head + hmac.digest(header_key, head, "sha256"))
        self._file = file
        self._cipher = ChaCha20Poly1305(payload_key)
        self._number = 0
        self._pending = bytearray()

    def write(self, data: bytes) -> int:
        self._pending += data
        while len(self._pending) > CHUNK_SIZE:  # never the last one: only `finish` knows which that is
            self._write_chunk(bytes(self._pending[:CHUNK_SIZE]), is_last=False)
            del self._pending[:CHUNK_SIZE]
        return len(data)

    def tell(self) -> int:
        """Bytes of the archive so far; `tarfile` asks."""
        return self._number * CHUNK_SIZE + len(self._pending)

    def finish(self) -> None:
        self._write_chunk(bytes(self._pending), is_last=True)
        self._pending.clear()

    def _write_chunk(self, chunk: bytes, *, is_last: bool) -> None:
        self._file.write(self._cipher.encrypt(_nonce(self._number, is_last=is_last), chunk, None))
        self._number += 1


def _nonce(number: int, *, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes((is_last,))


def _payload_key(head: bytes, key: BackupKey) -> bytes:
    """Check the header, and return the key of the chunks."""
    if len(head) < HEADER_SIZE:
        raise BackupCorrupt("it was cut off")
    if not head.startswith(MAGIC) or head[16] != _VERSION:
        raise FormatUnsupported(
            f"the backup is encrypted in format {head[16]}; this release knows {_VERSION}"
        )
    kind, cost = head[17], head[18]
    if kind != _KINDS[key.kind]:
        raise BackupKeyWrong(f"the backup was not encrypted with a {key.kind}")
    if key.kind == "passphrase" and not _COST_MIN <= cost <= COST_MAX:
        raise BackupCorrupt(f"its header asks for 2^{cost} rounds of scrypt, which no backup needs")
    header_key, payload_key = _keys(head, key)
    if not hmac.compare_digest(hmac.digest(header_key, head[:_TAG_AT], "sha256"), head[_TAG_AT:]):
        raise BackupKeyWrong(f"this {key.kind} does not open the backup")
    return payload_key


def _keys(head: bytes, key: BackupKey) -> tuple[bytes, bytes]:
    """For the header tag and for the chunks."""
    salt, secret = head[20:_TAG_AT], key.secret
    if key.kind == "passphrase":
        rounds = 1 << head[18]
        memory_max = 128 * 8 * (rounds + 64)  # what scrypt takes, and a little more
        secret = hashlib.scrypt(secret, salt=salt, n=rounds, r=8, p=1, maxmem=memory_max, dklen=32)
    both = HKDF(hashes.SHA256(), 64, salt, b"warehouse backup 1").derive(secret)
    return both[:32], both[32:]
