"""Messages about finding: objects of a bucket by a part of their name, in order of name, size or time.

Unlike a listing, an answer takes a bounded time whatever has to be looked at: it may have only what was found
so far, and says so.
"""

from __future__ import annotations

from typing import Annotated

from warehouse.transport.messages.base import Message
from warehouse.transport.messages.numbers import Signed, Whole
from warehouse.transport.messages.objects import ObjectInfo
from warehouse.transport.messages.texts import Key, Name, Page, Word


class FindObjects(Message, frozen=True, tag="find_objects"):
    """A page of the objects below a prefix whose names contain a text."""

    bucket: Name
    prefix: Key = ""
    contains: Key = ""  # in what follows the prefix; "A" to "Z" are like "a" to "z"
    order: Word = "name"  # "name" (the keys' UTF-8 bytes), "size", "time"
    is_descending: bool = False
    delimiter: Key | None = None  # keys with it after the prefix are shown as their common prefix
    limit: Signed = 100
    cursor: Key = ""  # of an earlier answer to the same question; "": from the beginning


class ObjectsFound(Message, frozen=True, tag="objects_found"):
    objects: Annotated[list[ObjectInfo], Page]
    # Common prefixes, delimiter included.  In order of size or time, only the first page has any.
    prefixes: Annotated[list[Key], Page]
    cursor: Key  # to go on; "": there is no more
    scanned_count: Whole  # keys that were looked at, for the page since it began
    # False: the time was over.  In order of name, the cursor goes on after these; in order of size or time,
    # it gives this page once more, of more keys.
    is_complete: bool
