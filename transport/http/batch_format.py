"""Batches: the layout of HTTP requests that carry many needles of one volume.  Pure: bytes in, values out.

    POST /v1/batch/put     the body: items, back to back; a lease is the token

        offset  size  field (little-endian)
             0     4  head_size  bytes of the head, at most 48 KiB
             4     h  head       msgpack, a `PutHead`
           4+h     n  data       as many bytes as the head says, at most 1 MiB

        the answer: msgpack, an `Outcome` for each item, in order.  A stored item has its ETag and its time,
        any other item has the code and message of an error.  When an item cannot be read, the items after
        it cannot be read either: the outcomes end there, and the last outcome counts for all of them.

    POST /v1/batch/get     the body: msgpack, an array of needle ids; a read grant is the token

        the answer: a frame for each needle, in order

        offset  size  field (little-endian)
             0     4  needle_id
             4     4  state      0: the data follows; otherwise the reason, see `STATES`
             8     4  size       bytes that follow
            12     4  crc        CRC-32C of the data
            16     n  data       whole and checked; zeros if damage showed after the sizes had been sent

A frame of an answer has no text, and sizes come from the index.  So the server knows the length of the answer
before it reads the first byte from the disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct
from typing import Final

import msgspec

from warehouse.errors import (
    BadRequest,
    BodyTooLarge,
    NeedleCorrupt,
    NoSuchNeedle,
    ReadFailed,
    StoreError,
    TokenScope,
    Unavailable,
)

PUT_ROUTE: Final = "/v1/batch/put"
GET_ROUTE: Final = "/v1/batch/get"

ITEMS_MAX: Final = 1024  # of one request, either way
ITEM_SIZE_MAX: Final = 1024 * 1024  # bytes of data; larger needles travel alone
PUT_SIZE_MAX: Final = 64 * 1024 * 1024  # bytes of a whole request
# A key of 1 KiB, 8 KiB of metadata in the smallest pairs and 16 KiB of attributes take less.
HEAD_SIZE_MAX: Final = 48 * 1024
GET_SIZE_MAX: Final = 8 * 1024  # bytes of a request: 1,024 ids take at most 5 bytes each

HEAD_SIZE: Final = Struct("<I")
FRAME: Final = Struct("<IIII")

STATE_OK: Final = 0
# The reasons in frames without data.  A number is never used again.
STATES: Final[dict[int, type[StoreError]]] = {
    1: NoSuchNeedle,
    2: NeedleCorrupt,
    3: ReadFailed,
    4: TokenScope,  # the needle belongs to another bucket than the token
    5: BodyTooLarge,  # the needle is larger than ITEM_SIZE_MAX: ask for it alone
}
_STATE_OF: Final = {kind: state for state, kind in STATES.items()}


class PutHead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a put says about its needle.  Add a new field at the end, with a default."""

    needle_id: int
    key: str
    size: int  # bytes of data
    crc: int  # CRC-32C of the data
    content_type: str | None = None
    metadata: dict[str, str] = {}
    if_match: str | None = None
    if_none_match: str | None = None
    attributes: bytes = b""  # encoded, see `messages/attributes.py`
    amends: tuple[int, int] | None = None  # changes the attributes of the version with this first needle


