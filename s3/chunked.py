"""Chunked: takes the framing off a body in aws-chunked coding, and checks its signatures.  Pure

    body      chunk* last trailer* CRLF
    chunk     size [";chunk-signature=" signature] CRLF  data  CRLF        size in hexadecimal digits
    last      "0"  [";chunk-signature=" signature] CRLF
    trailer   name ":" value CRLF
              "x-amz-trailer-signature:" signature CRLF                    the last one, of signed chunks

Each signature covers the one before it, and the first covers that of the request, so a chunk can neither be
changed, left out nor moved.  A signature is known before the data that it covers, so the data is hashed as it
comes and handed on at once: a chunk of 1 GiB needs no memory.  Whoever stores the data therefore holds its
last piece back until `finish` has returned.

Nothing here is read in two ways.  A size that lies, a line without its end, a trailer that was not announced,
a byte behind the end: the request is refused, and its connection closes, because what follows is unknown.
Two departures are known and mean nothing else, so they are taken: a client of MinIO ends trailers with a bare
LF, puts an empty line before their signature, and another CRLF at the very end.

Source: the Amazon S3 API reference, "Transferring Payload in Multiple Chunks" and "Signature calculations for
trailing headers (chunked uploads)".
"""

from __future__ import annotations

import enum
import hashlib
import hmac
from typing import Final

import msgspec

from warehouse.s3.checksums import Piece
from warehouse.s3.failures import Failure
from warehouse.s3.payload import Framing, Payload
from warehouse.s3.signing_keys import sign_v4
from warehouse.s3.sigv4 import V4Claim

LINE_SIZE_MAX: Final = 256  # of a size with its signature: 100 are enough; and of a trailer: 120 are
SIZE_DIGITS_MAX: Final = 15  # below 2**60, whatever the digits are
# S3 takes no chunk below 8 KiB but the last.  Clients that never met S3 send what a stream gives them, so
# only the work is bounded here: a chunk costs some microseconds, however small it is.
SMALL_SIZE: Final = 8 * 1024
SMALL_COUNT_MAX: Final = 1000  # and another one for each KiB of the object
_SIGNATURE: Final = b"chunk-signature="
_TRAILER_SIGNATURE: Final = b"x-amz-trailer-signature"
_HEX_DIGITS: Final = b"0123456789abcdefABCDEF"
_EMPTY_SHA256: Final = hashlib.sha256().hexdigest().encode()


class Chain(msgspec.Struct, frozen=True):
    """What the signatures of the chunks begin with: what the request was signed with."""

    signing_key: bytes  # of the day, region and service of the scope
    amz_date: bytes  # 20130524T000000Z
    scope: bytes  # 20130524/us-east-1/s3/aws4_request
    signature: bytes  # of the request, in 64 hexadecimal digits


def chain_of(claim: V4Claim, signing_key: bytes) -> Chain | None:
    """What the chunks of a request begin with; None: it is presigned, and so are no chunks of any client.

    Args:
        signing_key: of the access key, for day and region of the claim's scope.
    """
    if claim.expires_s is not None:
        return None
    return Chain(signing_key, claim.amz_date.encode(), str(claim.scope).encode(), claim.signature.encode())


class _State(enum.Enum):
    SIZE = enum.auto()  # a line with the size of a chunk comes next
    DATA = enum.auto()
    DATA_END = enum.auto()  # the CRLF behind the data
    TRAILERS = enum.auto()  # lines up to an empty one
    END = enum.auto()  # one more CRLF may come behind trailers
    OVER = enum.auto()


