"""Messages: everything that crosses a ZeroMQ socket, as tagged msgspec structs.

A frame is one `Envelope`: the sender's incarnation, a request id, and for requests the time left (node
clocks disagree, so never a clock reading).  Object bytes never travel here.

Rules that keep releases compatible: tags are written out and never reused; a new field has a default;
a field never changes type; unknown fields are ignored.  `tests/unit/transport/test_messages.py` decodes
frames written by older releases.

    client -> master      Login, Attach, bucket and object requests, leases and uploads, ClusterStatus,
                          StartJobs, ListJobs, CancelJobs, PauseJobs, DecideOrphans, ListEvents
    volume -> master      Register, NeedlesStored, DiskReport, LocateChunks
    master -> volume      CreateVolume, DeleteNeedles, RestampNeedle, RecordBuckets, ListLive,
                          BeginCompaction, SwitchGeneration, DropGeneration
    compactor -> master   RegisterCompactor
    master -> compactor   StartCopy, StartVerify, PollTask, StopTask
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from warehouse.errors import MalformedMessage
from warehouse.transport.messages.numbers import Boot, Id32, Offset, Signed, Stamp, Whole
from warehouse.transport.messages.texts import (
    All,
    Batch,
    Chunks,
    Condition,
    ETag,
    Few,
    Key,
    LongUrl,
    Many,
    MediaType,
    Metadata,
    Name,
    Page,
    Secret,
    Sentence,
    Token,
    Url,
    Volumes,
    Word,
)

# Bounds of the fields that users choose; checked at every edge.
KEY_SIZE_MAX = 1024  # bytes of UTF-8
METADATA_SIZE_MAX = 8 * 1024  # names and values together, bytes of UTF-8
FRAME_SIZE_MAX = 8 * 1024 * 1024
DAMAGES_MAX = 1000  # damages named in one message
TROUBLES_MAX = 100  # troubles in a status
LIVE_LISTED_MAX = 1024 * 1024  # needle ids in one ListLive: a bitmap of 128 KiB


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", omit_defaults=True):
    """Base of everything that crosses a socket."""


# --- answers that several requests share ----------------------------------------------------------


class Done(Message, frozen=True, tag="done"):
    """The request took effect; there is nothing else to say."""


class Refused(Message, frozen=True, tag="refused"):
    """The request failed: a stable code (see `errors`) and a sentence for a person."""

    code: Word
    message: Sentence


# --- who is speaking ------------------------------------------------------------------------------


class Login(Message, frozen=True, tag="login"):
    """Buy an access token with an API key."""

    key_id: Name
    secret: Secret


class LoggedIn(Message, frozen=True, tag="logged_in"):
    token: Token
    expires_in_s: float


class Attach(Message, frozen=True, tag="attach"):
    """Present an access token: until it expires, this connection acts with its rights."""

    token: Token


class Attached(Message, frozen=True, tag="attached"):
    incarnation: Boot
    chunk_size: Whole
    expires_in_s: float


# --- buckets --------------------------------------------------------------------------------------


class BucketInfo(msgspec.Struct, frozen=True, kw_only=True):
    name: Name
    created_ms: Whole
    object_count: Whole
    byte_count: Whole


class CreateBucket(Message, frozen=True, tag="create_bucket"):
    bucket: Name


class DeleteBucket(Message, frozen=True, tag="delete_bucket"):
    """Refused for a bucket that holds objects, unless forced."""

    bucket: Name
    force: bool = False


class ListBuckets(Message, frozen=True, tag="list_buckets"):
    """Buckets that the asker may see, by name."""

    after: Name = ""  # only names greater than this one
    limit: Signed = 0  # of buckets looked at; 0: all of them in one answer, refused if it is too long


class Buckets(Message, frozen=True, tag="buckets"):
    buckets: Annotated[list[BucketInfo], All]
    next_after: Name = ""  # pass as `after` for the next page; "": this was the last


# --- objects --------------------------------------------------------------------------------------


class Chunk(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where one piece of an object's bytes is, and what they must add up to."""

    volume_id: Id32
    needle_id: Id32
    size: Whole
    crc: Id32


