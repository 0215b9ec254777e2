"""Messages between the master and the volume actors.

A volume actor registers, tells which needles are durable and how its disk does.  The master has it create
volumes, append tombstones and stamps, tell what is live, and switch to the generation that a compactor made.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from warehouse.transport.messages.base import Message
from warehouse.transport.messages.figures import DiskCounters
from warehouse.transport.messages.numbers import Boot, Id32, Offset, Signed, Stamp, Whole
from warehouse.transport.messages.texts import (
    Attributes,
    Condition,
    Configs,
    ETag,
    Few,
    Key,
    Many,
    MediaType,
    Metadata,
    Name,
    Page,
    Pem,
    Pems,
    Secret,
    Sentence,
    Token,
    Url,
    Volumes,
    Word,
)

DAMAGES_MAX = 1000  # damages named in one message
LIVE_LISTED_MAX = 1024 * 1024  # needle ids in one ListLive: a bitmap of 128 KiB


class VolumeReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Sizes and counts of one volume, as its actor knows them."""

    volume_id: Id32
    uuid: Name
    generation: Id32
    capacity: Whole  # bytes the file may grow to
    file_size: Whole  # bytes appended so far, superblock included
    live_count: Whole
    live_bytes: Whole  # stored bytes (headers and padding included) of live needles
    dead_bytes: Whole  # stored bytes that compaction would give back
    needle_id_max: Id32  # the highest id ever used, 0 for none
    stamp_max: Stamp
    sealed_cause: Sentence | None = None
    damaged_count: Whole = 0
    dead_count: Whole = 0  # needles that are deleted, or broken uploads, and still take room
    kept_bytes: Whole = 0  # records that a compaction carries over: buckets, deletions, ids gone for good
    created_ms: Whole = 0
    format: Id32 = 1  # of its data file; needles with attributes need 2


class NeedleDamage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A needle, or a stretch of a data file, that is not what was written.

    Volume actors and compactors report it without the names; the master adds the names that it knows.
    """

    volume_id: Id32
    offset: Offset  # in the data file; -1: the catalog names the needle and the volume does not have it
    problem: Sentence
    needle_id: Id32 | None = None  # None: nobody can tell any more what was there
    bucket: Name | None = None
    key: Key | None = None
    found_ms: Whole = 0


class Register(Message, frozen=True, tag="register"):
    """A volume actor's first words on every connection."""

    join_secret: Secret  # of a store of 0.1.0 that no node has joined with a token yet; else ""
    disk_id: Name
    disk_name: Name
    incarnation: Boot
    url: Url  # for clients to connect to
    volumes: Annotated[list[VolumeReport], Volumes]
    disk_capacity: Whole
    disk_free: Whole
    is_read_only: bool = False
    broken: Annotated[dict[Id32, Sentence], Volumes] = {}  # volumes that could not be opened, and why
    # See `storage/epoch.py`; all 0 from releases that did not count.
    epoch: Whole = 0
    mark: Whole = 0
    offered_epoch: Whole = 0  # 0: it cannot write
    offered_mark: Whole = 0
    catalog_id: Whole = 0
    heard_stamp: Stamp = 0
    is_adopted: bool = False  # the operator says that this is the disk, however old its epoch is
    certificate_request: Pem = ""  # "": it needs no certificate
    is_node: bool = False  # the key of this connection is kept with the disk: the disk can be tied to it


class DataLimits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the tokens of one API key may do at one disk; None: no limit."""

    requests_per_s: float | None = None
    bytes_per_s: float | None = None  # of objects, both directions together
    requests_at_once: Whole | None = None


class Welcome(Message, frozen=True, tag="welcome"):
    incarnation: Boot  # the master's: the actor refuses commands of any other
    stamp: Stamp  # the master's hybrid logical clock
    # Key id -> HS256 key of this disk; the last one signs.
    token_keys: Annotated[dict[Name, Annotated[bytes, Few]], Few]
    cors_origins: Annotated[list[Url], Few] = []
    epoch: Whole = 0  # for the disk to write down as its epoch; 0: nothing
    mark: Whole = 0
    catalog_id: Whole = 0
    now_ms: Whole = 0  # the master's wall clock; 0: not told
    # API key id -> the first epoch whose tokens count, of the keys that lost rights in the latest days.
    revoked: Annotated[dict[Name, Whole], Many] = {}
    limits: Annotated[dict[Name, DataLimits], Many] = {}  # of the API keys that have some
    certificate: Pem = ""  # for the disk's server, if it asked for one
    authority: Pems = ""  # whose certificates count; the first of them signs; "": not told
    next_server_key: Word = ""  # as in `Attached`


class TokensRefused(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Requests at a data port that were refused for their token."""

    address: Name  # where they came from
    code: Word  # of the error
    count: Whole