class _Signatures:
    """The chain of signatures, from the request to the trailers."""

    __slots__ = ("_chain", "_chunk", "_expected", "_previous")

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._previous = chain.signature
        self._expected = b""
        self._chunk = hashlib.sha256()

    def begin(self, expected: bytes) -> None:
        """A chunk begins that has this signature."""
        self._expected = expected
        self._chunk = hashlib.sha256()

    def update(self, piece: Piece) -> None:
        self._chunk.update(piece)

    def end(self) -> None:
        """The chunk has ended.

        Raises:
            Failure: SignatureDoesNotMatch: it is not what was signed.
        """
        digest = self._chunk.hexdigest().encode()
        self._require(b"AWS4-HMAC-SHA256-PAYLOAD", _EMPTY_SHA256 + b"\n" + digest, self._expected)

    def check_trailers(self, canonical: bytes, expected: bytes) -> None:
        """Raises Failure: SignatureDoesNotMatch: the trailers are not what was signed."""
        digest = hashlib.sha256(canonical).hexdigest().encode()
        self._require(b"AWS4-HMAC-SHA256-TRAILER", digest, expected)

    def _require(self, algorithm: bytes, digests: bytes, expected: bytes) -> None:
        chain = self._chain
        to_sign = b"\n".join((algorithm, chain.amz_date, chain.scope, self._previous, digests))
        signature = sign_v4(chain.signing_key, to_sign).encode()
        if not hmac.compare_digest(signature, expected):
            raise Failure(
                "SignatureDoesNotMatch",
                "The signature of a chunk does not match the one that was calculated.",
                {
                    "StringToSign": to_sign.decode("latin-1"),
                    "SignatureProvided": expected.decode("latin-1"),
                },
                closes=True,
            )
        self._previous = expected


