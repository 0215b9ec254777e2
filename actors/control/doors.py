"""Doors: which permission each request needs, and for what; one table, for the master and for its readers.

The master asks this table before a handler runs (`Sessions.admit`): without the flags of `needed`, nobody
gets to one, not even to hear what is wrong with a request.  The handler then asks for the same flags in the
bucket and for the keys that the request is about (`Sessions.bucket_for`): the catalog says which these are.
A test drives every request that there is with too little, and fails for one that is not in here.

How to add a request: give it a line in `DOORS` (or in `OTHERS`, if it is no client's), and write the tables
into the documentation with `python -m warehouse.actors.control.doors docs/security.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warehouse.auth.rights import ABOUT_BUCKETS, ABOUT_OBJECTS, EVERYTHING, Permission, names_of
from warehouse.conf.arguments import Parser
from warehouse.transport.messages import (
    AbortUpload,
    Attach,
    BeginUpload,
    BucketHistory,
    CancelJobs,
    CheckSignature,
    ClusterStatus,
    ConfirmDisk,
    CreateAccount,
    CreateBucket,
    CreateJoinToken,
    CreateKey,
    DecideOrphans,
    DeleteAccount,
    DeleteBucket,
    DeleteKey,
    DeleteObjects,
    DiskReport,
    EditAccount,
    EditKey,
    FindCors,
    FindObjects,
    FinishPart,
    FinishUpload,
    GiveBucket,
    ImportKey,
    Join,
    LeaseNeedles,
    ListAccounts,
    ListAudit,
    ListBuckets,
    ListDataUrls,
    ListDisks,
    ListEvents,
    ListJobs,
    ListJoinTokens,
    ListKeys,
    ListLost,
    ListNodes,
    ListObjects,
    ListParts,
    ListUploads,
    ListVolumes,
    LocateChunks,
    LocateObjects,
    Login,
    Message,
    NeedlesStored,
    PauseJobs,
    PlanCompletion,
    Presign,
    ReadBucketConfig,
    Register,
    RegisterCompactor,
    RegisterGateway,
    RemoveDisk,
    RemoveJoinToken,
    RemoveNode,
    RequestSlots,
    ResolveNeedle,
    RotateKey,
    RotateSecret,
    SetBucketConfig,
    SetQuota,
    ShowKey,
    StartJobs,
    StatBucket,
    StatObject,
    StoreFigures,
    StoreHistory,
    WatchBucket,
    WatchStore,
)

# What a permission has to hold for.
STORE = "the store"
EVERYWHERE = "every bucket, present and future"  # a key without grants
NAME = "a bucket of that name"  # by the beginning of names, because there is no such bucket yet
SEEN = "buckets that the key sees"
SEEN_ONE = "a bucket that the key sees"
WHOLE = "the whole bucket"
PART = "part of the bucket is enough, and confines it"
KEY = "that key"
KEYS = "each of the keys"
UPLOAD = "the key of the upload"


@dataclass(frozen=True)
class Need:
    """
    Attributes:
        when: which requests of the kind have this need, in words; "": all of them.
        applies: the same as a question.
        is_any: one flag of `permission` is enough.
    """

    permission: Permission
    of: str
    when: str = ""
    applies: Callable[[Any], bool] | None = None
    is_any: bool = False


@dataclass(frozen=True)
class Door:
    """One kind of request that a client may send."""

    does: str
    needs: tuple[Need, ...]


def _door(does: str, permission: Permission, of: str, *more: Need) -> Door:
    return Door(does, (Need(permission, of), *more))


def _is_get(request: Presign) -> bool:
    return request.method == "GET"


def _is_put(request: Presign) -> bool:
    return request.method != "GET"


_P = Permission

DOORS: Mapping[type[Message], Door] = {
    ListBuckets: Door("List buckets", (Need(ABOUT_BUCKETS, SEEN, is_any=True),)),
    CreateBucket: _door("Create a bucket", _P.MANAGE_BUCKETS, NAME),
    DeleteBucket: _door(
        "Delete a bucket",
        _P.MANAGE_BUCKETS,
        WHOLE,
        Need(_P.DELETE, WHOLE, "with all that is in it", lambda request: request.force),
    ),
    StatBucket: Door("Look at a bucket and its quota", (Need(ABOUT_BUCKETS, SEEN_ONE, is_any=True),)),
    SetQuota: _door("Set the quota of a bucket", _P.MANAGE_BUCKETS, WHOLE),
    SetBucketConfig: _door("Set tags and CORS rules of a bucket", _P.MANAGE_BUCKETS, WHOLE),
    ReadBucketConfig: Door(
        "Read tags and CORS rules of a bucket", (Need(ABOUT_BUCKETS, SEEN_ONE, is_any=True),)
    ),
    ListObjects: _door(
        "List objects",
        _P.LIST,
        PART,
        Need(_P.READ, PART, "with their places", lambda request: request.with_locations),
    ),
    FindObjects: _door("Find objects by a part of their name, or by size or time", _P.LIST, PART),
    WatchBucket: _door("Hear which objects changed", _P.LIST, PART),
    WatchStore: Door(
        "Hear that buckets, or the key itself, have changed", (Need(EVERYTHING, SEEN, is_any=True),)
    ),
    ListDataUrls: Door("See where the data ports are", (Need(ABOUT_OBJECTS, SEEN, is_any=True),)),
    StatObject: _door("Look at an object", _P.READ, KEY),
    LocateObjects: _door("Get objects", _P.READ, KEYS),
    DeleteObjects: _door("Delete objects", _P.DELETE, KEYS),
    LeaseNeedles: _door("Put small objects", _P.WRITE, PART),
    ResolveNeedle: _door("Ask what became of a put", _P.WRITE, KEY),
    BeginUpload: _door("Begin an upload", _P.WRITE, KEY),
    RequestSlots: _door("Send chunks of an upload", _P.WRITE, UPLOAD),
    FinishUpload: _door("Finish an upload", _P.WRITE, UPLOAD),
    AbortUpload: _door("Abort an upload", _P.WRITE, UPLOAD),
    FinishPart: _door("Send parts of an upload", _P.WRITE, UPLOAD),
    ListParts: Door(
        "List parts",
        (
            Need(_P.WRITE, UPLOAD, "of an upload", lambda request: not request.key),
            Need(_P.READ, KEY, "of an object", lambda request: bool(request.key)),
        ),
    ),
    ListUploads: _door("List uploads in parts that are not completed", _P.LIST, PART),
    PlanCompletion: _door("Plan the completion of an upload", _P.WRITE, UPLOAD),
    Presign: _door(
        "Have a URL signed",
        _P.SIGN,
        KEY,
        Need(_P.READ, KEY, "for a GET", _is_get),
        Need(_P.WRITE, KEY, "for a PUT", _is_put),
    ),
    ClusterStatus: _door("See disks, volumes, troubles and sums over all buckets", _P.SEE_CLUSTER, STORE),
    ListVolumes: _door("See volumes of a disk, or some by their numbers", _P.SEE_CLUSTER, STORE),
    StoreFigures: _door("See rates, latencies and how full each disk is", _P.SEE_CLUSTER, STORE),
    StoreHistory: _door("See how the store was in the last 30 days", _P.SEE_CLUSTER, STORE),
    BucketHistory: _door("See how a bucket has grown", _P.LIST, WHOLE),
    ListJobs: _door("See compactions and verifications", _P.SEE_CLUSTER, STORE),
    StartJobs: _door("Compact or verify volumes", _P.MANAGE_CLUSTER, STORE),
    CancelJobs: _door("Cancel jobs", _P.MANAGE_CLUSTER, STORE),
    PauseJobs: _door("Pause and resume all jobs", _P.MANAGE_CLUSTER, STORE),
    DecideOrphans: _door("Decide about orphans", _P.MANAGE_CLUSTER, STORE),
    ListEvents: _door("Follow events", _P.SEE_EVENTS, STORE),
    CreateJoinToken: _door("Make a join token", _P.MANAGE_CLUSTER, STORE),
    ListJoinTokens: _door("List join tokens", _P.MANAGE_CLUSTER, STORE),
    RemoveJoinToken: _door("Remove a join token", _P.MANAGE_CLUSTER, STORE),
    ListNodes: _door("List nodes", _P.SEE_CLUSTER, STORE),
    RemoveNode: _door("Remove a node", _P.MANAGE_CLUSTER, STORE),
    ListDisks: _door("List disks and whose they are", _P.SEE_CLUSTER, STORE),
    ConfirmDisk: _door("Confirm the address of a disk", _P.MANAGE_CLUSTER, STORE),
    ListLost: _door(
        "List what is lost with a disk, with the names that the key may know", _P.SEE_CLUSTER, STORE
    ),
    RemoveDisk: _door(
        "Remove a disk that is gone, and what is lost with it",
        _P.DELETE,
        EVERYWHERE,
        Need(_P.MANAGE_CLUSTER, STORE),
    ),
    RotateSecret: _door("Replace a secret of the store", _P.MANAGE_KEYS | _P.MANAGE_CLUSTER, STORE),
    CreateKey: _door("Make an API key that has no more", _P.MANAGE_KEYS, STORE),
    ImportKey: _door("Import an API key that has no more", _P.MANAGE_KEYS, STORE),
    ShowKey: Door(
        "Look at an API key",
        (Need(_P.MANAGE_KEYS, STORE, "for any but one's own", lambda request: request.key_id != ""),),
    ),
    ListKeys: _door("List API keys", _P.MANAGE_KEYS, STORE),
    EditKey: _door("Change, disable or enable an API key that has no more", _P.MANAGE_KEYS, STORE),
    RotateKey: _door("Give an API key that has no more a new secret", _P.MANAGE_KEYS, STORE),
    DeleteKey: _door("Delete an API key that has no more", _P.MANAGE_KEYS, STORE),
    CreateAccount: _door("Make an account", _P.MANAGE_KEYS, STORE),
    ListAccounts: _door("List accounts", _P.MANAGE_KEYS, STORE),
    EditAccount: _door("Change an account", _P.MANAGE_KEYS, STORE),
    DeleteAccount: _door("Delete an account", _P.MANAGE_KEYS, STORE),
    GiveBucket: _door("Give a bucket to an account", _P.MANAGE_BUCKETS, WHOLE, Need(_P.MANAGE_KEYS, STORE)),
    ListAudit: _door("Read the audit log, with names of all buckets and keys", _P.MANAGE_KEYS, STORE),
}

# What needs no permission of a key, because it is not a client that asks, or not one yet.
OTHERS: Mapping[type[Message], tuple[str, str]] = {
    Login: ("Log in", "an API key and its secret"),
    Attach: ("Open a session", "the access token of a login"),
    Join: ("Join as a node, for a disk that no other node has", "a join token"),
    Register: ("Serve a disk", "the key of the node that the disk belongs to"),
    RegisterCompactor: ("Compact a disk", "the key of the node that the disk belongs to"),
    RegisterGateway: ("Be an S3 gateway", "the key of a node that has joined as a gateway"),
    CheckSignature: ("Open a session for an API key", "a session of a gateway, and a signature of that key"),
    FindCors: ("Read the CORS rules of a bucket", "a session of a gateway"),
    NeedlesStored: ("Report stored needles", "a session of the volume actor whose volumes they are in"),
    DiskReport: ("Report volumes", "a session of the volume actor whose volumes they are"),
    LocateChunks: ("Ask for the chunks of a signed URL", "a session of a volume actor, and the URL's token"),
}


def require_known(kinds: Iterable[type[Message]]) -> None:
    """No kind of request is answered that this table does not have."""
    missing = {kind.__name__ for kind in kinds} - {kind.__name__ for kind in (*DOORS, *OTHERS)}
    assert not missing, f"no door for {', '.join(sorted(missing))}: see actors/control/doors.py"


def needs_of(request: Message) -> Iterator[Need]:
    """What this request needs; nothing for one of `OTHERS`."""
    door = DOORS.get(type(request))
    for need in () if door is None else door.needs:
        if need.applies is None or need.applies(request):
            yield need


# Asked for every request: most kinds always need the same.
_ALWAYS = {
    **dict.fromkeys(OTHERS, Permission(0)),
    **{
        kind: Permission(sum(need.permission for need in door.needs))
        for kind, door in DOORS.items()
        if not any(need.applies or need.is_any for need in door.needs)
    },
}


def needed(request: Message) -> Permission:
    """The flags that a key must have, all of them; those of `is_any` are not among them."""
    always = _ALWAYS.get(type(request))
    if always is not None:
        return always
    return Permission(sum(int(need.permission) for need in needs_of(request) if not need.is_any))


def choice(request: Message) -> Permission:
    """The flags of which a key must have one; none: there is no such choice."""
    if type(request) in _ALWAYS:
        return Permission(0)
    return Permission(sum(int(need.permission) for need in needs_of(request) if need.is_any))


# --- for people -----------------------------------------------------------------------------------

BEGIN = "<!-- Made by `python -m warehouse.actors.control.doors docs/security.md`: change it there. -->"
END = "<!-- End of what was made. -->"


def tables() -> str:
    """The tables of docs/security.md."""
    lines = ["| what | message | permission | on |", "|---|---|---|---|"]
    for kind, door in DOORS.items():
        needs = [
            f"{'any of ' if need.is_any else ''}{names_of(need.permission)}"
            + (f" ({need.when})" if need.when else "")
            for need in door.needs
        ]
        of = dict.fromkeys(need.of for need in door.needs)
        lines.append(f"| {door.does} | `{_tag(kind)}` | {'; '.join(needs)} | {'; '.join(of)} |")
    lines += ["", "| what | message | who |", "|---|---|---|"]
    lines += [f"| {does} | `{_tag(kind)}` | {who} |" for kind, (does, who) in OTHERS.items()]
    return "\n".join(lines) + "\n"


def _tag(kind: type[Message]) -> str:
    return str(kind.__struct_config__.tag)


def with_tables(page: str) -> str:
    """The page with the tables of now between its two marks."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{tables()}{END}{tail}"


def main() -> None:
    parser = Parser(
        prog="python -m warehouse.actors.control.doors",
        description="Write the tables of permissions into a page, between its two marks.",
    )
    parser.add_argument("page", type=Path, help="docs/security.md")
    page: Path = parser.parse_args().page
    page.write_text(with_tables(page.read_text()))


if __name__ == "__main__":
    main()
