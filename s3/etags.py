"""ETags: how S3 names the bytes of an object, and whether a condition names them too.  Pure

    MD5 of the bytes, 32 hex digits       an object that came in one piece
    MD5 of the parts' MD5s, "-", count    an object that came in parts
    anything else                         opaque; the library's own ETags hold dashes, so that no client
                                          takes them for an MD5

Inside the store an ETag has no quotes; in headers and documents it has.  Conditions may leave them out, as
many clients do.

Source: the Amazon S3 API reference, "Object"; RFC 9110, sections 8.8.3 and 13.1.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from warehouse.s3.failures import Failure

TAG_COUNT_MAX: Final = 100  # no honest condition names more


def plain_etag(md5: bytes) -> str:
    """The ETag of an object that came in one piece."""
    return md5.hex()


def multipart_etag(md5s: Iterable[bytes]) -> str:
    """The ETag of an object that came in parts, out of the MD5 of each part in order."""
    digest, count = hashlib.md5(usedforsecurity=False), 0
    for md5 in md5s:
        digest.update(md5)
        count += 1
    return f"{digest.hexdigest()}-{count}"


def quoted(etag: str) -> str:
    return f'"{etag}"'


def unquoted(text: str) -> str:
    """An ETag as the store has it, of a list of parts for example: with or without quotes.

    Hexadecimal digits are taken in either case, because some clients write them in capitals.
    """
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1]
    lower = text.lower()
    return lower if _is_md5(lower.partition("-")[0]) else text


def _is_md5(text: str) -> bool:
    return len(text) == 32 and not text.strip("0123456789abcdef")


class Tags(NamedTuple):
    """The ETags that an If-Match or If-None-Match names."""

    is_any: bool  # "*": whatever the object has
    strong: frozenset[str]
    weak: frozenset[str]

    def match(self, etag: str | None) -> bool:
        """Whether the object has one of these ETags, byte for byte; None: there is no object.

        This is the comparison of If-Match: a weak ETag says only that the content means the same.
        """
        return etag is not None and (self.is_any or etag in self.strong)

    def match_weakly(self, etag: str | None) -> bool:
        """The comparison of If-None-Match."""
        return etag is not None and (self.is_any or etag in self.strong or etag in self.weak)


# W/"tag", or the tag alone; a comma or the end behind it.
_MEMBER: Final = re.compile(r'[ \t,]*(W/)?(?:"([^"]*)"|([^",\s]+))[ \t]*(?=,|$)')


def parse_tags(value: bytes) -> Tags:
    """Read the value of an If-Match or If-None-Match, or of their siblings for copies.

    Raises:
        Failure: InvalidArgument: it names no ETag, too many, or a quote is missing.  To ignore such a
            condition would be worse: it guards something.
    """
    text = value.decode("latin-1").rstrip(" \t,")
    is_any = False
    tags: dict[bool, set[str]] = {False: set(), True: set()}  # by whether they are weak
    position = count = 0
    while position < len(text):
        member = _MEMBER.match(text, position)
        if member is None:
            raise _unreadable(text)
        if member[0].strip(" \t,") == "*":
            is_any = True
        else:
            tags[member[1] is not None].add(unquoted(member[3] if member[2] is None else member[2]))
        position = member.end()
        count += 1
    if not 1 <= count <= TAG_COUNT_MAX:
        raise _unreadable(text)
    return Tags(is_any, frozenset(tags[False]), frozenset(tags[True]))


def _unreadable(text: str) -> Failure:
    return Failure(
        "InvalidArgument", f"A condition is * or at most {TAG_COUNT_MAX} ETags in quotes, not {text[:100]!a}."
    )