class DiskReport(Message, frozen=True, tag="disk_report"):
    volumes: Annotated[list[VolumeReport], Volumes]
    disk_free: Whole
    is_read_only: bool = False
    request_count: Whole = 0  # data requests since the actor started: does anybody use this disk?
    damages: Annotated[list[NeedleDamage], Page] = []  # found by reads and recoveries; at most DAMAGES_MAX
    clock_skew_ms: Signed | None = None  # its wall clock less the master's; None: not measured yet
    refused: Annotated[list[TokensRefused], Few] = []  # since the last report; told again if that broke off
    certificate_request: Pem = ""  # its certificate ends soon, or another authority signs now
    authority_seen: Word = ""  # the digest of what the latest answer said of authorities; "": nothing
    counters: DiskCounters | None = None  # None: from releases that did not report them
    certificate_refusal: Sentence = ""  # why it does not show the operator's certificate as it is now


class ReportSeen(Message, frozen=True, tag="report_seen"):
    stamp: Stamp
    committed_stamp: Stamp = 0  # the catalog is durable up to this stamp, and will never be behind it again
    now_ms: Whole = 0  # the master's wall clock; 0: not told
    is_supplied: bool = False  # the disk has all that the master gives it: puts can go there now
    lacking: Sentence = ""  # what it waits for, in a sentence
    certificate: Pem = ""  # as in `Welcome`
    authority: Pems = ""  # as in `Welcome`; "": as the disk has seen it
    next_server_key: Word = ""  # as in `Attached`


class StoredNeedle(msgspec.Struct, frozen=True, array_like=True):
    """One needle that is durable on its disk and asks to become visible."""

    volume_id: Id32
    needle_id: Id32
    stamp: Stamp
    size: Whole  # bytes of data
    crc: Id32  # CRC-32C of the data
    stored_size: Whole  # bytes on disk
    bucket_id: Whole
    key: Key
    created_ms: Whole
    content_type: MediaType | None = None
    metadata: Metadata = {}
    lease_id: Whole | None = None
    upload_id: Whole | None = None
    chunk_index: Whole = 0
    if_match: Condition | None = None
    if_none_match: Condition | None = None
    key_id: Name = ""  # of the API key behind the put's token; "": the token names none
    epoch: Whole = 0  # of that key when the token was signed
    # The claims of the put's token with the master's proof.  "": those of the needle before; "-": none.
    promise: Token = ""
    attributes: Attributes = b""
    # Changes the attributes of the version with this first needle (volume, needle), and is no object.
    amends: tuple[Id32, Id32] | None = None


class NeedlesStored(Message, frozen=True, tag="needles_stored"):
    needles: Annotated[list[StoredNeedle], Few]


class Commit(msgspec.Struct, frozen=True, array_like=True):
    """The fate of one stored needle: an ETag, an order to stamp it again, or a refusal."""

    etag: ETag | None = None
    restamp_above: Stamp | None = None  # append a fresh stamp greater than this, then report again
    code: Word | None = None
    message: Sentence = ""


class NeedlesCommitted(Message, frozen=True, tag="needles_committed"):
    commits: Annotated[list[Commit], Few]  # one a needle, in order
    stamp: Stamp


class CreateVolume(Message, frozen=True, tag="create_volume"):
    incarnation: Boot
    volume_id: Id32
    uuid: Name
    capacity: Whole


class VolumeCreated(Message, frozen=True, tag="volume_created"):
    report: VolumeReport