class ChunkedDecoder:
    """Takes the bytes of one framed body as they come, and gives those of the object.

    Raises `Failure` for whatever it cannot read, and is of no use after that.
    """

    def __init__(self, payload: Payload, chain: Chain | None = None) -> None:
        """
        Args:
            chain: as `chain_of` gives it, for signed chunks; None where the request has no Authorization.
        Raises:
            Failure: AccessDenied: the chunks are signed and the request is not.
        """
        if payload.framing is not Framing.SIGNED_CHUNKS:
            self._signatures = None
        elif chain is None:
            raise Failure(
                "AccessDenied", "Signed chunks need a request with an Authorization header.", closes=True
            )
        else:
            self._signatures = _Signatures(chain)
        self._payload = payload
        self._state = _State.SIZE
        self._line = bytearray()  # the beginning of a line whose end has not come
        self._left = 0  # bytes of this chunk that have not come
        self._size = 0  # bytes of the object up to the end of this chunk
        self._small_count = 0  # of chunks below `SMALL_SIZE`
        self._trailers: dict[bytes, bytes] = {}
        self._is_trailer_signed = False
        self._has_empty_line = False  # before the signature of the trailers

    def feed(self, data: Piece) -> list[memoryview]:
        """Take the next bytes of the body; return those of the object, as views into `data`.

        Raises:
            Failure: InvalidRequest, IncompleteBody, MalformedTrailerError, SignatureDoesNotMatch.
        """
        pieces: list[memoryview] = []
        view = memoryview(data)
        position = 0
        while position < len(view):
            if self._state is _State.DATA:
                piece = view[position : position + self._left]
                self._take(piece)
                pieces.append(piece)
                position += len(piece)
            else:
                position = self._read_line(view, position)
        return pieces

    def finish(self) -> dict[bytes, bytes]:
        """The body is over; return the trailers by their names in lower case.

        Raises:
            Failure: IncompleteBody: the body was cut, or the object has another length than the headers say.
                MalformedTrailerError: the trailer that the headers name did not come.
        """
        if self._state not in (_State.END, _State.OVER) or self._line:
            raise Failure("IncompleteBody", "The body ends before its last chunk does.", closes=True)
        trailer = self._payload.trailer
        if trailer is not None and trailer.header not in self._trailers:
            raise Failure("MalformedTrailerError", f"The trailer {trailer.header.decode()} did not come.")
        return self._trailers

    # --- data ---

    def _take(self, piece: memoryview) -> None:
        if self._signatures is not None:
            self._signatures.update(piece)
        self._left -= len(piece)
        if self._left == 0:
            if self._signatures is not None:
                self._signatures.end()
            self._state = _State.DATA_END

    # --- lines ---

    def _read_line(self, view: memoryview, position: int) -> int:
        """Take a line or its beginning; return where the next bytes are."""
        room = LINE_SIZE_MAX - len(self._line)
        found = bytes(view[position : position + room])
        end = found.find(b"\n") + 1
        if end == 0:
            if len(found) == room:
                raise _malformed(f"A line of the framing is longer than {LINE_SIZE_MAX} bytes.")
            self._line += found
            return position + len(found)
        line = found[:end]
        if self._line:
            line = bytes(self._line) + line
            self._line.clear()
        self._read(line)
        return position + end

    def _read(self, line: bytes) -> None:
        match self._state:
            case _State.SIZE:
                self._read_size(_without_end(line))
            case _State.DATA_END:
                if line != b"\r\n":
                    raise _malformed("The data of a chunk is longer than its size.")
                self._state = _State.SIZE
            case _State.TRAILERS:
                self._read_trailer(line)
            case _State.END if line == b"\r\n":
                self._state = _State.OVER
            case _:
                raise _malformed("There are bytes behind the end of the body.")

    def _read_size(self, line: bytes) -> None:
        digits, semicolon, extension = line.partition(b";")
        if not digits or len(digits) > SIZE_DIGITS_MAX or digits.strip(_HEX_DIGITS):
            raise _malformed(f"The size of a chunk must be hexadecimal digits, not {_shown(digits)}.")
        size = int(digits, 16)
        self._size += size
        length = self._payload.length
        if length is not None and (self._size > length if size else self._size != length):
            raise Failure(
                "IncompleteBody",
                f"x-amz-decoded-content-length is {length}, and the chunks"
                f" {'reach up to' if size else 'have'} {self._size} bytes.",
                closes=True,
            )
        if size < SMALL_SIZE:
            self._count_small(size)
        if self._signatures is not None:
            if not extension.startswith(_SIGNATURE):
                raise _malformed("The size of a signed chunk needs ;chunk-signature= behind it.")
            self._signatures.begin(extension.removeprefix(_SIGNATURE))
        elif semicolon:
            raise _malformed(f"The headers announce no signed chunks, and one has {_shown(extension)}.")
        self._left = size
        self._state = _State.DATA
        if size == 0:
            if self._signatures is not None:
                self._signatures.end()
            self._state = _State.TRAILERS

    def _count_small(self, size: int) -> None:
        self._small_count += 1
        if self._small_count > SMALL_COUNT_MAX + self._size // 1024:
            raise Failure(
                "InvalidChunkSizeError",
                f"So many chunks of less than {SMALL_SIZE} bytes must have a KiB on average.",
                {"Chunk": str(self._small_count), "BadChunkSize": str(size)},
                closes=True,
            )

    # --- trailers ---

    def _read_trailer(self, line: bytes) -> None:
        if line == b"\r\n":
            self._end_trailers()
            return
        name, colon, value = line.partition(b":")
        name, value = name.lower(), value.strip()
        if not self._payload.may_have_trailers:
            raise _malformed("The headers announce no trailers, and one came.")
        if not colon:
            raise _bad_trailer(f"A trailer must be a name, a colon and a value, not {_shown(line)}.")
        if self._is_trailer_signed:
            raise _bad_trailer(f"The trailer {_shown(name)} stands behind the signature of the trailers.")
        if name == _TRAILER_SIGNATURE and self._signatures is not None:
            canonical = b"".join(b"%b:%b\n" % trailer for trailer in self._trailers.items())
            self._signatures.check_trailers(canonical, value)
            self._is_trailer_signed = True
        else:
            self._keep_trailer(name, value)

    def _keep_trailer(self, name: bytes, value: bytes) -> None:
        trailer = self._payload.trailer
        if trailer is None or name != trailer.header:
            raise _bad_trailer(f"The trailer {_shown(name)} came, and x-amz-trailer does not name it.")
        if name in self._trailers:
            raise _bad_trailer(f"The trailer {_shown(name)} came twice.")
        self._trailers[name] = value

    def _end_trailers(self) -> None:
        if not self._payload.may_have_trailers:
            self._state = _State.OVER
        elif self._signatures is None or self._is_trailer_signed:
            self._state = _State.END
        elif self._trailers and not self._has_empty_line:
            self._has_empty_line = True
        else:
            raise _bad_trailer("The signature of the trailers, x-amz-trailer-signature, did not come.")


def _without_end(line: bytes) -> bytes:
    if not line.endswith(b"\r\n"):
        raise _malformed("A line of the framing must end with CR and LF.")
    return line[:-2]


def _malformed(message: str) -> Failure:
    return Failure("InvalidRequest", message, closes=True)


def _bad_trailer(message: str) -> Failure:
    return Failure("MalformedTrailerError", message, closes=True)


def _shown(text: bytes) -> str:
    return ascii(text[:60].decode("latin-1"))
