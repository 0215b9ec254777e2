"""Messages of clients that write: leases for small puts, the fate of puts in doubt, uploads in chunks."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from warehouse.transport.messages.base import Message
from warehouse.transport.messages.numbers import Id32, Signed, Whole
from warehouse.transport.messages.texts import (
    Attributes,
    Batch,
    Condition,
    Few,
    Key,
    Many,
    MediaType,
    Metadata,
    Name,
    Token,
    Url,
    Word,
)


class LeaseNeedles(Message, frozen=True, tag="lease_needles"):
    """Room and needle ids for many small puts."""

    bucket: Name
    needle_count: Signed
    byte_count: Signed
    exclude_volumes: Annotated[list[Signed], Batch] = []  # volumes that just failed this client
    format: Id32 = 1  # the least that the volumes may have; 2: for needles with attributes


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """The right to write needles first..last (both included) of one volume, `byte_count` bytes in all.

    `byte_count` counts bytes of data; the master also reserves room for headers and metadata.
    """

    volume_id: Id32
    first_needle_id: Id32
    last_needle_id: Id32
    byte_count: Whole
    url: Url
    token: Token
    expires_in_s: float


class Leased(Message, frozen=True, tag="leased"):
    leases: Annotated[list[Lease], Few]


class ResolveNeedle(Message, frozen=True, tag="settle_needle"):
    """Was this needle committed?  If not, it never will be: answers are final."""

    bucket: Name
    key: Key
    volume_id: Signed
    needle_id: Signed
    token: Token = ""  # of the put: a client may only settle its own needle


class Resolved(Message, frozen=True, tag="settled"):
    is_committed: bool


MANIFEST: Final = "manifest"  # styles of uploads
MULTIPART: Final = "multipart"


class BeginUpload(Message, frozen=True, tag="begin_upload"):
    bucket: Name
    key: Key
    content_type: MediaType | None = None
    metadata: Metadata = {}
    if_match: Condition | None = None
    if_none_match: Condition | None = None  # "*" or an ETag
    byte_count: Whole | None = (
        None  # the whole size if it is known: the master refuses at once what cannot fit
    )
    # "": ends with its last chunk; "manifest": one object, ends with a manifest; "multipart": see `parts.py`
    style: Word = ""
    attributes: Attributes = b""


class UploadBegun(Message, frozen=True, tag="upload_begun"):
    upload_id: Whole
    chunk_size: Whole
    expires_in_s: float  # counted from the last confirmed chunk


class SlotWanted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    chunk_index: Signed  # from 0
    size: Signed
    chunk_count: Whole | None = None  # known at the latest with the last chunk
    object_size: Whole | None = None


class RequestSlots(Message, frozen=True, tag="request_slots"):
    """Room for some chunks of an upload; asking again for an index replaces its slot."""

    upload_id: Signed
    slots: Annotated[list[SlotWanted], Few]
    exclude_volumes: Annotated[list[Signed], Batch] = []


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    chunk_index: Whole
    volume_id: Id32
    needle_id: Id32
    url: Url
    token: Token
    expires_in_s: float


class Slots(Message, frozen=True, tag="slots"):
    slots: Annotated[list[Slot], Few]


class FinishUpload(Message, frozen=True, tag="finish_upload"):
    """Switch the object over to chunks 0 to chunk_count - 1, all confirmed; safe to repeat."""

    upload_id: Signed
    chunk_count: Signed
    object_size: Signed
    # The rest is for uploads that end with a manifest, which is stored by now and says the same.
    attributes: Attributes = b""
    part_numbers: Annotated[list[Signed], Many] = []  # of a multipart upload: these, and no others
    if_match: Condition | None = None  # these replace those that the upload was begun with
    if_none_match: Condition | None = None


class AbortUpload(Message, frozen=True, tag="abort_upload"):
    upload_id: Signed