# Values that lead to no others, a thousand in a page: the collector need not look at them.
class ObjectInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    key: Key
    size: Whole
    etag: ETag
    created_ms: Whole
    content_type: MediaType | None = None
    metadata: Metadata = {}
    chunk_count: Whole = 1
    # Filled by Locate, and by List with locations for objects of one chunk.
    chunks: Annotated[list[Chunk], All] = []


class StatObject(Message, frozen=True, tag="stat_object"):
    bucket: Name
    key: Key


class ObjectFound(Message, frozen=True, tag="object_found"):
    object: ObjectInfo


class LocateObjects(Message, frozen=True, tag="locate_objects"):
    """Where are these objects?  One entry a key comes back, in order, None for an absent object.

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
    # Those of them whose disk went away a moment ago: worth a short wait.
    back_soon: Annotated[list[Whole], Many] = []
    why_unknown: Sentence = ""  # the catalog is older than the disks: what it lacks may well be there


class LocateChunks(Message, frozen=True, tag="locate_chunks"):
    """A volume actor was given a URL: which chunks has the object that it leads to?"""

    token: Token  # of the URL's token: what the master has signed for itself
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
    with_locations: bool = False  # also where objects of one chunk are; needs the right to read, too


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


class Presigned(Message, frozen=True, tag="presigned"):
    url: LongUrl
    expires_in_s: float


# --- leases and uploads ---------------------------------------------------------------------------


class LeaseNeedles(Message, frozen=True, tag="lease_needles"):
    """Room and needle ids for many small puts."""

    bucket: Name
    needle_count: Signed
    byte_count: Signed
    exclude_volumes: Annotated[list[Signed], Batch] = []  # volumes that just failed this client


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """The right to write needles first..last (both included) of one volume, `byte_count` bytes in all.

    `byte_count` counts bytes of data; what headers and metadata take comes on top, at the master's cost.
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


class SettleNeedle(Message, frozen=True, tag="settle_needle"):
    """Was this needle committed?  If not, it never will be: answers are final."""

    bucket: Name
    key: Key
    volume_id: Signed
    needle_id: Signed
    token: Token = ""  # the one that the put was made with: nobody may settle somebody else's needle


class Settled(Message, frozen=True, tag="settled"):
    is_committed: bool


class BeginUpload(Message, frozen=True, tag="begin_upload"):
    bucket: Name
    key: Key
    content_type: MediaType | None = None
    metadata: Metadata = {}
    if_match: Condition | None = None
    if_none_match: Condition | None = None  # "*" or an ETag
    byte_count: Whole | None = None  # the whole size where it is known: refused at once when it cannot fit


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


class AbortUpload(Message, frozen=True, tag="abort_upload"):
    upload_id: Signed


# --- volume actors --------------------------------------------------------------------------------


class VolumeReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The figures of one volume, as its actor knows them."""

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


class NeedleDamage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A needle, or a stretch of a data file, that is not what was written.

    Reported by volume actors and compactors without the names; the master adds those that it knows.
    """

    volume_id: Id32
    offset: Offset  # in the data file; -1: the catalog names the needle and the volume does not have it
    problem: Sentence
    needle_id: Id32 | None = None  # None: whatever was there cannot be told any more
    bucket: Name | None = None
    key: Key | None = None
    found_ms: Whole = 0


class Register(Message, frozen=True, tag="register"):
    """A volume actor's first words on every connection."""

    join_secret: Secret
    disk_id: Name
    disk_name: Name
    incarnation: Boot
    url: Url  # what clients shall connect to
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
    is_adopted: bool = False  # the operator says that this is the disk, however old its epoch


class Welcome(Message, frozen=True, tag="welcome"):
    incarnation: Boot  # the master's: commands of any other are refused
    stamp: Stamp  # the master's hybrid logical clock
    # Key id -> HS256 key of this disk; the last one signs.
    token_keys: Annotated[dict[Name, Annotated[bytes, Few]], Few]
    cors_origins: Annotated[list[Url], Few] = []
    epoch: Whole = 0  # what the disk is to write down as its epoch; 0: nothing
    mark: Whole = 0
    catalog_id: Whole = 0
    now_ms: Whole = 0  # the master's wall clock; 0: not told


