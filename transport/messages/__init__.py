"""Messages: everything that crosses a ZeroMQ socket, as tagged msgspec structs.

A frame is one `Envelope`: the sender's incarnation, a request id, and for requests the time left (never a
clock reading, because the clocks of two machines disagree).  Object bytes never travel here.

    sessions    a client logs in, and opens a connection
    identities  accounts, and API keys with what they may do
    objects     buckets and objects
    finding     objects by a part of their name, or by size or time
    changes     what changed just now, and where the data ports are
    uploads     leases for small puts, puts in doubt, uploads in chunks
    volumes     the master and its volume actors
    nodes       machines that join, their tokens, their disks
    jobs        the master and its compactors; jobs as clients see them
    signing     S3 gateways show what was signed
    rotation    the store's own secrets are replaced
    status      the status of the cluster, and its events
    figures     how busy and how full the store is, and was
    audit       the audit log, as an operator reads it
    base        what all of them have in common
    texts, numbers, paging    bounds of fields, and of answers

This module joins them: the unions say who sends what, and the decoders are made from the unions.

How to add a message:

1. Write the class into the module of its subject, with its tag.  `texts` and `numbers` have a type for every
   field: none goes without a bound.
2. Import it here, and add it to one union: `ClientRequest`, `VolumeRequest`, `CompactorRequest` and
   `GatewayRequest` go to the master, `VolumeCommand` and `CompactorCommand` come from it, and
   `MasterAnswer`, `VolumeAnswer` and `CompactorAnswer` are the answers of each.  What a peer may send
   (`transport/zeromq/roles.py`) follows.
3. Write the handler, and route the message to it: in the `routes()` of its subject in `actors/control/` for
   the master, or where `actors/data/commands.py` or `actors/compactor.py` tells commands apart.
4. Say in `actors/control/doors.py` which permission it needs, and add its row to `test_matrix.py`.
5. Add a sample with every field filled to `tests/kits/message_samples.py`.  A test then fails with the frame
   to append to the newest `frozen_messages_*.txt`, which no later release may fail to read.

Rules that keep releases compatible: a tag is written out and never reused; a new field has a default; a
field never changes its type (its Python name may change, with `msgspec.field(name=...)` for the wire);
unknown fields are ignored.  The value types that programs hold are public in their names, too:
`tests/unit/transport/public_fields_0_1.txt` lists them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from warehouse.errors import MalformedMessage
from warehouse.transport.messages.audit import AuditEntry, AuditListed, ListAudit
from warehouse.transport.messages.base import (
    FRAME_SIZE_MAX,
    KEY_SIZE_MAX,
    METADATA_SIZE_MAX,
    Done,
    Message,
    Refused,
)
from warehouse.transport.messages.changes import (
    BucketChanged,
    DataUrls,
    ListDataUrls,
    StoreChanged,
    WatchBucket,
    WatchStore,
)
from warehouse.transport.messages.figures import (
    HISTORY_POINTS_MAX,
    BucketGrowth,
    BucketHistory,
    BucketPoint,
    DiskCounters,
    DiskFigures,
    Figures,
    History,
    HistoryPoint,
    Rates,
    StoreFigures,
    StoreHistory,
)
from warehouse.transport.messages.finding import FindObjects, ObjectsFound
from warehouse.transport.messages.identities import (
    OVERLAP_S,
    AccountInfo,
    Accounts,
    AccountShown,
    CreateAccount,
    CreateKey,
    DeleteAccount,
    DeleteKey,
    EditAccount,
    EditKey,
    GiveBucket,
    ImportKey,
    KeyCreated,
    KeyGrant,
    KeyInfo,
    KeyLimits,
    Keys,
    KeyShown,
    KeyWish,
    ListAccounts,
    ListKeys,
    RotateKey,
    ShowKey,
)
from warehouse.transport.messages.jobs import (
    TASK_ORPHANED_S,
    CancelJobs,
    CompactorWelcome,
    DecideOrphans,
    Job,
    Jobs,
    ListJobs,
    PauseJobs,
    PollTask,
    RegisterCompactor,
    StartCopy,
    StartJobs,
    StartVerify,
    StopTask,
    TaskState,
)
from warehouse.transport.messages.nodes import (
    ConfirmDisk,
    CreateJoinToken,
    DiskInfo,
    DiskRemoved,
    Disks,
    Join,
    JoinTokenInfo,
    JoinTokenMade,
    JoinTokens,
    ListDisks,
    ListJoinTokens,
    ListLost,
    ListNodes,
    Lost,
    LostObject,
    LostPlace,
    NodeInfo,
    Nodes,
    RemoveDisk,
    RemoveJoinToken,
    RemoveNode,
)
from warehouse.transport.messages.numbers import Boot
from warehouse.transport.messages.objects import (
    BUCKET_CONFIG_KINDS,
    CONFIGS_COUNT_MAX,
    CONFIGS_SIZE_MAX,
    CORS_CONFIG,
    TAGGING_CONFIG,
    BucketConfigFound,
    BucketFound,
    BucketInfo,
    Buckets,
    Chunk,
    ChunksLocated,
    CreateBucket,
    DeleteBucket,
    Deleted,
    DeleteObjects,
    ListBuckets,
    Listing,
    ListObjects,
    LocateChunks,
    LocateObjects,
    ObjectFound,
    ObjectInfo,
    ObjectsLocated,
    ObjectWritten,
    Presign,
    Presigned,
    ReadBucketConfig,
    ReadGrant,
    SetBucketConfig,
    SetQuota,
    StatBucket,
    StatObject,
    etag_of,
)
from warehouse.transport.messages.parts import (
    CompletionPlan,
    FinishPart,
    ListParts,
    ListUploads,
    PartFinished,
    PartInfo,
    Parts,
    PlanCompletion,
    UploadInfo,
    Uploads,
)
from warehouse.transport.messages.rotation import ReplaceTokenKeys, RotateSecret, SecretRotated
from warehouse.transport.messages.sessions import (
    Attach,
    Attached,
    LoggedIn,
    Login,
)
from warehouse.transport.messages.signing import (
    CheckSignature,
    FindCors,
    GatewayWelcome,
    RegisterGateway,
    SignatureChecked,
)
from warehouse.transport.messages.status import (
    TROUBLES_MAX,
    ClusterStatus,
    DiskStatus,
    Event,
    Events,
    LeftAlone,
    ListEvents,
    ListVolumes,
    Status,
    Trouble,
    VolumesListed,
    VolumeStatus,
)
from warehouse.transport.messages.uploads import (
    MANIFEST,
    MULTIPART,
    AbortUpload,
    BeginUpload,
    FinishUpload,
    Lease,
    Leased,
    LeaseNeedles,
    RequestSlots,
    Resolved,
    ResolveNeedle,
    Slot,
    Slots,
    SlotWanted,
    UploadBegun,
)
from warehouse.transport.messages.volumes import (
    DAMAGES_MAX,
    LIVE_LISTED_MAX,
    BeginCompaction,
    BucketNote,
    BucketsRecorded,
    Commit,
    CompactionBegun,
    CreateVolume,
    DataLimits,
    DeleteNeedles,
    DiskReport,
    DropGeneration,
    GenerationSwitched,
    KeysRevoked,
    LimitKeys,
    ListLive,
    LiveListed,
    NeedleDamage,
    NeedleRestamped,
    NeedlesCommitted,
    NeedlesDeleted,
    NeedlesStored,
    RecordBuckets,
    Register,
    ReportSeen,
    RestampNeedle,
    StoredNeedle,
    SwitchGeneration,
    TokensRefused,
    VolumeCreated,
    VolumeReport,
    Welcome,
)

ClientRequest = (
    CreateKey
    | ImportKey
    | ShowKey
    | ListKeys
    | EditKey
    | RotateKey
    | DeleteKey
    | CreateAccount
    | ListAccounts
    | EditAccount
    | DeleteAccount
    | GiveBucket
    | Login
    | Attach
    | CreateBucket
    | DeleteBucket
    | StatBucket
    | SetQuota
    | SetBucketConfig
    | ReadBucketConfig
    | ListBuckets
    | StatObject
    | LocateObjects
    | ListObjects
    | FindObjects
    | WatchBucket
    | WatchStore
    | ListDataUrls
    | DeleteObjects
    | Presign
    | LeaseNeedles
    | ResolveNeedle
    | BeginUpload
    | RequestSlots
    | FinishUpload
    | AbortUpload
    | FinishPart
    | ListParts
    | ListUploads
    | PlanCompletion
    | ClusterStatus
    | ListVolumes
    | StartJobs
    | ListJobs
    | CancelJobs
    | PauseJobs
    | DecideOrphans
    | RotateSecret
    | ListEvents
    | ListAudit
    | CreateJoinToken
    | ListJoinTokens
    | RemoveJoinToken
    | ListNodes
    | RemoveNode
    | ListDisks
    | ConfirmDisk
    | ListLost
    | RemoveDisk
    | StoreFigures
    | StoreHistory
    | BucketHistory
)
VolumeRequest = Join | Register | NeedlesStored | DiskReport | LocateChunks
CompactorRequest = RegisterCompactor  # and Join
GatewayRequest = RegisterGateway | CheckSignature | FindCors  # and Join
VolumeCommand = (
    CreateVolume
    | DeleteNeedles
    | RestampNeedle
    | RecordBuckets
    | ListLive
    | BeginCompaction
    | SwitchGeneration
    | DropGeneration
    | KeysRevoked
    | LimitKeys
    | ReplaceTokenKeys
)
CompactorCommand = StartCopy | StartVerify | PollTask | StopTask
MasterAnswer = (
    KeyCreated
    | KeyShown
    | Keys
    | AccountShown
    | Accounts
    | LoggedIn
    | Attached
    | Buckets
    | BucketFound
    | BucketConfigFound
    | ObjectFound
    | ObjectsLocated
    | ChunksLocated
    | Listing
    | ObjectsFound
    | BucketChanged
    | StoreChanged
    | DataUrls
    | Deleted
    | ObjectWritten
    | Presigned
    | Leased
    | Resolved
    | UploadBegun
    | Slots
    | PartFinished
    | Parts
    | Uploads
    | CompletionPlan
    | Welcome
    | ReportSeen
    | NeedlesCommitted
    | CompactorWelcome
    | GatewayWelcome
    | SignatureChecked
    | Jobs
    | Events
    | Status
    | VolumesListed
    | SecretRotated
    | AuditListed
    | JoinTokenMade
    | JoinTokens
    | Nodes
    | Disks
    | Lost
    | DiskRemoved
    | Figures
    | History
    | BucketGrowth
)
VolumeAnswer = (
    VolumeCreated
    | NeedlesDeleted
    | NeedleRestamped
    | BucketsRecorded
    | LiveListed
    | CompactionBegun
    | GenerationSwitched
)
CompactorAnswer = TaskState

Request = ClientRequest | VolumeRequest | CompactorRequest | GatewayRequest | VolumeCommand | CompactorCommand
Answer = Done | Refused | MasterAnswer | VolumeAnswer | CompactorAnswer


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    """One frame.  `budget_ms` is the time left for a request and None for an answer."""

    incarnation: Boot  # the sender's boot number
    request_id: int  # chosen by the side that asks; the answer repeats it
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