class DeleteNeedles(Message, frozen=True, tag="delete_needles"):
    """Append tombstones; needles that are absent or already dead count as deleted."""

    incarnation: Boot
    volume_id: Id32
    needles: Annotated[list[tuple[Id32, Stamp]], Many]  # (needle id, the master's stamp for its tombstone)
    stamp: Stamp
    # Those of the ids whose object was deleted, not replaced: see `needle.FLAG_OBJECT_DELETED`.
    object_deleted: Annotated[list[Id32], Many] = msgspec.field(name="ended", default=[])


class NeedlesDeleted(Message, frozen=True, tag="needles_deleted"):
    report: VolumeReport


class RestampNeedle(Message, frozen=True, tag="restamp_needle"):
    """Append a fresh stamp for a needle: an older version of its object carries a greater one."""

    incarnation: Boot
    volume_id: Id32
    needle_id: Id32
    restamp_above: Stamp


class NeedleRestamped(Message, frozen=True, tag="needle_restamped"):
    stamp: Stamp


class BucketNote(msgspec.Struct, frozen=True, array_like=True):
    """A bucket exists, or was deleted: the volumes keep this, so that a rebuild knows it."""

    bucket_id: Whole
    name: Name
    created_ms: Whole
    is_deleted: bool
    stamp: Stamp
    owner_id: Name = ""
    region: Word = ""  # that it was created in; "": nobody said
    is_lock_enabled: bool = False
    configs: Configs = {}


class RecordBuckets(Message, frozen=True, tag="record_buckets"):
    """Append records of these buckets to a volume; a repetition is harmless."""

    incarnation: Boot
    volume_id: Id32
    notes: Annotated[list[BucketNote], Many]


class BucketsRecorded(Message, frozen=True, tag="buckets_recorded"):
    report: VolumeReport


class ListLive(Message, frozen=True, tag="list_live"):
    """Which needles are live in this volume, from `first_id` on?  At most LIVE_LISTED_MAX ids."""

    incarnation: Boot
    volume_id: Id32
    first_id: Id32
    count: Whole
    stamp: Stamp  # the master's clock: all that is written after the answer has a greater stamp


class LiveListed(Message, frozen=True, tag="live_listed"):
    # Bit i & 7 of byte i >> 3 is needle first_id + i; trailing zero bytes may be left out.
    bitmap: Annotated[bytes, Meta(max_length=LIVE_LISTED_MAX // 8 + 1)]
    needle_id_max: Id32  # the highest id ever used in this volume


class BeginCompaction(Message, frozen=True, tag="begin_compaction"):
    """Make the volume durable, data file and index, so that a compactor can copy it."""

    incarnation: Boot
    volume_id: Id32


class CompactionBegun(Message, frozen=True, tag="compaction_begun"):
    generation: Id32  # the present one; the copy is to be the next
    # Offset in the data file: all records before it are finished and durable.
    end_offset: Whole = msgspec.field(name="upto")
    report: VolumeReport
    disk_free: Whole


class SwitchGeneration(Message, frozen=True, tag="switch_generation"):
    """Bring a finished copy up to date and put it in the present generation's place.

    The actor answers within seconds; the master asks again until `is_done`.
    """

    incarnation: Boot
    volume_id: Id32
    generation: Id32  # of the copy
    # How far in the present generation's data file the copy reaches.
    end_offset: Whole = msgspec.field(name="upto")


class GenerationSwitched(Message, frozen=True, tag="generation_switched"):
    is_done: bool
    report: VolumeReport
    remaining_bytes: Whole = 0  # still to be replayed, when it is not done
    pause_ms: float = 0.0  # for how long writes of this volume had to wait
    freed_bytes: Signed | None = None  # by how much the file became shorter; None: not known (any more)


class DropGeneration(Message, frozen=True, tag="drop_generation"):
    """Give up a compaction: remove the files of all generations but the present one."""

    incarnation: Boot
    volume_id: Id32


class LimitKeys(Message, frozen=True, tag="limit_keys"):
    """Hold the tokens of these API keys to limits, and those of no other; answered by Done."""

    incarnation: Boot
    limits: Annotated[dict[Name, DataLimits], Many]


class KeysRevoked(Message, frozen=True, tag="keys_revoked"):
    """Honour no token of these API keys that is older than the epoch beside each; answered by Done."""

    incarnation: Boot
    epochs: Annotated[dict[Name, Whole], Many]
