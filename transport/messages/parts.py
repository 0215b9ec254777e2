"""Messages about uploads in parts, as S3 has them: begun once, filled in any order, completed or aborted.

    BeginUpload (style "multipart") -> RequestSlots, PUT of each chunk, FinishPart, for each part
        -> PlanCompletion -> RequestSlots and PUT of the manifest -> FinishUpload
        -> or AbortUpload, or the time of the upload ends

An upload of style "manifest" is one object without parts that ends with a manifest, too.  Where the chunks of
parts stand: `attributes.py`.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from warehouse.transport.messages.attributes import ManifestChunk, ObjectChecksum
from warehouse.transport.messages.base import Message
from warehouse.transport.messages.numbers import Signed, Whole
from warehouse.transport.messages.texts import Attributes, Chunks, ETag, Key, Many, Name, Page


class FinishPart(Message, frozen=True, tag="finish_part"):
    """A part is whole: all chunks of this attempt are confirmed.  It takes the place of the part of that
    number that was there; safe to repeat."""

    upload_id: Signed
    part_number: Signed  # 1 to 10,000
    attempt: Signed
    chunk_count: Signed
    size: Signed  # bytes
    md5: Annotated[bytes, Meta(max_length=16)]
    checksum: ObjectChecksum | None = None


class PartInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A part that is whole."""

    number: Whole
    size: Whole  # bytes
    etag: ETag  # 32 hexadecimal digits
    created_ms: Whole
    checksum: ObjectChecksum | None = None
    chunk_count: Whole = 1


class PartFinished(Message, frozen=True, tag="part_finished"):
    part: PartInfo


class UploadInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An upload in parts that is not completed."""

    upload_id: Whole
    key: Key
    created_ms: Whole
    owner_id: Name = ""
    initiator_id: Name = ""  # of the account whose key began it
    attributes: Attributes = b""  # what it was begun with


class ListParts(Message, frozen=True, tag="list_parts"):
    """Parts of an upload, or of a completed object, by number.

    Exactly one of `upload_id` and `key` is told.
    """

    bucket: Name
    upload_id: Signed = 0
    key: Key = ""  # of an object that was completed from parts
    etag: ETag = ""  # of that object: another version is refused as replaced
    after: Whole = 0  # only parts with a greater number
    limit: Signed = 1000


class Parts(Message, frozen=True, tag="parts"):
    parts: Annotated[list[PartInfo], Page]
    next_after: Whole = 0  # pass as `after` for the next page; 0: this was the last
    upload: UploadInfo | None = None  # None: the parts are those of an object


class ListUploads(Message, frozen=True, tag="list_uploads"):
    """Uploads in parts that are not completed, by key, then by id."""

    bucket: Name
    prefix: Key = ""
    delimiter: Key | None = None
    after: Key = ""  # only keys (and common prefixes) greater than this one, or with `after_upload`
    after_upload: Signed = 0  # uploads of the key `after` with a greater id, too
    limit: Signed = 1000


class Uploads(Message, frozen=True, tag="uploads"):
    uploads: Annotated[list[UploadInfo], Page]
    prefixes: Annotated[list[Key], Page]
    next_after: Key | None = None  # pass with the next one for the next page; None: this was the last
    next_after_upload: Whole = 0


class PlanCompletion(Message, frozen=True, tag="plan_completion"):
    """What would an object of these parts be?  Changes nothing."""

    upload_id: Signed
    part_numbers: Annotated[list[Signed], Many]
    first_chunk: Whole = 0  # of all chunks: answers name some thousand at once


class CompletionPlan(Message, frozen=True, tag="completion_plan"):
    """The parts, all of them, and chunks of them in order, from the first that was asked for on.

    A part that is not there is left out: whoever asks compares.
    """

    parts: Annotated[list[PartInfo], Many]
    chunks: Annotated[list[ManifestChunk], Chunks]
    chunk_count: Whole  # of all
    upload: UploadInfo
    done: ETag = ""  # the upload is completed already, with this ETag; parts and chunks are those of it