class DiskReport(Message, frozen=True, tag="disk_report"):
    volumes: Annotated[list[VolumeReport], Volumes]
    disk_free: Whole
    is_read_only: bool = False
    request_count: Whole = 0  # data requests served since the actor started: is anybody using this disk?
    damages: Annotated[list[NeedleDamage], Page] = []  # found by reads and recoveries; at most DAMAGES_MAX
    clock_skew_ms: Signed | None = None  # its wall clock less the master's; None: not measured yet


class ReportSeen(Message, frozen=True, tag="report_seen"):
    stamp: Stamp
    committed_stamp: Stamp = 0  # up to here the catalog is durable, and will never be behind again
    now_ms: Whole = 0  # the master's wall clock; 0: not told
    is_supplied: bool = False  # the disk has all that the master gives it: a put could go there now
    lacking: Sentence = ""  # what it waits for, in a sentence


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


class NeedlesStored(Message, frozen=True, tag="needles_stored"):
    needles: Annotated[list[StoredNeedle], Few]


class Commit(msgspec.Struct, frozen=True, array_like=True):
    """What became of one stored needle: an ETag, an order to stamp it anew, or a refusal."""

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
    """Append tombstones; needles that are absent or dead already count as deleted."""

    incarnation: Boot
    volume_id: Id32
    needles: Annotated[list[tuple[Id32, Stamp]], Many]  # (needle id, the master's stamp for its tombstone)
    stamp: Stamp
    # Those of the ids whose object was deleted, not replaced: see `needle.FLAG_LAST`.
    ended: Annotated[list[Id32], Many] = []


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
    """That a bucket exists, or was deleted: kept in the volumes, so that a rebuild knows it."""

    bucket_id: Whole
    name: Name
    created_ms: Whole
    is_deleted: bool
    stamp: Stamp


class RecordBuckets(Message, frozen=True, tag="record_buckets"):
    """Append records of these buckets to a volume; telling twice is harmless."""

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
    stamp: Stamp  # the master's clock: whatever is written after the answer carries a greater stamp


