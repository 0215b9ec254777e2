"""Messages about buckets and objects: between clients and the master, and chunk lists for volume actors.

`BucketInfo`, `ObjectInfo` and `ObjectWritten` are public: programs hold them (`warehouse.ObjectInfo`).
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from warehouse.transport.messages.base import Message
from warehouse.transport.messages.numbers import Id32, Signed, Whole
from warehouse.transport.messages.texts import (
    All,
    Attributes,
    Chunks,
    Condition,
    Config,
    ETag,
    HeaderLine,
    Key,
    LongUrl,
    Many,
    MediaType,
    Metadata,
    Name,
    Page,
    Sentence,
    Token,
    Url,
    Word,
)


class BucketInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A bucket, and the sums over its objects."""

    name: Name
    created_ms: Whole
    object_count: Whole
    byte_count: Whole
    is_counted: bool = True  # False: this key may not list the whole bucket, and is not told the sums
    quota_objects: Whole | None = None  # None: any number, like the next one
    quota_bytes: Whole | None = None
    owner_id: Name = ""  # of the account that it belongs to
    region: Word = ""  # that it was created in; "": nobody said

    @property
    def is_over_quota(self) -> bool:
        """Does it hold more than it may?  Then it takes only what does not make it grow."""
        objects, size = self.quota_objects, self.quota_bytes
        return (objects is not None and self.object_count > objects) or (
            size is not None and self.byte_count > size
        )


class CreateBucket(Message, frozen=True, tag="create_bucket"):
    bucket: Name
    region: Word = ""


class DeleteBucket(Message, frozen=True, tag="delete_bucket"):
    """Refused for a bucket that holds objects, unless forced."""

    bucket: Name
    force: bool = False


class StatBucket(Message, frozen=True, tag="stat_bucket"):
    bucket: Name


class SetQuota(Message, frozen=True, tag="set_quota"):
    """How much a bucket may hold from now on; what is not set stays as it is."""

    bucket: Name
    sets_objects: bool = False
    quota_objects: Whole | None = None  # None: any number
    sets_bytes: bool = False
    quota_bytes: Whole | None = None


CONFIGS_SIZE_MAX = 60 * 1024  # bytes of all documents of one bucket, so that a record of a volume holds them
CONFIGS_COUNT_MAX = 16
CORS_CONFIG, TAGGING_CONFIG = "cors", "tagging"
BUCKET_CONFIG_KINDS = frozenset((CORS_CONFIG, TAGGING_CONFIG))  # what a client may put


class SetBucketConfig(Message, frozen=True, tag="set_bucket_config"):
    """Have a bucket behave as a document says, which the store keeps and does not read."""

    bucket: Name
    config: Word  # one of BUCKET_CONFIG_KINDS
    document: Config = b""  # empty: as if there had never been one


class ReadBucketConfig(Message, frozen=True, tag="read_bucket_config"):
    bucket: Name
    config: Word  # one of BUCKET_CONFIG_KINDS


class BucketConfigFound(Message, frozen=True, tag="bucket_config_found"):
    document: Config = b""  # empty: there is none


class BucketFound(Message, frozen=True, tag="bucket_found"):
    bucket: BucketInfo


class ListBuckets(Message, frozen=True, tag="list_buckets"):
    """Buckets that the asker may see, by name."""

    after: Name = ""  # only names greater than this one
    limit: Signed = 0  # 0: all of them in one answer, refused if it is too long


class Buckets(Message, frozen=True, tag="buckets"):
    buckets: Annotated[list[BucketInfo], All]
    next_after: Name = ""  # pass as `after` for the next page; "": this was the last