class Outcome(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The result of one item of a put: an ETag and `created_ms`, or the code and message of an error."""

    word: str
    detail: int | str


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One needle of an answer."""

    needle_id: int
    state: int
    crc: int
    data: memoryview


_encode = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(PutHead).decode
_decode_outcomes = msgspec.msgpack.Decoder(list[Outcome]).decode
_decode_ids = msgspec.msgpack.Decoder(list[int]).decode


# --- requests -------------------------------------------------------------------------------------


def encode_put_head(head: PutHead) -> bytes:
    """Encode a head with its size before it; the data follows."""
    encoded = _encode(head)
    return HEAD_SIZE.pack(len(encoded)) + encoded


def decode_head_size(prefix: bytes | memoryview) -> int:
    """Read the size of a head from the four bytes before it.

    Raises:
        BadRequest: the size is larger than that of any head of ours.
    """
    size: int = HEAD_SIZE.unpack(prefix)[0]
    if size > HEAD_SIZE_MAX:
        raise BadRequest(f"the head of an item has at most {HEAD_SIZE_MAX} bytes, not {size}")
    return size


def decode_put_head(encoded: bytes | memoryview) -> PutHead:
    """Read a head, and check the numbers that say where the next item begins.

    Raises:
        BadRequest: the bytes are not a head, or its size or CRC is out of bounds.
    """
    try:
        head = _decode_head(encoded)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the head of an item must be the msgpack array of a put: {error}") from error
    if not 0 <= head.size <= ITEM_SIZE_MAX:
        raise BadRequest(f"an item has 0 to {ITEM_SIZE_MAX} bytes of data, not {head.size}")
    if not 0 <= head.crc < 1 << 32:
        raise BadRequest(f"a CRC has 32 bits, {head.crc} has more")
    return head


def encode_ids(needle_ids: Sequence[int]) -> bytes:
    return _encode(needle_ids)


def decode_ids(body: bytes) -> list[int]:
    """Read the ids of the needles that a get asks for.

    Raises:
        BadRequest: the body is not an array of needle ids, or the array is empty or too long.
    """
    try:
        needle_ids = _decode_ids(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(f"a batch get must send a msgpack array of needle ids: {error}") from error
    if not 1 <= len(needle_ids) <= ITEMS_MAX:
        raise BadRequest(f"a batch get asks for 1 to {ITEMS_MAX} needles, not {len(needle_ids)}")
    if min(needle_ids) < 1 or max(needle_ids) >= 1 << 32:
        raise BadRequest("needle ids go from 1 to 4294967295")
    return needle_ids


# --- answers --------------------------------------------------------------------------------------


def stored(etag: str, created_ms: int) -> Outcome:
    return Outcome(etag, created_ms)


def failed(error: StoreError) -> Outcome:
    return Outcome(error.code, error.message)


def encode_outcomes(outcomes: Sequence[Outcome]) -> bytes:
    return _encode(outcomes)


def decode_outcomes(body: bytes, item_count: int) -> list[Outcome]:
    """Read the outcome of each of `item_count` items.  The last outcome counts for items without one.

    Raises:
        Unavailable: the body does not answer this many items.
    """
    try:
        outcomes = _decode_outcomes(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unavailable(f"the answer to a batch must be an array of outcomes: {error}") from error
    missing_count = item_count - len(outcomes)
    if missing_count < 0 or not outcomes or (missing_count and isinstance(outcomes[-1].detail, int)):
        raise Unavailable(f"{item_count} items were sent, {len(outcomes)} outcomes came back")
    return outcomes + [outcomes[-1]] * missing_count


def state_of(error: StoreError) -> int:
    """Return the number that stands for this error in a frame."""
    return _STATE_OF.get(type(error)) or _STATE_OF[ReadFailed]


def error_of(state: int, volume_id: int, needle_id: int) -> StoreError:
    """Return the error that a number in a frame stands for.  A later release may send any number."""
    kind = STATES.get(state, Unavailable)
    return kind(f"volume {volume_id}, needle {needle_id}: the answer to the batch says {kind.code}")


def read_frames(body: bytes, needle_ids: Sequence[int]) -> Iterator[Frame]:
    """Cut an answer into the frames of these needles.

    Raises:
        Unavailable: the answer is not one for these needles.
    """
    view = memoryview(body)
    position = 0
    for needle_id in needle_ids:
        start = position + FRAME.size
        if start > len(body):
            raise Unavailable(f"the answer to a batch ends before needle {needle_id}")
        found_id, state, size, crc = FRAME.unpack_from(body, position)
        position = start + size
        if found_id != needle_id or position > len(body):
            raise Unavailable(
                f"the answer to a batch has {found_id=} {size=} where needle {needle_id} belongs"
            )
        yield Frame(needle_id, state, crc, view[start:position])
    if position != len(body):
        raise Unavailable(f"the answer to a batch has {len(body) - position} bytes too many")
