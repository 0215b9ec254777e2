"""Headers: a key, a type and user metadata as headers of a request to a volume actor.

    X-Warehouse-Key        the key's UTF-8, percent-encoded
    X-Warehouse-Metadata   name=value pairs, form-encoded; absent without metadata
    X-Warehouse-CRC32C     8 hexadecimal digits, of the whole body
    If-Match, If-None-Match   an ETag in quotes, or *

Pure: values in, values out.  Wrong arguments are refused here, before anything is sent.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Self
from urllib.parse import quote, urlencode

import msgspec

from warehouse.errors import BadKey, BadMetadata, BadRequest, StoreError, Unavailable, from_code
from warehouse.transport.http.conditions import CONDITION_SIZE_MAX, check_etag_condition, parse_field
from warehouse.transport.http.header_text import check_content_type
from warehouse.transport.messages import KEY_SIZE_MAX, METADATA_SIZE_MAX
from warehouse.transport.messages.attributes import ObjectAttributes, encode_attributes

Header = tuple[str, str]

DEFAULT_CONTENT_TYPE = "application/octet-stream"
FAILURE_SIZE_MAX = 64 * 1024  # of an answer that describes a failure

# Python's own table without the one in /etc, so that a name has the same type on every machine.
_types = mimetypes.MimeTypes()
_TYPES = {
    "7z": "application/x-7z-compressed",
    "arrow": "application/vnd.apache.arrow.file",
    "avif": "image/avif",
    "flac": "audio/flac",
    "geojson": "application/geo+json",
    "heic": "image/heic",
    "heif": "image/heif",
    "ipynb": "application/x-ipynb+json",
    "jsonl": "application/jsonl",
    "jxl": "image/jxl",
    "log": "text/plain",
    "markdown": "text/markdown",
    "md": "text/markdown",
    "mkv": "video/x-matroska",
    "ndjson": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "rst": "text/x-rst",
    "toml": "application/toml",
    "wasm": "application/wasm",
    "webp": "image/webp",
    "woff": "font/woff",
    "woff2": "font/woff2",
    "yaml": "application/yaml",
    "yml": "application/yaml",
    "zst": "application/zstd",
}
for _ending, _type in _TYPES.items():  # newer than that table, or left out of it
    _types.add_type(_type, f".{_ending}")
_ENCODED_TYPES = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "compress": "application/x-compress",
    "br": "application/x-brotli",
}


def key_size(key: str) -> int:
    """The size of a valid key in bytes.

    Raises:
        BadKey: not text, empty, longer than 1024 bytes of UTF-8, or not valid UTF-8 (a lone surrogate).
    """
    if not isinstance(key, str):
        raise BadKey(f"a key must be a str, not {type(key).__name__}: {key!r:.100}")
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise BadKey(
            f"a key must be text that UTF-8 can encode; character {error.start} of {key!r} cannot"
        ) from None
    if not 1 <= size <= KEY_SIZE_MAX:
        raise BadKey(f"a key must have 1 to {KEY_SIZE_MAX} bytes of UTF-8, this one has {size}")
    return size


def guess_content_type(key: str) -> str:
    """The content type that a key's ending suggests."""
    _, dot, ending = key.rpartition(".")
    return _type_of_ending(ending) if dot and "/" not in ending else DEFAULT_CONTENT_TYPE


@lru_cache(maxsize=1024)
def _type_of_ending(ending: str) -> str:
    content_type, encoding = _types.guess_type(f"name.{ending.lower()}", strict=False)
    if encoding is not None:  # "a.csv.gz" is gzip, not CSV: nobody unpacks it
        return _ENCODED_TYPES.get(encoding, DEFAULT_CONTENT_TYPE)
    return content_type or DEFAULT_CONTENT_TYPE


def check_metadata(metadata: Mapping[str, str]) -> int:
    """The size of user metadata in bytes, names and values together."""
    try:
        size = sum(len(name.encode()) + len(value.encode()) for name, value in metadata.items())
    except (UnicodeEncodeError, AttributeError):
        raise BadMetadata("user metadata must map text to text that UTF-8 can encode") from None
    if size > METADATA_SIZE_MAX:
        raise BadMetadata(f"user metadata must have at most {METADATA_SIZE_MAX} bytes, this has {size}")
    if "" in metadata:
        raise BadMetadata("a metadata name must have at least one character")
    return size


class PutOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a put says about an object besides its bytes; already checked."""

    content_type: str  # "": none, of what is no object
    metadata: Mapping[str, str]
    if_match: str | None
    if_none_match: str | None
    names_size: int  # bytes of key, content type, metadata and attributes
    attributes: bytes = b""  # encoded
    etag: str | None = None  # that the attributes give the object; None: it follows from its needle
    later: Callable[[], ObjectAttributes] | None = None  # the attributes, known when all bytes have passed
    amends: tuple[int, int] | None = None  # the version whose attributes are replaced: its first needle

    @property
    def has_attributes(self) -> bool:
        """Whether the needle needs a volume of format 2, and cannot be described by HTTP headers."""
        return bool(self.attributes) or self.later is not None or self.amends is not None

    def settled(self) -> Self:
        """The same, with the attributes that are known now that all bytes have passed.

        Raises:
            BadMetadata: they are too long.
        """
        return self if self.later is None else self.with_attributes(self.later())

    def with_attributes(self, attributes: ObjectAttributes) -> Self:
        encoded = encode_attributes(attributes)
        return msgspec.structs.replace(
            self,
            attributes=encoded,
            etag=attributes.etag,
            later=None,
            names_size=self.names_size - len(self.attributes) + len(encoded),
        )


GivenAttributes = ObjectAttributes | Callable[[], ObjectAttributes]


def put_options(
    key: str,
    content_type: str | None,
    metadata: Mapping[str, str] | None,
    if_match: str | None,
    if_none_match: str | None,
    attributes: GivenAttributes | None = None,
) -> PutOptions:
    """The options of a put, checked before anything is sent."""
    plain = str.__str__  # msgpack refuses subclasses of str, and would refuse the whole batch
    names_size = key_size(key)
    if content_type is None:
        content_type = guess_content_type(key)
    else:
        check_content_type(content_type)
    names_size += len(content_type)
    if metadata:
        names_size += check_metadata(metadata)
    options = PutOptions(
        content_type=plain(content_type),
        metadata={plain(name): plain(value) for name, value in metadata.items()} if metadata else {},
        if_match=check_condition(if_match),
        if_none_match=check_condition(if_none_match),
        names_size=names_size,
        later=None if isinstance(attributes, ObjectAttributes) else attributes,
    )
    return options.with_attributes(attributes) if isinstance(attributes, ObjectAttributes) else options


def amend_options(etag: str, place: tuple[int, int], attributes: ObjectAttributes) -> PutOptions:
    """The options of a needle that replaces the attributes of one version.

    Args:
        etag: of that version, which has to be the present one.
        place: of its first needle: volume and needle.
    """
    options = PutOptions(
        content_type="",
        metadata={},
        if_match=check_condition(etag),
        if_none_match=None,
        names_size=KEY_SIZE_MAX,
        amends=place,
    )
    return options.with_attributes(attributes)


def put_headers(key: str, options: PutOptions) -> list[Header]:
    """The headers of a put of one needle, without token and CRC."""
    headers = [("X-Warehouse-Key", quote(key)), ("Content-Type", options.content_type)]
    if options.metadata:
        headers.append(("X-Warehouse-Metadata", urlencode(options.metadata)))
    if options.if_match is not None:
        headers.append(("If-Match", _condition(options.if_match)))
    if options.if_none_match is not None:
        headers.append(("If-None-Match", _condition(options.if_none_match)))
    return headers


class Condition(str):
    """A condition of a caller that has read it, as a gateway has: also several ETags, weak ones, or none."""

    __slots__ = ()


def check_condition(etag: str | None) -> str | None:
    """One ETag or "*", as messages carry it; users may paste an ETag with its quotes."""
    if etag is None or isinstance(etag, Condition):
        return check_etag_condition(etag)
    if not isinstance(etag, str):
        raise BadRequest(f"a condition must be a str, not {type(etag).__name__}")
    if len(etag) <= CONDITION_SIZE_MAX:
        tags = parse_field(etag)
        if not tags.is_any and (len(tags.strong) != 1 or tags.weak or not tags.strong[0]):
            raise BadRequest(f"a condition must be one ETag or '*', not {etag!r:.100}")
    return check_etag_condition(etag)


def _condition(etag: str) -> str:
    return etag if etag == "*" or '"' in etag else f'"{etag}"'


# --- answers --------------------------------------------------------------------------------------


class PutAnswer(msgspec.Struct, frozen=True):
    etag: str
    created_ms: int


class _Failure(msgspec.Struct):
    code: str
    message: str = ""
    retry_after_s: float = 0.0


_decode_put = msgspec.json.Decoder(PutAnswer).decode
_decode_failure = msgspec.json.Decoder(_Failure).decode


def read_put_answer(body: bytes) -> PutAnswer:
    try:
        return _decode_put(body)
    except msgspec.DecodeError as error:
        raise Unavailable(f"the answer to a put must be JSON with an etag, this was {body[:80]!r}") from error


def read_failure(status: int, body: bytes) -> StoreError:
    """The error that a volume actor named.  A proxy on the way may answer instead; the error says so."""
    try:
        failure = _decode_failure(body)
    except msgspec.DecodeError:
        kind = BadRequest if 400 <= status < 500 else Unavailable
        return kind(f"HTTP status {status} from something that is not a volume actor: {body[:80]!r}")
    return from_code(failure.code, failure.message, failure.retry_after_s)


def crc_of_etag(etag: str) -> int | None:
    """The CRC-32C in a needle's ETag, which is its third part."""
    parts = etag.split("-")
    try:
        return int(parts[2], 16)
    except (IndexError, ValueError):
        return None
