"""Audit words: what a line of the audit log says, in plain words.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from warehouse import AuditEntry
from warehouse.webui.names import bucket_url, object_url

ACTIONS = {
    "login": "signed in",
    "attach": "came with a token",
    "disk_registered": "registered a disk",
    "compactor_registered": "registered a compactor",
    "bucket_created": "created",
    "bucket_deleted": "deleted",
    "quota_set": "set the quota of",
    "objects_deleted": "deleted objects in",
    "url_signed": "signed a URL for",
    "secret_rotated": "replaced a secret of the store:",
    "jobs_started": "started jobs",
    "jobs_cancelled": "cancelled jobs",
    "jobs_paused": "paused all jobs",
    "jobs_resumed": "resumed all jobs",
    "orphans_decided": "decided about pieces without an object",
    "join_token_made": "made a join token",
    "join_token_removed": "removed a join token",
    "node_joined": "joined",
    "node_removed": "removed a machine",
    "disk_removed": "removed a disk for good",
    "disk_confirmed": "confirmed the place of a disk",
    "key_created": "created a key",
    "key_imported": "imported a key",
    "key_changed": "changed a key",
    "key_rotated": "gave a key another secret",
    "key_deleted": "deleted a key",
    "bucket_given": "gave away",
    "account_created": "created an account",
    "account_changed": "changed an account",
    "account_deleted": "deleted an account",
    "request_refused": "was refused",
    "tokens_refused": "came with tokens that a disk refused",
    "lines_left_out": "did more than is written here",
    "backup_made": "made a backup",
    "store_restored": "restored the store",
    "catalog_rebuilt": "rebuilt the catalog",
    "objects_exported": "exported objects",
    "root_reset": "made a new root key",
    "master_started": "The master started",
    "master_stopped": "The master stopped",
    "lines_lost": "Lines were lost",
}
_DETAILS_MAX = 300  # characters


def words_of(action: str) -> str:
    """What a person chooses from."""
    return action.replace("_", " ").capitalize()


@dataclass(frozen=True)
class AuditLine:
    """A line as a page shows it.

    Attributes:
        who: the name of the key, or the node, or the user of the machine; "": nobody.
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

    @classmethod
    def of(cls, entry: AuditEntry, names: Mapping[str, str]) -> AuditLine:
        """
        Args:
            names: of keys, by id.
        """
        who = names.get(entry.key, entry.key) or entry.user or (entry.node and f"node {entry.node[:8]}…")
        details = ", ".join(
            f"{name.replace('_', ' ')} {_plain(value)}" for name, value in entry.details.items()
        )
        return cls(
            entry=entry,
            who=who,
            words=ACTIONS.get(entry.action, words_of(entry.action).lower()),
            target=entry.target,
            path=_path_of(entry.target),
            details=details if len(details) <= _DETAILS_MAX else details[: _DETAILS_MAX - 1] + "…",
        )


def _plain(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _path_of(target: str) -> str:
    if not target.startswith("wh://"):
        return ""
    bucket, slash, key = target.removeprefix("wh://").partition("/")
    return object_url(bucket, key) if slash and key else bucket_url(bucket)
