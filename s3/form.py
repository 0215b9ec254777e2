"""Form: an object that a browser sends as multipart/form-data, field by field and then the file.  Pure

    body    "--" boundary CRLF  part  *(CRLF "--" boundary CRLF  part)  CRLF "--" boundary "--" CRLF
    part    header lines, an empty line, a value

Fields are few and small, so they are kept; the file is handed on as it comes.  Which part is the file its
name says, "file", and not that it has a file name: some clients give one to every part.  Fields behind the
file are dropped, as S3 does, because their values come too late for the policy.  A second file is refused.

In every field but those of the signature, `${filename}` stands for the name of the file.

Nothing is read in two ways: a field that comes twice, a part without a name, a transfer encoding or bytes
behind the end are refused, and the connection closes, because nobody knows what the rest is.

Source: RFC 7578; the HTML standard, "Multipart form data"; the Amazon S3 API reference, "POST Object".
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec

from warehouse.s3.checksums import Piece
from warehouse.s3.failures import Failure

FIELDS_SIZE_MAX: Final = 20 * 1024  # bytes before the file, and as many behind it: the bound of S3
FIELD_COUNT_MAX: Final = 100
_FILE: Final = "file"
_FILE_NAME: Final = "${filename}"

# What was signed says what it says: a file's name has no place in it.  Nor is it a header of the object.
_OF_THE_SIGNATURE: Final = frozenset(
    (
        "awsaccesskeyid",
        "policy",
        "signature",
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-security-token",
        "x-amz-signature",
    )
)
# Fields that mean what a header means in a PUT, besides all that begin with "x-amz-".
_AS_HEADERS: Final = {
    "acl": b"x-amz-acl",
    "cache-control": b"cache-control",
    "content-disposition": b"content-disposition",
    "content-encoding": b"content-encoding",
    "content-language": b"content-language",
    "content-md5": b"content-md5",
    "content-type": b"content-type",
    "expires": b"expires",
}

_MULTIPART: Final = b"multipart/form-data"
_BOUNDARY: Final = re.compile(rb"[\w'()+,./:=? -]{0,69}[\w'()+,./:=?-]", re.ASCII)  # RFC 2046, 5.1.1
_PARAMETER: Final = re.compile(
    rb"[ \t]*;[ \t]*([\w!#$%&'*+.^`|~-]+)=(?:\"((?:[^\"\\]|\\.)*)\"|([^\";\s]*))", re.ASCII | re.DOTALL
)
_PLAIN_CODINGS: Final = frozenset((b"7bit", b"8bit", b"binary"))
_HEADER_NAME: Final = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Form(msgspec.Struct, frozen=True):
    """What a form says before its file."""

    fields: Mapping[str, str]  # by their names in lower case
    file_name: str  # without folders; "": it has none

    def headers(self) -> dict[bytes, bytes]:
        """The fields that mean what headers mean, as if the object had come by PUT.

        Raises:
            Failure: InvalidArgument: a name or value cannot stand in the head of an answer.
        """
        found: dict[bytes, bytes] = {}
        for name, value in self.fields.items():
            header = _header_of(name)
            if header is not None:
                # No head of a request can hold these, so nobody looks for them later.
                if _HEADER_NAME.fullmatch(name) is None or _CONTROL.search(value) is not None:
                    raise Failure(
                        "InvalidArgument",
                        f"The field {name[:60]!a} of the form cannot be a header.",
                        {"ArgumentName": name[:60]},
                    )
                found[header] = value.strip(" \t").encode()
        return found


def _header_of(name: str) -> bytes | None:
    if name.startswith("x-amz-") and name not in _OF_THE_SIGNATURE:
        return name.encode()
    return _AS_HEADERS.get(name)


class _State(enum.Enum):
    START = enum.auto()  # the first boundary comes next
    BOUNDARY = enum.auto()  # one has come, and what follows it says whether it was the last
    HEADERS = enum.auto()
    FIELD = enum.auto()
    FILE = enum.auto()
    SKIPPED = enum.auto()  # a field behind the file
    END = enum.auto()


class FormDecoder:
    """Takes the bytes of one form as they come, and gives those of its file.

    `form` is there as soon as the file begins: whoever stores the file asks it first.  Raises `Failure` for
    whatever it cannot read, and is of no use after that.
    """

    def __init__(self, content_type: bytes) -> None:
        """
        Raises:
            Failure: MalformedPOSTRequest: the Content-Type names no boundary.
        """
        self.form: Form | None = None
        self._delimiter = b"\r\n--" + boundary_of(content_type)
        self._state = _State.START
        self._held = b"\r\n"  # what came and is not read; no line stands before the first boundary
        self._room = FIELDS_SIZE_MAX
        self._fields: dict[str, str] = {}
        self._name = ""  # of the field that is read
        # Each takes a buffer and a position, and returns how many bytes it has read; 0: it needs more.
        self._readers: dict[_State, Callable[[bytes, int], int]] = {
            _State.START: self._read_start,
            _State.BOUNDARY: self._read_boundary,
            _State.HEADERS: self._read_headers,
            _State.FIELD: self._read_field,
            _State.SKIPPED: self._read_skipped,
            _State.END: self._read_end,
        }

    def feed(self, data: Piece) -> list[memoryview]:
        """Take the next bytes of the body; return those of the file.

        Raises:
            Failure: MalformedPOSTRequest, MaxPostPreDataLengthExceededError, InvalidArgument,
                IncorrectNumberOfFilesInPostRequest.
        """
        buffer = self._held + bytes(data)
        pieces: list[memoryview] = []
        position = 0
        while position < len(buffer):
            if self._state is _State.FILE:
                end, used = self._read_file(buffer, position)
                if end > position:
                    pieces.append(memoryview(buffer)[position:end])
            else:
                used = self._readers[self._state](buffer, position)
                self._room -= used
            if used == 0:
                break
            position += used
        self._held = buffer[position:]
        return pieces

    def finish(self) -> None:
        """The body is over.

        Raises:
            Failure: MalformedPOSTRequest: its end is missing.  IncorrectNumberOfFilesInPostRequest: it has no
                file.
        """
        if self._state is not _State.END:
            raise _malformed("it ends before its last boundary")
        if self.form is None:
            raise _not_one_file()

    # --- the file ---

    def _read_file(self, buffer: bytes, position: int) -> tuple[int, int]:
        """Return where the bytes of the file end, and how many bytes are read."""
        delimiter = self._delimiter
        found = buffer.find(delimiter, position)
        if found >= 0:
            self._state = _State.BOUNDARY
            self._room = FIELDS_SIZE_MAX
            return found, found - position + len(delimiter)
        # The last bytes may be the beginning of a delimiter, which has one CR, at its start.
        tail = buffer.rfind(b"\r", max(position, len(buffer) - len(delimiter) + 1))
        end = tail if tail >= 0 and delimiter.startswith(buffer[tail:]) else len(buffer)
        return end, end - position

    # --- all around it ---

    def _find(self, mark: bytes, buffer: bytes, position: int) -> int:
        """Where the mark is; -1: it has not come.  What lies before it is kept or dropped, so bound it.

        Raises:
            Failure: MaxPostPreDataLengthExceededError.
        """
        found = buffer.find(mark, position)
        self._require_room((len(buffer) if found < 0 else found) - position)
        return found

    def _require_room(self, size: int) -> None:
        if size > self._room:
            raise Failure(
                "MaxPostPreDataLengthExceededError",
                f"The fields of a form, without its file, have at most {FIELDS_SIZE_MAX} bytes.",
                closes=True,
            )

    def _read_start(self, buffer: bytes, position: int) -> int:
        first = buffer[position : position + len(self._delimiter)]
        if not self._delimiter.startswith(first):
            raise _malformed("it does not begin with its boundary")
        if len(first) < len(self._delimiter):
            return 0
        self._state = _State.BOUNDARY
        return len(first)

    def _read_boundary(self, buffer: bytes, position: int) -> int:
        behind = buffer[position : position + 2]
        if behind == b"\r\n":
            self._state = _State.HEADERS
        elif behind == b"--":
            self._state = _State.END
        elif len(behind) == 2:
            raise _malformed("something other than CRLF or -- follows a boundary")
        else:
            return 0
        return 2

    def _read_headers(self, buffer: bytes, position: int) -> int:
        end = self._find(b"\r\n\r\n", buffer, position)
        if end < 0:
            return 0
        self._begin(_part_of(buffer[position:end]))
        return end + 4 - position

    def _begin(self, part: _Part) -> None:
        name = part.name.lower()
        if self.form is not None:
            if name == _FILE:
                raise _not_one_file(closes=True)
            self._state = _State.SKIPPED
        elif name == _FILE:
            self.form = Form(_substituted(self._fields, part.file_name), part.file_name)
            self._state = _State.FILE
        elif name in self._fields or len(self._fields) == FIELD_COUNT_MAX:
            raise _malformed(f"the field {name[:60]!a} comes twice, or is one of too many")
        else:
            self._name = name
            self._state = _State.FIELD

    def _read_field(self, buffer: bytes, position: int) -> int:
        end = self._find(self._delimiter, buffer, position)
        if end < 0:
            return 0
        self._fields[self._name] = _text_of(buffer[position:end])
        self._state = _State.BOUNDARY
        return end - position + len(self._delimiter)

    def _read_skipped(self, buffer: bytes, position: int) -> int:
        end = self._find(self._delimiter, buffer, position)
        if end < 0:
            return 0
        self._state = _State.BOUNDARY
        return end - position + len(self._delimiter)

    def _read_end(self, buffer: bytes, position: int) -> int:
        self._require_room(len(buffer) - position)
        if buffer[position:].strip(b"\r\n"):
            raise _malformed("there are bytes behind its last boundary")
        return len(buffer) - position


# --- heads ----------------------------------------------------------------------------------------


class _Part(NamedTuple):
    name: str
    file_name: str


def boundary_of(content_type: bytes) -> bytes:
    """The boundary that a Content-Type of multipart/form-data names.

    Raises:
        Failure: MalformedPOSTRequest: there is none.
    """
    kind, parameters = content_type[: len(_MULTIPART)], content_type[len(_MULTIPART) :]
    boundary = _parameters_of(parameters).get(b"boundary", b"")
    if kind.lower() != _MULTIPART or _BOUNDARY.fullmatch(boundary) is None:
        raise _malformed("its Content-Type must be multipart/form-data with a boundary")
    return boundary


def _parameters_of(text: bytes) -> dict[bytes, bytes]:
    """Read `; name=value; name="value"`."""
    found: dict[bytes, bytes] = {}
    position = 0
    text = text.rstrip(b" \t")
    while position < len(text):
        parameter = _PARAMETER.match(text, position)
        if parameter is None or parameter[1].lower() in found:
            raise _malformed("parameters of a header cannot be read")
        # Browsers escape a quote as %22 and nothing else, also not a backslash; other clients write \".
        quoted, plain = parameter[2], parameter[3]
        found[parameter[1].lower()] = plain if quoted is None else quoted.replace(b'\\"', b'"')
        position = parameter.end()
    return found


def _part_of(head: bytes) -> _Part:
    headers: dict[bytes, bytes] = {}
    for line in head.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        name = name.lower()
        if not colon or name in headers or b"\n" in line or b"\r" in line:
            raise _malformed("the headers of a part cannot be read")
        headers[name] = value.strip(b" \t")
    kind, semicolon, parameters = headers.get(b"content-disposition", b"").partition(b";")
    values = _parameters_of(semicolon + parameters)
    if kind.strip().lower() != b"form-data" or b"name" not in values:
        raise _malformed("a part must have the Content-Disposition form-data and a name")
    if headers.get(b"content-transfer-encoding", b"binary").lower() not in _PLAIN_CODINGS:
        raise _malformed("a part has a Content-Transfer-Encoding")
    return _Part(_unescaped(values[b"name"]), _file_name_of(values))


def _file_name_of(values: Mapping[bytes, bytes]) -> str:
    """The name of a file without the folders that some browsers put before it."""
    name = _unescaped(values.get(b"filename", b""))
    extended = values.get(b"filename*", b"").partition(b"''")  # RFC 5987; older clients write it
    if extended[0].lower() == b"utf-8" and not name:
        name = _text_of(unquote_to_bytes(extended[2]))
    return re.split(r"[/\\]", name)[-1]


def _unescaped(text: bytes) -> str:
    return _text_of(text).replace("%22", '"')


def _text_of(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise _malformed("a field is not UTF-8") from None


def _substituted(fields: Mapping[str, str], file_name: str) -> dict[str, str]:
    return {
        name: value if name in _OF_THE_SIGNATURE else value.replace(_FILE_NAME, file_name)
        for name, value in fields.items()
    }


def _malformed(why: str) -> Failure:
    return Failure(
        "MalformedPOSTRequest",
        f"The body of your POST request is not well-formed multipart/form-data: {why}.",
        closes=True,
    )


def _not_one_file(*, closes: bool = False) -> Failure:
    return Failure(
        "IncorrectNumberOfFilesInPostRequest",
        "POST requires exactly one file upload per request.",
        closes=closes,
    )