class Chunk(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where one piece of an object's bytes is, and what they must add up to."""

    volume_id: Id32
    needle_id: Id32
    size: Whole
    crc: Id32


# Values that refer to no others, a thousand in a page: the collector need not look at them.
class ObjectInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What is known about an object, without its bytes."""

    key: Key
    size: Whole
    etag: ETag
    created_ms: Whole
    content_type: MediaType | None = None
    metadata: Metadata = {}
    chunk_count: Whole = 1
    # Filled by Locate, and by List with locations for objects of one chunk.
    chunks: Annotated[list[Chunk], All] = []
    owner_id: Name = ""  # of an account; "": of the owner of the bucket
    attributes: Attributes = b""  # encoded; Stat and Locate tell them, List does not


class StatObject(Message, frozen=True, tag="stat_object"):
    bucket: Name
    key: Key


class ObjectFound(Message, frozen=True, tag="object_found"):
    object: ObjectInfo


class LocateObjects(Message, frozen=True, tag="locate_objects"):
    """Where are these objects?  One entry a key comes back, in order, None for an absent object.

    Refused if the asker may read none of them.

    With a `chunk_limit`, entries that do not fit are left out at the end: ask again for these keys.  If the
    first object alone has more chunks, its entry has the first of them: ask for it alone with `first_chunk`
    for the others.  Without a limit (as release 0.1.0 asks), an answer that does not fit is refused.
    """

    bucket: Name
    keys: Annotated[list[Key], Page]
    chunk_limit: Whole = 0
    first_chunk: Whole = 0  # index; for one key


class ReadGrant(msgspec.Struct, frozen=True, kw_only=True):
    """The right to read this bucket's needles of one volume."""

    volume_id: Id32
    url: Url  # "http://host:port", without a trailing slash
    token: Token
    expires_in_s: float


class ObjectsLocated(Message, frozen=True, tag="objects_located"):
    objects: Annotated[list[ObjectInfo | None], Page]
    grants: Annotated[list[ReadGrant], Many]  # one for each volume named above that is online
    # Volume id -> disk name, for volumes named above that are not online.
    offline: Annotated[dict[Whole, Name], Many] = {}
    # Those of them whose disk went offline a moment ago: worth a short wait.
    back_soon: Annotated[list[Whole], Many] = []
    why_unknown: Sentence = ""  # the catalog is older than the disks: an object that it lacks may well exist
    # Positions of keys that the asker may not read; there is no object at these, whether there is one or not.
    denied: Annotated[list[Whole], Page] = []


class LocateChunks(Message, frozen=True, tag="locate_chunks"):
    """A volume actor got a request with a URL: which chunks does the object of that URL have?"""

    token: Token  # from the URL's token: the one that the master signed for itself
    first: Whole = 0  # index
    limit: Whole = 8192


class ChunksLocated(Message, frozen=True, tag="chunks_located"):
    """Chunks of one version of an object, in order, from the first that was asked for on."""

    chunks: Annotated[list[Chunk], Chunks]
    grants: Annotated[list[ReadGrant], Many]  # one for each volume named above that is online
    # Volume id -> disk name, for volumes named above that are not.
    offline: Annotated[dict[Whole, Name], Many] = {}


class ListObjects(Message, frozen=True, tag="list_objects"):
    """One page of a bucket, in the order of the keys' UTF-8 bytes."""

    bucket: Name
    prefix: Key = ""
    delimiter: Key | None = None
    after: Key = ""  # only keys (and common prefixes) greater than this one
    limit: Signed = 1000
    with_locations: bool = False  # also where objects of one chunk are; also needs the right to read


class Listing(Message, frozen=True, tag="listing"):
    objects: Annotated[list[ObjectInfo], Page]
    prefixes: Annotated[list[Key], Page]  # common prefixes, delimiter included
    next_after: Key | None  # pass as `after` for the next page; None: this was the last
    # With locations: one for each volume named above that is online.
    grants: Annotated[list[ReadGrant], Many] = []


class DeleteObjects(Message, frozen=True, tag="delete_objects"):
    bucket: Name
    keys: Annotated[list[Key], Page]
    if_match: Condition | None = None


class Deleted(Message, frozen=True, tag="deleted"):
    existed: Annotated[list[bool], Page]


class ObjectWritten(Message, frozen=True, tag="object_written"):
    """An object that is on disk and in the catalog."""

    etag: ETag
    size: Whole
    created_ms: Whole


class Presign(Message, frozen=True, tag="presign"):
    """A URL that carries its own right: GET of one object, or PUT of one."""

    bucket: Name
    key: Key
    method: Word  # "GET" or "PUT"
    expires_in_s: float
    size_max: Signed | None = None  # PUT: the largest body, bytes; at most one chunk
    content_type: MediaType | None = None
    size_min: Signed = 0  # PUT: the smallest body, bytes
    if_none_match: Condition | None = None  # PUT: "*": only if there is no such object
    disposition: Word | None = None  # GET: "inline" or "attachment": what a browser does with it
    file_name: Key | None = None  # GET: under which a browser saves it; None: the end of the key
    cache_control: HeaderLine | None = None  # GET: for browsers and proxies
    is_once: bool = msgspec.field(name="once", default=False)  # GET: it works once; a PUT always does


class Presigned(Message, frozen=True, tag="presigned"):
    url: LongUrl
    expires_in_s: float


def etag_of(volume_id: int, needle_id: int, crc: int, chunk_count: int = 1) -> str:
    """The ETag of an object, from its first chunk: unique, because needle ids are never used twice."""
    # Not an f-string: 0.31 us instead of 0.52, and a listing makes a thousand.
    etag = "%x-%x-%08x" % (volume_id, needle_id, crc)  # noqa: UP031
    return etag if chunk_count == 1 else f"{etag}-{chunk_count}"