class LiveListed(Message, frozen=True, tag="live_listed"):
    # Bit i & 7 of byte i >> 3 is needle first_id + i; trailing zero bytes may be left out.
    bitmap: Annotated[bytes, Meta(max_length=LIVE_LISTED_MAX // 8 + 1)]
    needle_id_max: Id32  # the highest id ever used in this volume


# --- compaction: volume actor and compactor -------------------------------------------------------


class BeginCompaction(Message, frozen=True, tag="begin_compaction"):
    """Make what is in the volume durable in data file and index, so that a compactor can copy it."""

    incarnation: Boot
    volume_id: Id32


class CompactionBegun(Message, frozen=True, tag="compaction_begun"):
    generation: Id32  # the present one; the copy is to be the next
    upto: Whole  # offset in the data file: all records before it are finished and durable
    report: VolumeReport
    disk_free: Whole


class SwitchGeneration(Message, frozen=True, tag="switch_generation"):
    """Bring a finished copy up to date and put it in the present generation's place.

    Answered within seconds; asked again until `is_done`.
    """

    incarnation: Boot
    volume_id: Id32
    generation: Id32  # of the copy
    upto: Whole  # how far in the present generation's data file the copy reaches


class GenerationSwitched(Message, frozen=True, tag="generation_switched"):
    is_done: bool
    report: VolumeReport
    remaining_bytes: Whole = 0  # still to be replayed, when it is not done
    pause_ms: float = 0.0  # for how long writes of this volume had to wait
    freed_bytes: Signed | None = None  # how much shorter the file became; None: not known (any more)


class DropGeneration(Message, frozen=True, tag="drop_generation"):
    """Give a compaction up: remove the files of generations that are not the present one."""

    incarnation: Boot
    volume_id: Id32


class RegisterCompactor(Message, frozen=True, tag="register_compactor"):
    """A compactor's first words on every connection."""

    join_secret: Secret
    disk_id: Name
    disk_name: Name
    incarnation: Boot


class CompactorWelcome(Message, frozen=True, tag="compactor_welcome"):
    incarnation: Boot  # the master's: orders of any other are refused


class StartCopy(Message, frozen=True, tag="start_copy"):
    """Copy the live needles of a volume into the files of its next generation."""

    incarnation: Boot
    task_id: Whole
    volume_id: Id32
    uuid: Name
    generation: Id32  # to copy from
    upto: Whole
    horizon: Stamp  # stamp: records of deletions older than this need not be carried over
    rate: Signed | None  # as in PollTask


class StartVerify(Message, frozen=True, tag="start_verify"):
    """Read every needle of a volume and check it against its CRCs."""

    incarnation: Boot
    task_id: Whole
    volume_id: Id32
    uuid: Name
    generation: Id32
    start: Whole  # offset in the data file to go on from; 0: the beginning
    rate: Signed | None


class PollTask(Message, frozen=True, tag="poll_task"):
    """How far is it?  A task that nobody asks about for TASK_ORPHANED_S gives up."""

    incarnation: Boot
    task_id: Whole
    rate: Signed | None  # bytes a second, read and written, from now on; 0: hold; None: as fast as it goes


TASK_ORPHANED_S = 30.0


class TaskState(Message, frozen=True, tag="task_state"):
    task_id: Whole
    state: Word  # "running", "done", "failed"
    done_bytes: Whole = 0  # of the data file that was copied from, or verified
    total_bytes: Whole = 0
    generation: Id32 = 0  # that it works on
    upto: Whole = 0  # offset in its data file that was reached
    written_bytes: Whole = 0
    damages: Annotated[list[NeedleDamage], Page] = []  # all so far, at most DAMAGES_MAX
    damaged_count: Whole = 0
    code: Word | None = None  # why it failed
    message: Sentence = ""


class StopTask(Message, frozen=True, tag="stop_task"):
    """Give a task up, and remove what it made; answered when it has ended."""

    incarnation: Boot
    task_id: Whole


# --- compaction and verification: clients ---------------------------------------------------------


class Job(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One compaction or verification of one volume."""

    job_id: Whole
    work: Word  # "compact", "verify"
    volume_id: Id32
    disk_name: Name
    origin: Word  # "operator", "policy"
    state: Word  # "queued", "copying", "switching", "verifying", "done", "failed", "cancelled"
    done_bytes: Whole = 0
    total_bytes: Whole = 0
    bytes_per_s: float = 0.0
    created_ms: Whole = 0
    started_ms: Whole = 0
    ended_ms: Whole = 0
    freed_bytes: Whole = 0  # what the disk got back
    pause_ms: float = 0.0  # for how long the switch kept writes of the volume waiting
    damaged_count: Whole = 0
    code: Word | None = None  # why it failed, or is waiting
    message: Sentence = ""
    wait_since_ms: Whole = 0  # since when it waits for what `code` and `message` say; 0: it does not wait
    is_stalled: bool = False  # it has not come any further for minutes

    @property
    def is_over(self) -> bool:
        return self.state in ("done", "failed", "cancelled")


class StartJobs(Message, frozen=True, tag="start_jobs"):
    """Compact or verify volumes, one after the other on each disk.

    A volume that has an unfinished job of that work keeps it: the answer names that one.
    """

    work: Word  # "compact", "verify"
    volume_ids: Annotated[list[Signed], Many] = []
    is_all: bool = False
    is_forced: bool = False  # False: of all volumes, one that would give next to nothing back is left alone


class ListJobs(Message, frozen=True, tag="list_jobs"):
    job_ids: Annotated[list[Signed], Many] = []  # none: all that are not over, and the latest that are


class CancelJobs(Message, frozen=True, tag="cancel_jobs"):
    job_ids: Annotated[list[Signed], Many]


class Jobs(Message, frozen=True, tag="jobs"):
    """Answers StartJobs, ListJobs, CancelJobs and PauseJobs."""

    jobs: Annotated[list[Job], Many]
    is_paused: bool = False
    rest: Annotated[list[Whole], Many] = []  # numbers of jobs that did not fit: list these


class PauseJobs(Message, frozen=True, tag="pause_jobs"):
    """Hold all compaction and verification where it is, or let it go on; survives restarts."""

    is_paused: bool


class DecideOrphans(Message, frozen=True, tag="decide_orphans"):
    """What becomes of needles that no object names, where they are too many for a crash; answered by Done."""

    decision: Word  # "keep": aside, and go on with a catalog that is behind; "drop": they are garbage


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that an operator may want to know of; codes and field names are stable."""

    sequence: Whole  # grows by one; starts anew with the master
    at_ms: Whole
    name: Name  # "compaction_finished", "damage_found", "disk_offline", ...
    fields: Annotated[dict[Word, Sentence | Signed | float | bool | None], Few] = {}


class ListEvents(Message, frozen=True, tag="list_events"):
    """Events after a sequence number; waits for one while there is none, for at most `wait_s`."""

    after: Signed  # -1: none of the past, just tell where the sequence is
    limit: Signed = 1000
    wait_s: float = 0.0


class Events(Message, frozen=True, tag="events"):
    events: Annotated[list[Event], Batch]
    next_after: Whole
    incarnation: Boot  # of the master: another one counts anew


# --- what a person or a monitor wants to know -----------------------------------------------------


class ClusterStatus(Message, frozen=True, tag="cluster_status"):
    is_paged: bool = False  # False: all disks in one answer, refused if it is too long
    from_disk: Name = ""  # id of the disk that the page begins with; "": the first
    from_volume: Id32 = 0  # only volumes of that disk from this one on


class VolumeStatus(msgspec.Struct, frozen=True, kw_only=True):
    report: VolumeReport
    reserved_bytes: Whole  # promised to leases and uploads, not written yet
    state: Word  # "open", "full", "sealed", "creating", "missing", "offline"
    verified_ms: Whole | None = None  # when the last verification that read all of it began
    unchecked_s: float = 0.0  # age of the oldest byte that was not read again since
    job: Job | None = None  # that is under way


class DiskStatus(msgspec.Struct, frozen=True, kw_only=True):
    disk_id: Name
    name: Name
    url: Url
    is_online: bool
    since_ms: Whole  # wall time of the last change of is_online
    capacity: Whole
    free: Whole
    is_read_only: bool
    volumes: Annotated[list[VolumeStatus], Volumes]
    clock_skew_s: float | None = None  # its wall clock less the master's; None: not measured
    set_aside: Sentence | None = None  # why nothing is written to it


class LeftAlone(msgspec.Struct, frozen=True, kw_only=True):
    """A volume that is wasteful enough, and is not compacted for now: why not."""

    volume_id: Id32
    until_ms: Whole  # wall time
    code: Word  # "in_vain", "failed", "cancelled", "no_room": how its last compaction ended
    message: Sentence = ""


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is wrong now; names are stable."""

    name: Name  # "disk_behind", "catalog_behind", "stamp_refused", "orphans_kept", "clock_skew", ...
    subject: Sentence  # the disk, volume, or other thing
    message: Sentence  # what it is and what to do
    since_ms: Whole


class Status(Message, frozen=True, tag="status"):
    version: Name
    incarnation: Boot
    uptime_s: float
    health: Word  # "ok", "degraded" (some disk is offline or sealed), "down" (no disk takes writes)
    disks: Annotated[list[DiskStatus], Many]
    bucket_count: Whole
    object_count: Whole
    byte_count: Whole
    garbage_count: Whole  # needles that wait for their tombstone
    upload_count: Whole
    client_count: Whole
    damages: Annotated[list[NeedleDamage], Page] = []  # known and not mended; at most DAMAGES_MAX
    damage_count: Whole = 0
    unchecked_s: float = 0.0  # age of the oldest byte of all volumes that was not read again since
    orphan_count: Whole = 0  # needles without a row that are being looked into, or kept aside after a restore
    is_paused: bool = False  # compaction and verification
    compactors: Annotated[list[Name], Many] = []  # names of the disks whose compactor is connected
    # Wasteful volumes that the policy does not compact for now.
    left_alone: Annotated[list[LeftAlone], Many] = []
    stalled_job_count: Whole = 0  # jobs that have not come any further for minutes
    # What is wrong now and what to do about it; at most TROUBLES_MAX.
    troubles: Annotated[list[Trouble], Few] = []
    trouble_count: Whole = 0
    catalog_free: Whole | None = None  # bytes free on the disk of the catalog
    # Where the next page begins; "": this was the last.  Only disks are paged: lists are on the first page.
    next_disk: Name = ""
    next_volume: Id32 = 0


ClientRequest = (
    Login
    | Attach
    | CreateBucket
    | DeleteBucket
    | ListBuckets
    | StatObject
    | LocateObjects
    | ListObjects
    | DeleteObjects
    | Presign
    | LeaseNeedles
    | SettleNeedle
    | BeginUpload
    | RequestSlots
    | FinishUpload
    | AbortUpload
    | ClusterStatus
    | StartJobs
    | ListJobs
    | CancelJobs
    | PauseJobs
    | DecideOrphans
    | ListEvents
)
VolumeRequest = Register | NeedlesStored | DiskReport | LocateChunks
CompactorRequest = RegisterCompactor
VolumeCommand = (
    CreateVolume
    | DeleteNeedles
    | RestampNeedle
    | RecordBuckets
    | ListLive
    | BeginCompaction
    | SwitchGeneration
    | DropGeneration
)
CompactorCommand = StartCopy | StartVerify | PollTask | StopTask
Request = ClientRequest | VolumeRequest | CompactorRequest | VolumeCommand | CompactorCommand
Answer = (
    Done
    | Refused
    | LoggedIn
    | Attached
    | Buckets
    | ObjectFound
    | ObjectsLocated
    | ChunksLocated
    | Listing
    | Deleted
    | ObjectWritten
    | Presigned
    | Leased
    | Settled
    | UploadBegun
    | Slots
    | Welcome
    | ReportSeen
    | NeedlesCommitted
    | VolumeCreated
    | NeedlesDeleted
    | NeedleRestamped
    | BucketsRecorded
    | LiveListed
    | CompactionBegun
    | GenerationSwitched
    | CompactorWelcome
    | TaskState
    | Jobs
    | Events
    | Status
)


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    """One frame.  `budget_ms` is the time left for a request and None for an answer."""

    incarnation: Boot  # the sender's boot number
    request_id: int  # chosen by whoever asks; the answer repeats it
    budget_ms: int | None
    body: Request | Answer


encode_envelope = msgspec.msgpack.Encoder().encode


def decoder_of(kinds: Any) -> msgspec.msgpack.Decoder[Envelope]:
    """A decoder of envelopes whose body is one of these kinds, a union."""
    narrow = msgspec.defstruct(
        "Envelope", [("body", kinds)], bases=(Envelope,), array_like=True, frozen=True, module=__name__
    )
    return msgspec.msgpack.Decoder(narrow)


_decoder = msgspec.msgpack.Decoder(Envelope)


def decode_envelope(
    frame: bytes | memoryview,
    *,
    decoder: msgspec.msgpack.Decoder[Envelope] = _decoder,
    size_max: int = FRAME_SIZE_MAX,
) -> Envelope:
    """Decode one frame; the only door in.

    Raises:
        MalformedMessage: not msgpack, not an envelope, an unknown kind, or a field of the wrong type.
    """
    if len(frame) > size_max:
        raise MalformedMessage(f"a message has at most {size_max} bytes, this one {len(frame)}")
    try:
        return decoder.decode(frame)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:  # deep nesting; text not UTF-8
        raise MalformedMessage(f"not a message of this protocol: {error}") from error


def etag_of(volume_id: int, needle_id: int, crc: int, chunk_count: int = 1) -> str:
    """The ETag of an object, from its first chunk: unique, because needle ids are never used twice."""
    # Not an f-string: 0.31 us instead of 0.52, and a listing makes a thousand.
    etag = "%x-%x-%08x" % (volume_id, needle_id, crc)  # noqa: UP031
    return etag if chunk_count == 1 else f"{etag}-{chunk_count}"
