"""Tags: the labels of an object or a bucket, and what S3 allows in them.  Pure

Tags come in a document (`xml_in.py`), in a field of a form, or in the header `x-amz-tagging` as the query of
a URL: `project=blue&owner=ann%20b`.  Those of a header are answered in the order of
their keys, those of a document in the order in which they came.

    an object   10 tags        a key    1 to 128 characters
    a bucket    50 tags        a value  0 to 256 characters

Characters are letters, digits and blanks of all scripts, and `_ . : / = + - @`.  Keys that begin with `aws:`
belong to S3.

Source: the Amazon S3 user guide, "Categorizing your objects using tags".
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Final, TypeAlias
from urllib.parse import unquote_to_bytes

from warehouse.s3.failures import Failure

Tags: TypeAlias = tuple[tuple[str, str], ...]

OBJECT_TAGS_MAX: Final = 10
BUCKET_TAGS_MAX: Final = 50
KEY_LENGTH_MAX: Final = 128
VALUE_LENGTH_MAX: Final = 256
HEADER_SIZE_MAX: Final = 8 * 1024
_PUNCTUATION: Final = frozenset("_.:/=+-@")
_RESERVED: Final = "aws:"


def read_tagging_header(value: bytes) -> Tags:
    """The tags of an object, from the header `x-amz-tagging`.

    Raises:
        Failure: InvalidArgument if it is no query; InvalidTag.
    """
    if len(value) > HEADER_SIZE_MAX:
        raise _bad_header(f"it has {len(value)} bytes, at most {HEADER_SIZE_MAX} are possible")
    pairs = (one.partition(b"=") for one in value.strip().split(b"&") if one)
    return tuple(
        sorted(check_tags(((_decoded(key), _decoded(text)) for key, _, text in pairs), OBJECT_TAGS_MAX))
    )


def check_tags(tags: Iterable[tuple[str, str]], count_max: int) -> Tags:
    """
    Raises:
        Failure: InvalidTag: there are too many, two of one key, or one that S3 does not allow.
    """
    checked: dict[str, str] = {}
    for key, value in tags:
        _check(key, value)
        if key in checked:
            raise _invalid(f"Cannot provide multiple Tags with the same key: {key}", key)
        if len(checked) >= count_max:
            raise _invalid(f"Tags cannot be greater than {count_max}", key)
        checked[key] = value
    return tuple(checked.items())


def _check(key: str, value: str) -> None:
    if not 1 <= len(key) <= KEY_LENGTH_MAX:
        raise _invalid(
            f"The TagKey you have provided has {len(key)} characters, not 1 to {KEY_LENGTH_MAX}", key
        )
    if len(value) > VALUE_LENGTH_MAX:
        raise _invalid(
            f"The TagValue you have provided has {len(value)} characters, at most {VALUE_LENGTH_MAX}", key
        )
    if not all(map(_is_allowed, key)):
        raise _invalid("The TagKey you have provided is invalid: a character is not allowed", key)
    if not all(map(_is_allowed, value)):
        raise _invalid("The TagValue you have provided is invalid: a character is not allowed", key)
    if key.lower().startswith(_RESERVED):
        raise _invalid(f"Keys that begin with {_RESERVED} belong to the system", key)


def _is_allowed(character: str) -> bool:
    return character in _PUNCTUATION or unicodedata.category(character)[0] in "LNZ"


def _decoded(text: bytes) -> str:
    for escape in text.split(b"%")[1:]:
        if not _is_hex(escape[:2]):
            raise _bad_header(f"%{escape[:2].decode('latin-1')} is no escape")
    try:
        return unquote_to_bytes(text.replace(b"+", b" ")).decode()
    except UnicodeDecodeError:
        raise _bad_header("it is not UTF-8") from None


def _is_hex(text: bytes) -> bool:
    return len(text) == 2 and all(digit in b"0123456789abcdefABCDEF" for digit in text)


def _invalid(why: str, key: str) -> Failure:
    return Failure("InvalidTag", why, {"TagKey": key[:KEY_LENGTH_MAX]})


def _bad_header(why: str) -> Failure:
    return Failure(
        "InvalidArgument",
        f"The header x-amz-tagging must be a URL's query, in UTF-8, with each tag once: {why}",
        {"ArgumentName": "x-amz-tagging"},
    )
