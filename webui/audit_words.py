"""Audit words: what a line of the audit log says, in plain words.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from warehouse import AuditEntry
from warehouse.conf.formatting import format_size, format_span
from warehouse.webui.names import bucket_url, object_url


@dataclass(frozen=True)
class Action:
    """What somebody did.

    Attributes:
        did: where it went well.
        do: what a person chooses in a list, and what somebody tried where it was refused.
    """

    did: str
    do: str


ACTIONS = {
    "login": Action("signed in", "sign in"),
    "attach": Action("came with a token", "come with a token"),
    "disk_registered": Action("connected the disk", "connect a disk"),
    "compactor_registered": Action("connected the compactor of", "connect a compactor"),
    "node_joined": Action("joined the store with the disk", "join the store"),
    "gateway_registered": Action("connected the S3 gateway", "connect an S3 gateway"),
    "signature_checked": Action("signed in over S3", "sign in over S3"),
    "bucket_created": Action("created the bucket", "create a bucket"),
    "bucket_deleted": Action("deleted the bucket", "delete a bucket"),
    "quota_set": Action("set the quota of", "set a quota"),
    "bucket_configured": Action("set tags or CORS rules of", "set tags or CORS rules of a bucket"),
    "objects_deleted": Action("deleted objects in", "delete objects"),
    "url_signed": Action("signed a link to", "sign a link"),
    "secret_rotated": Action("replaced a secret of the store:", "replace a secret of the store"),
    "jobs_started": Action("started jobs", "start jobs"),
    "jobs_cancelled": Action("cancelled jobs", "cancel jobs"),
    "jobs_paused": Action("paused all jobs", "pause all jobs"),
    "jobs_resumed": Action("resumed all jobs", "resume all jobs"),
    "orphans_decided": Action("decided about pieces without an object", "decide about pieces"),
    "join_token_made": Action("made a join token", "make a join token"),
    "join_token_removed": Action("removed the", "remove a join token"),
    "node_removed": Action("removed the", "remove a node"),
    "disk_removed": Action("removed for good the", "remove a disk"),
    "disk_confirmed": Action("confirmed the place of the", "confirm the place of a disk"),
    "key_created": Action("created a key", "create a key"),
    "key_imported": Action("imported a key", "import a key"),
    "key_changed": Action("changed the key", "change a key"),
    "key_rotated": Action("gave another secret to the key", "rotate a key"),
    "key_deleted": Action("deleted the key", "delete a key"),
    "bucket_given": Action("gave away the bucket", "give a bucket away"),
    "account_created": Action("created the account", "create an account"),
    "account_changed": Action("changed the account", "change an account"),
    "account_deleted": Action("deleted the account", "delete an account"),
    "request_refused": Action("was refused", "do what the key may not"),
    "tokens_refused": Action("came with tokens to the disk", "come with a token to a disk"),
    "lines_left_out": Action("did more than is written here", "do more than is written"),
    "backup_made": Action("made a backup:", "make a backup"),
    "store_restored": Action("restored the store from", "restore the store"),
    "catalog_rebuilt": Action("rebuilt the catalog", "rebuild the catalog"),
    "objects_exported": Action("exported objects", "export objects"),
    "root_reset": Action("made a new root key", "make a new root key"),
    "master_started": Action("The master started", "start of the master"),
    "master_stopped": Action("The master stopped", "stop of the master"),
    "lines_lost": Action("Lines of this log were lost", "loss of lines"),
}

_DETAILS_MAX = 300  # characters


def words_of(action: str) -> str:
    """What a person chooses from."""
    words = ACTIONS[action].do if action in ACTIONS else _plain(action)
    return words[:1].upper() + words[1:]


def _plain(value: object) -> str:
    """A word of a program, or some, as people write them."""
    return ", ".join(map(_plain, value)) if isinstance(value, list) else str(value).replace("_", " ")


def _as_written(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _size(value: object) -> str:
    return format_size(value) if isinstance(value, int) else str(value)


def _span(value: object) -> str:
    return format_span(value) if isinstance(value, int | float) else str(value)


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _moment(value: object) -> str:
    return f"{str(value)[:19].replace('T', ' ')} UTC"


def _grant(value: object) -> str:
    """`photos/2026/*:read,list` as "photos/2026/* (read, list)"."""
    places = value if isinstance(value, list) else [value]
    parts = [str(place).rpartition(":") for place in places]
    return ", ".join(f"{where} ({_plain(may.split(','))})" if where else may for where, _, may in parts)


@dataclass(frozen=True)
class Detail:
    """How a field is told.

    Attributes:
        words: what stands before the value; of a claim, all that is said if it holds.
        otherwise: what is said of a claim that does not hold.
    """

    words: str
    tell: Callable[[object], str] = _as_written
    otherwise: str = ""

    def text(self, value: object) -> str:
        if isinstance(value, bool):
            return self.words if value else self.otherwise
        return f"{self.words} {self.tell(value)}".strip()


DETAILS = {
    "disk": Detail("disk"),
    "url": Detail("at"),
    "role": Detail("as", _plain),
    "scheme": Detail("by signature"),
    "date": Detail("of the day"),
    "is_forced": Detail("by force"),
    "config": Detail("the document", _plain),
    "is_removed": Detail("taken away"),
    "quota_objects": Detail("most objects:", _number),
    "quota_bytes": Detail("most bytes:", _size),
    "count": Detail("number:", _number),
    "existed": Detail("of which existed", _number),
    "keys": Detail("names:"),
    "method": Detail("for", lambda value: {"GET": "reading", "PUT": "storing"}.get(str(value), str(value))),
    "life_s": Detail("works for", _span),
    "overlap_s": Detail("the old secret works for", _span),
    "work": Detail(
        "", lambda value: {"compact": "compaction", "verify": "verification"}.get(str(value), str(value))
    ),
    "is_all": Detail("of all volumes"),
    "decision": Detail("decision:", _plain),
    "is_reusable": Detail("for any number of machines", otherwise="for one machine"),
    "id": Detail("id"),
    "name": Detail("named"),
    "permissions": Detail("may", lambda value: _plain(value) or "nothing"),
    "grants": Detail("in", _grant),
    "changed": Detail("changed:", _plain),
    "is_enabled": Detail("enabled", otherwise="disabled"),
    "to": Detail("to the account"),
    "kind": Detail("asked to", _plain),
    "of": Detail("what:", lambda value: words_of(str(value)).lower()),
    "disabled": Detail("disabled the keys"),
    "version": Detail("version"),
    "cause": Detail("because"),
    "since": Detail("since", _moment),
    "left_out": Detail("lines like this one that were left out:", _number),
}


@dataclass(frozen=True)
class AuditLine:
    """A line as a page shows it.

    Attributes:
        who: the name of the key, or the user of the machine, or that it was a node; "": nobody.
        path: of the page of what it was done to, below the root; "": there is none.
    """

    entry: AuditEntry
    who: str
    words: str
    target: str
    path: str
    details: str

    @property
    def is_refused(self) -> bool:
        return self.entry.result != "ok"

    @property
    def result(self) -> str:
        """The code of a refusal, as people write it."""
        return _plain(self.entry.result)

    @classmethod
    def of(cls, entry: AuditEntry, names: Mapping[str, str]) -> AuditLine:
        """
        Args:
            names: of keys, by id.
        """
        who = names.get(entry.key, entry.key) or entry.user or ("node" if entry.node else "")
        action = ACTIONS.get(entry.action) or Action(_plain(entry.action), _plain(entry.action))
        is_refused = entry.result != "ok" and entry.action not in _SAYS_SO
        fields = dict(entry.details)
        target = names.get(entry.target, entry.target) if entry.action in _OF_A_KEY else entry.target
        if entry.action in _OF_A_DISK and (disk := fields.pop("disk", None)):
            target = str(disk)  # a name says more than the id
        if fields.get("existed") == fields.get("count"):
            fields.pop("existed", None)  # all of them: nothing more to say
        details = "; ".join(text for name, value in fields.items() if (text := _told(name, value)))
        return cls(
            entry=entry,
            who=who,
            words=_tried(action, target) if is_refused else action.did,
            target=target,
            path=_path_of(entry, names),
            details=details if len(details) <= _DETAILS_MAX else details[: _DETAILS_MAX - 1] + "…",
        )


_SAYS_SO = ("request_refused", "tokens_refused")  # their words tell of a refusal already
_OF_A_KEY = ("key_changed", "key_rotated", "key_deleted")
_OF_A_DISK = ("disk_registered", "compactor_registered", "node_joined")


def _tried(action: Action, target: str) -> str:
    return f"tried to {action.do}{':' if target else ''}"


def _told(name: str, value: object) -> str:
    return DETAILS[name].text(value) if name in DETAILS else f"{_plain(name)} {_as_written(value)}"


def _path_of(entry: AuditEntry, names: Mapping[str, str]) -> str:
    if entry.action in _OF_A_KEY and entry.target in names:
        return f"/keys/id/{entry.target}"
    if not entry.target.startswith("wh://"):
        return ""
    bucket, slash, key = entry.target.removeprefix("wh://").partition("/")
    return object_url(bucket, key) if slash and key else bucket_url(bucket)
