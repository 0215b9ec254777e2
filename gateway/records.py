"""Records: what is known of one request, from its head to its end, and what of it may be written down.  Pure

A line of the access log is one JSON object.  It has no secret and no signature: the query of a request stands
in none of its fields.  What a client has chosen freely is cut to a bounded length.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

BUCKET_MAX = 255  # characters; no bucket has a longer name, but anybody may ask for one
KEY_MAX = 1024
KEY_ID_MAX = 128
AGENT_MAX = 256


class Record(msgspec.Struct):
    """One request.

    Attributes:
        at_s: when its head had come, seconds since 1970.
        begun_s: the same on a clock that nobody sets.
        operation: as the table of operations names it; "": nobody knows, because the request cannot be read.
        key_id: the API key that is said to have signed it; it need not be true of a request that was refused.
        received: bytes of a body in chunked coding.
        status: of the answer; 0: none was sent.
        code: S3's code of a refusal; "Cut" for an answer that broke off.
        bytes_in, bytes_out: of the bodies, as they travelled.
        cors: headers for the browser of a page from elsewhere, in whatever answer; in no line.
    """

    at_s: float
    begun_s: float
    request_id: str = ""
    method: str = ""
    operation: str = ""
    bucket: str = ""
    key: str = ""
    key_id: str = ""
    address: str = ""
    agent: str = ""
    received: int = 0
    status: int = 0
    code: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    duration_s: float = 0.0
    cors: Sequence[tuple[bytes, bytes]] = ()


class _Line(msgspec.Struct, frozen=True):
    time: str
    request_id: str
    address: str
    key_id: str
    method: str
    operation: str
    bucket: str
    key: str
    status: int
    code: str
    bytes_in: int
    bytes_out: int
    duration_ms: float
    user_agent: str


_ENCODER = msgspec.json.Encoder()


def line_of(record: Record) -> bytes:
    """The line of the access log about a request that has ended, with its newline."""
    at = datetime.fromtimestamp(record.at_s, UTC)
    line = _Line(
        time=at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        request_id=record.request_id,
        address=record.address,
        key_id=record.key_id[:KEY_ID_MAX],
        method=record.method[:16],
        operation=record.operation,
        bucket=record.bucket[:BUCKET_MAX],
        key=record.key[:KEY_MAX],
        status=record.status,
        code=record.code,
        bytes_in=record.bytes_in,
        bytes_out=record.bytes_out,
        duration_ms=round(record.duration_s * 1000, 3),
        user_agent=record.agent[:AGENT_MAX],
    )
    return _ENCODER.encode(line) + b"\n"
