"""Audit rules: which requests go into the audit log, and what is said of them.

`RULES` has the requests that do; `NOT_AUDITED` those that do not.  A test fails for a request that is in
neither: whoever adds a message decides.  Refusals for want of rights are written for every kind of request.

A rule says what is written; nothing of a request or an answer gets into the log that a rule does not name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import UNSET

from warehouse.actors.control.audit_sampling import Allowance
from warehouse.conf.audit_lines import LIST_LENGTH_MAX, Value
from warehouse.transport.messages import (
    AbortUpload,
    Answer,
    Attach,
    BeginUpload,
    BucketFound,
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
    Deleted,
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
    KeyCreated,
    KeyGrant,
    KeyShown,
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

Details = Mapping[str, Value]

UNCLEAR_ID = "?"
_SHORT_ID = re.compile(r"[A-Za-z0-9._-]{3,32}", re.ASCII)  # a secret of ours has 43 characters


# Of logins and URLs that are refused, `audit.failures_per_minute` are written.  These are for what succeeds.
OF_LOGINS = Allowance(burst=2000, per_s=1.0)
OF_URLS = Allowance(burst=10_000, per_s=10.0)
OF_IDLE_DELETIONS = Allowance(burst=2000, per_s=1.0)


def _nothing_more(request: Any, answer: Answer | None) -> Details:
    return {}


@dataclass(frozen=True)
class Rule:
    """What is written of one kind of request.

    Attributes:
        action: see `conf.audit_lines.ACTIONS`; a function where it depends on the request.
        target: what the request is about.
        details: further fields, from the request and its answer (None: it was refused).
        key_of: the API key that the request names, where the connection has no session yet.
        is_failure_only: write only what is refused.
        lines: where one request is as many lines as this returns: the fields of each, instead of all above.
        is_of_node: write the CURVE key of the connection, too.
        repeats: what succeeds and changed nothing is written so often for one key; None: always.
        changed: did the request change something, by its answer?
    """

    action: str | Callable[[Any], str]
    target: Callable[[Any], str] = lambda request: ""
    details: Callable[[Any, Answer | None], Details] = _nothing_more
    key_of: Callable[[Any], str] | None = None
    is_failure_only: bool = False
    lines: Callable[[Any], list[Details]] | None = None
    is_of_node: bool = False
    repeats: Allowance | None = None
    changed: Callable[[Answer], bool] = lambda answer: False

    def action_of(self, request: Message) -> str:
        return self.action if isinstance(self.action, str) else self.action(request)


def _of_bucket(request: CreateBucket | DeleteBucket | DeleteObjects | SetQuota | SetBucketConfig) -> str:
    return f"wh://{request.bucket}"


def _deletion(request: DeleteObjects, answer: Answer | None) -> Details:
    return {
        "count": len(request.keys),
        "existed": sum(answer.existed) if isinstance(answer, Deleted) else None,
        "keys": request.keys[:LIST_LENGTH_MAX],
    }


def _has_deleted(answer: Answer) -> bool:
    return not isinstance(answer, Deleted) or any(answer.existed)


def _quota(request: SetQuota, answer: Answer | None) -> Details:
    found = answer.bucket if isinstance(answer, BucketFound) else None
    return {
        "quota_objects": request.quota_objects if found is None else found.quota_objects,
        "quota_bytes": request.quota_bytes if found is None else found.quota_bytes,
    }


def _url(request: Presign, answer: Answer | None) -> Details:
    return {"method": request.method, "life_s": request.expires_in_s}


def _start(request: StartJobs, answer: Answer | None) -> Details:
    return {"work": request.work, "is_all": request.is_all, "is_forced": request.is_forced}


def _token(request: CreateJoinToken, answer: Answer | None) -> Details:
    return {"role": request.role, "is_reusable": request.is_reusable, "life_s": request.expires_in_s}


def _token_id(request: RemoveJoinToken) -> str:
    is_id = re.fullmatch("[0-9a-f]{12}", request.token_id)
    return f"join token {request.token_id if is_id else '?'}"  # somebody may have given its text


def _volumes(request: StartJobs) -> str:
    return ", ".join(f"volume {number}" for number in request.volume_ids[:LIST_LENGTH_MAX])


def _refused_tokens(request: DiskReport) -> list[Details]:
    return [{"address": row.address, "result": row.code, "count": row.count} for row in request.refused]


# --- API keys -------------------------------------------------------------------------------------


def _new_key(request: CreateKey | ImportKey, answer: Answer | None) -> Details:
    made = answer.key if isinstance(answer, KeyCreated | KeyShown) else None
    return {
        "id": "" if made is None else made.key_id,
        "name": request.name,
        "permissions": request.permissions or [] if made is None else made.permissions,
        **_grants(request.grants if made is None else made.grants),
    }


def _edited_key(request: EditKey, answer: Answer | None) -> Details:
    changed = [
        name for name in request.__struct_fields__ if name != "key_id" and getattr(request, name) is not UNSET
    ]
    shown = answer.key if isinstance(answer, KeyShown) else None
    if shown is None:
        return {"changed": changed}
    rights = {"permissions": shown.permissions, **_grants(shown.grants)}
    return {"changed": changed, "is_enabled": shown.is_enabled, **rights, **_long_id(request, answer)}


def _grants(grants: Sequence[KeyGrant] | None) -> Details:
    if grants is None:
        return {"grants": "every bucket"}
    return {"grants": [_grant(grant) for grant in grants[:LIST_LENGTH_MAX]]}


def _grant(grant: KeyGrant) -> str:
    """As people write it: `photos:read`, `photos/2026/*:read,list`."""
    place = f"{grant.bucket}/{grant.prefix}*" if grant.prefix else grant.bucket
    return f"{place}:{','.join(grant.permissions)}"


def _receiver(request: GiveBucket, answer: Answer | None) -> Details:
    return {"to": request.account}


def _key_id(request: EditKey | DeleteKey | RotateKey) -> str:
    """The id, if it is short enough to be no secret that somebody took for one."""
    return request.key_id if _SHORT_ID.fullmatch(request.key_id) else UNCLEAR_ID


def _rotation(request: RotateKey, answer: Answer | None) -> Details:
    return {"overlap_s": request.overlap_s, **_long_id(request, answer)}


def _long_id(request: EditKey | DeleteKey | RotateKey, answer: Answer | None) -> Details:
    """The id of a key that there is: an imported one may be long."""
    is_told = answer is None or _key_id(request) != UNCLEAR_ID
    return {} if is_told else {"id": request.key_id}


RULES: dict[type[Message], Rule] = {
    Login: Rule("login", key_of=lambda request: str(request.key_id), repeats=OF_LOGINS),
    # Each new connection attaches: with a token that was bought with a login, which is in the log.
    Attach: Rule("attach", is_failure_only=True),
    RegisterGateway: Rule("gateway_registered", lambda request: str(request.name), is_of_node=True),
    CheckSignature: Rule(
        "signature_checked",
        details=lambda request, _: {"scheme": request.scheme, "date": request.date},
        key_of=lambda request: str(request.key_id),
        is_of_node=True,
        repeats=OF_LOGINS,
    ),
    CreateBucket: Rule("bucket_created", _of_bucket),
    DeleteBucket: Rule("bucket_deleted", _of_bucket, lambda request, _: {"is_forced": request.force}),
    SetQuota: Rule("quota_set", _of_bucket, _quota),
    SetBucketConfig: Rule(
        "bucket_configured",
        _of_bucket,
        lambda request, _: {"config": request.config, "is_removed": not request.document},
    ),
    DeleteObjects: Rule(
        "objects_deleted", _of_bucket, _deletion, repeats=OF_IDLE_DELETIONS, changed=_has_deleted
    ),
    Presign: Rule(
        "url_signed", lambda request: f"wh://{request.bucket}/{request.key}", _url, repeats=OF_URLS
    ),
    Register: Rule(
        "disk_registered",
        lambda request: str(request.disk_id),
        lambda request, _: {"disk": request.disk_name, "url": request.url},
        is_of_node=True,
    ),
    RegisterCompactor: Rule(
        "compactor_registered",
        lambda request: str(request.disk_id),
        lambda request, _: {"disk": request.disk_name},
        is_of_node=True,
    ),
    DiskReport: Rule("tokens_refused", lines=_refused_tokens),
    Join: Rule(
        "node_joined",
        lambda request: str(request.disk_id),
        lambda request, _: {"disk": request.disk_name, "role": request.role},
        is_of_node=True,
    ),
    CreateJoinToken: Rule("join_token_made", details=_token),
    RemoveJoinToken: Rule("join_token_removed", _token_id),
    RemoveNode: Rule("node_removed", lambda request: f"node {request.node}"),
    RemoveDisk: Rule("disk_removed", lambda request: f"disk {request.disk}"),
    ConfirmDisk: Rule(
        "disk_confirmed", lambda request: f"disk {request.disk}", lambda request, _: {"url": request.url}
    ),
    StartJobs: Rule("jobs_started", _volumes, _start),
    CancelJobs: Rule("jobs_cancelled", details=lambda request, _: {"count": len(request.job_ids)}),
    PauseJobs: Rule(lambda request: "jobs_paused" if request.is_paused else "jobs_resumed"),
    RotateSecret: Rule(
        "secret_rotated",
        lambda request: str(request.what),
        lambda request, _: {"overlap_s": request.overlap_s},
    ),
    CreateKey: Rule("key_created", details=_new_key),
    # The id of a key that is refused may be a secret that somebody mistook for it.
    ImportKey: Rule("key_imported", details=_new_key),
    EditKey: Rule("key_changed", _key_id, _edited_key),
    RotateKey: Rule("key_rotated", _key_id, _rotation),
    DeleteKey: Rule("key_deleted", _key_id, _long_id),
    CreateAccount: Rule("account_created", lambda request: str(request.name)),
    EditAccount: Rule("account_changed", lambda request: str(request.account)),
    GiveBucket: Rule("bucket_given", lambda request: f"wh://{request.bucket}", _receiver),
    DeleteAccount: Rule("account_deleted", lambda request: str(request.account)),
    DecideOrphans: Rule("orphans_decided", details=lambda request, _: {"decision": request.decision}),
}

NOT_AUDITED: frozenset[type[Message]] = frozenset(
    (
        # What is only read.
        *(ListJoinTokens, ListNodes, ListDisks, ListLost),
        *(StoreFigures, StoreHistory, BucketHistory),
        *(ListBuckets, StatBucket, StatObject, LocateObjects, ListObjects, FindObjects),
        *(ReadBucketConfig, FindCors),
        *(WatchBucket, WatchStore, ListDataUrls),
        *(ClusterStatus, ListVolumes, ListJobs, ListEvents, ShowKey, ListKeys, ListAccounts),
        ListAudit,  # a follower would see itself, forever
        # How objects are written: a line for each would be longer than many an object.
        *(LeaseNeedles, ResolveNeedle, BeginUpload, RequestSlots, FinishUpload, AbortUpload),
        *(FinishPart, ListParts, ListUploads, PlanCompletion),
        # What disks say all the time.
        *(NeedlesStored, LocateChunks),
    )
)
