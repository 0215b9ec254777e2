"""Chunked coding: a body whose length nobody knew when it began, from bytes to data and back.  Pure

    body      chunk* last trailer* CRLF
    chunk     size extension* CRLF  data  CRLF                   size in hexadecimal digits, not 0
    last      "0"+ extension* CRLF
    extension ";" name ["=" (token | quoted text)]               read over
    trailer   name ":" value CRLF                                read over

Nothing here is read in two ways, because a proxy that reads another length than we do lets its clients hide
requests in a body.  So a line ends in CRLF and holds no other CR or LF, a size has no sign and no blank, and
the grammar's blanks around `;` and `=`, which no client sends, are refused.  A trailer changes nothing: those
that would (Content-Length, Transfer-Encoding) are refused, and the others are thrown away.

What a client may send besides data is bounded: the length of a line, all trailers together, and extensions in
proportion to the data.

Source: RFC 9112, section 7.1; "excess" after CVE-2023-39326.
"""

from __future__ import annotations

import re
from typing import Final

from warehouse.errors import BadRequest, BodyTooLarge

LINE_SIZE_MAX: Final = 256  # of a size with its extensions
TRAILERS_SIZE_MAX: Final = 4096  # of all trailer lines together
SIZE_DIGITS_MAX: Final = 15  # below 2**60, whatever the digits are
FREE_SIZE: Final = 16  # bytes of framing that each chunk may have, besides as many as it has data
EXCESS_MAX: Final = 16 * 1024  # bytes of framing beyond that, in the whole body
LINES_AT_ONCE: Final = 256  # that one call of `decode` reads: less than a millisecond

LAST_CHUNK: Final = b"0\r\n\r\n"

_TOKEN = rb"[!#$%&'*+.^_`|~\w-]+"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_size_line = re.compile(
    rb"([\da-f]{1,%d})(?:;%b(?:=(?:%b|%b))?)*\r\n" % (SIZE_DIGITS_MAX, _TOKEN, _TOKEN, _QUOTED),
    re.ASCII | re.IGNORECASE,
).fullmatch
_trailer = re.compile(rb"(%b):[\t -~\x80-\xff]*\r\n" % _TOKEN, re.ASCII).fullmatch
_FRAMING_NAMES: Final = frozenset({b"content-length", b"transfer-encoding"})


class ChunkedDecoder:
    """Takes the framing off one body.  It is of no use after it has raised.

    Attributes:
        chunk_left: bytes of the current chunk's data that have not come yet.
        is_finished: the body has ended; what follows is not a part of it.
    """

    __slots__ = (
        "_excess",
        "_is_after_data",
        "_is_last",
        "_line",
        "_size",
        "_size_max",
        "chunk_left",
        "is_finished",
    )

    def __init__(self) -> None:
        self.chunk_left = 0
        self.is_finished = False
        self._size = 0  # of all chunks that have begun
        self._size_max: int | None = None
        self._line = b""  # the beginning of a line whose end has not come
        self._excess = 0  # bytes of framing beyond what is free; of trailers, after the last chunk
        self._is_after_data = False  # the CRLF behind a chunk's data comes next
        self._is_last = False  # the last chunk has come: trailers follow

    def limit(self, size_max: int) -> None:
        """Take a body of `size_max` bytes at most, or of fewer if that has been said before.

        Raises:
            BodyTooLarge: the chunks that have begun are larger already.
        """
        self._size_max = size_max if self._size_max is None else min(size_max, self._size_max)
        self._require_size()

    def _require_size(self) -> None:
        if self._size_max is not None and self._size > self._size_max:
            raise BodyTooLarge(
                f"the body has more than {self._size_max} bytes, which is all that is accepted"
            )

    def decode(self, data: bytes, start: int, target: memoryview) -> tuple[int, int]:
        """Copy the body's data out of `data`, from `start` on, into `target`.

        Returns:
            Where to go on in `data`, and how many bytes of `target` are filled.  It stops where either is
            used up, where the body ends, and after `LINES_AT_ONCE` lines.
        Raises:
            BadRequest: this is no chunked coding, or there is more framing than data.
            BodyTooLarge: a chunk begins that would make the body larger than `limit` allows.
        """
        source = memoryview(data)
        filled = line_count = 0
        while start < len(data) and not self.is_finished and line_count < LINES_AT_ONCE:
            if self.chunk_left:
                count = min(self.chunk_left, len(data) - start, len(target) - filled)
                if not count:
                    break
                target[filled : filled + count] = source[start : start + count]
                self.take(count)
                start += count
                filled += count
                continue
            line, start = self._next_line(data, start)
            if line:
                line_count += 1
                self._read_line(line)
        return start, filled

    def take(self, count: int) -> None:
        """Note that `count` bytes of the current chunk's data have been received."""
        self.chunk_left -= count
        self._is_after_data = not self.chunk_left

    def _next_line(self, data: bytes, start: int) -> tuple[bytes, int]:
        """Return the next line, or nothing when its end has not come; and where to go on."""
        size_max = self._line_size_max()
        end = data.find(b"\n", start, start + size_max) + 1
        line = self._line + data[start : end or start + size_max]
        if len(line) > size_max or (not end and (len(line) == size_max or b"\r" in line[:-1])):
            raise self._unreadable(line)
        if not end:
            self._line = line
            return b"", len(data)
        self._line = b""
        return line, end

    def _line_size_max(self) -> int:
        if self._is_after_data:
            return 2
        return TRAILERS_SIZE_MAX if self._is_last else LINE_SIZE_MAX

    def _expected(self) -> str:
        if self._is_after_data:
            return "a line end after the data of a chunk"
        return "a trailer or an empty line" if self._is_last else "a line with the size of a chunk"

    def _read_line(self, line: bytes) -> None:
        if self._is_after_data:
            if line != b"\r\n":
                raise self._unreadable(line)
            self._is_after_data = False
        elif self._is_last:
            self._read_trailer(line)
        else:
            self._read_size(line)

    def _read_size(self, line: bytes) -> None:
        match = _size_line(line)
        if match is None:
            raise self._unreadable(line)
        size = int(match[1], 16)
        if not size:
            self._is_last, self._excess = True, 0
            return
        self._size += size
        self._require_size()
        self.chunk_left = size
        self._excess = max(0, self._excess + len(line) - FREE_SIZE - size)
        if self._excess > EXCESS_MAX:
            raise BadRequest("chunked coding: there is much more framing than data")

    def _read_trailer(self, line: bytes) -> None:
        if line == b"\r\n":
            self.is_finished = True
            return
        match = _trailer(line)
        if match is None or match[1].lower() in _FRAMING_NAMES:
            raise self._unreadable(line)
        self._excess += len(line)
        if self._excess > TRAILERS_SIZE_MAX:
            raise BadRequest(f"chunked coding: the trailers have more than {TRAILERS_SIZE_MAX} bytes")

    def _unreadable(self, line: bytes) -> BadRequest:
        return BadRequest(f"chunked coding: {self._expected()} expected, not {line[:20]!r}")


def chunk_head(size: int) -> bytes:
    """Return the line before a chunk's data, which has at least one byte; CRLF follows it."""
    assert size > 0, "an empty chunk would end the body"
    return b"%x\r\n" % size
