"""One message of every kind, with every field filled; `tests/unit/transport` writes and reads them."""

from __future__ import annotations

from typing import Any, get_args

from warehouse.transport import messages
from warehouse.transport.messages import (
    AccountInfo,
    Answer,
    Attach,
    Attached,
    BeginUpload,
    BucketInfo,
    Buckets,
    Chunk,
    Commit,
    CreateBucket,
    CreateVolume,
    Deleted,
    DeleteNeedles,
    DeleteObjects,
    DiskReport,
    DiskStatus,
    FinishUpload,
    KeyGrant,
    KeyInfo,
    KeyLimits,
    Lease,
    Leased,
    LeaseNeedles,
    Listing,
    ListObjects,
    LocateObjects,
    NeedleRestamped,
    NeedlesCommitted,
    NeedlesDeleted,
    NeedlesStored,
    ObjectFound,
    ObjectInfo,
    ObjectsLocated,
    ObjectWritten,
    Presign,
    Presigned,
    ReadGrant,
    Refused,
    Register,
    ReportSeen,
    Request,
    RequestSlots,
    Resolved,
    ResolveNeedle,
    RestampNeedle,
    Slot,
    Slots,
    SlotWanted,
    StatObject,
    Status,
    StoredNeedle,
    UploadBegun,
    VolumeCreated,
    VolumeReport,
    VolumeStatus,
    Welcome,
)
from warehouse.transport.messages.attributes import ManifestChunk, ObjectChecksum

_PART = messages.PartInfo(
    number=3,
    size=9,
    etag="00" * 16,
    created_ms=1,
    checksum=ObjectChecksum("CRC32C", True, b"1234"),
    chunk_count=2,
)
_UPLOAD = messages.UploadInfo(
    upload_id=1 << 62, key="k", created_ms=1, owner_id="a", initiator_id="b", attributes=b"\x80"
)

KINDS = {kind.__struct_config__.tag: kind for kind in (*get_args(Request), *get_args(Answer))}

REPORT = VolumeReport(
    volume_id=7,
    uuid="0b5e",
    generation=3,
    capacity=1 << 35,
    file_size=4096,
    live_count=2,
    live_bytes=2048,
    dead_bytes=1024,
    needle_id_max=9,
    stamp_max=1 << 60,
    sealed_cause="fsync",
    damaged_count=1,
)
OBJECT = ObjectInfo(
    key="grüße/1",
    size=5,
    etag="7-9-0000abcd-2",
    created_ms=1_700_000_000_000,
    content_type="text/plain",
    metadata={"a": "ä"},
    chunk_count=2,
    chunks=[Chunk(7, 9, 3, 0xABCD), Chunk(8, 1, 2, 0)],
)
NEEDLE = StoredNeedle(
    volume_id=7,
    needle_id=9,
    stamp=1 << 60,
    size=5,
    crc=0xFFFFFFFF,
    stored_size=104,
    bucket_id=3,
    key="k",
    created_ms=1,
    content_type="image/png",
    metadata={"a": "b"},
    lease_id=4,
    upload_id=5,
    chunk_index=6,
    if_match="x",
    if_none_match="*",
)

DAMAGE = messages.NeedleDamage(
    volume_id=7, offset=4096, problem="footer", needle_id=9, bucket="photos", key="k", found_ms=1
)
JOB = messages.Job(
    job_id=1,
    work="compact",
    volume_id=7,
    disk_name="disk-1",
    origin="operator",
    state="failed",
    done_bytes=1,
    total_bytes=2,
    bytes_per_s=3.5,
    created_ms=4,
    started_ms=5,
    ended_ms=6,
    freed_bytes=7,
    pause_ms=8.5,
    damaged_count=9,
    code="disk_full",
    message="full",
)

RATES = messages.Rates(
    gets_per_s=1.5,
    puts_per_s=2.5,
    deletes_per_s=3.5,
    other_per_s=4.5,
    bytes_in_per_s=5.5,
    bytes_out_per_s=6.5,
    get_p50_s=0.25,
    get_p99_s=0.5,
    put_p50_s=0.75,
    put_p99_s=1.5,
)
BUCKET_POINT = messages.BucketPoint(at_ms=9, object_count=2, byte_count=3)

# One of every kind, with every field filled.  What older releases wrote is in `frozen_messages_*.txt` there.
KEY_LIMITS = KeyLimits(
    requests_per_s=2.5, bytes_per_s=1e6, requests_at_once=3, open_uploads=4, lease_bytes=1 << 30
)
KEY_GRANT = KeyGrant(bucket="photos", prefix="2026/", permissions=["read", "list"])
KEY = KeyInfo(
    key_id="WHA",
    name="backup",
    description="each night",
    account="main",
    account_id="0a",
    permissions=["read", "list", "sign"],
    grants=[KEY_GRANT],
    abilities=["can read and list photos/2026/*"],
    is_enabled=True,
    is_sealed=True,
    created_ms=1,
    expires_ms=2,
    last_used_ms=3,
    previous_until_ms=4,
    sign_s_max=60,
    limits=KEY_LIMITS,
    hidden_grant_count=1,
)
KEY_WISH: dict[str, Any] = {
    "name": "backup",
    "description": "each night",
    "account": "main",
    "preset": "reader",
    "permissions": ["read"],
    "grants": [KEY_GRANT],
    "expires_ms": 2,
    "sign_s_max": 60,
    "limits": KEY_LIMITS,
}
ACCOUNT = AccountInfo(account_id="0a", name="main", email="a@b", created_ms=1)

SAMPLES: dict[str, Any] = {
    "create_key": messages.CreateKey(**KEY_WISH),
    "import_key": messages.ImportKey(key_id="AKIA", secret="s", **KEY_WISH),
    "key_created": messages.KeyCreated(key=KEY, secret="s"),
    "show_key": messages.ShowKey(key_id="WHA"),
    "key_shown": messages.KeyShown(key=KEY),
    "list_keys": messages.ListKeys(after="WHA", limit=10),
    "keys": messages.Keys(keys=[KEY], next_after="WHA"),
    "edit_key": messages.EditKey(key_id="WHA", is_enabled=False, **KEY_WISH),
    "rotate_key": messages.RotateKey(key_id="WHA", overlap_s=0.0),
    "delete_key": messages.DeleteKey(key_id="WHA"),
    "create_account": messages.CreateAccount(name="main", email="a@b"),
    "account_shown": messages.AccountShown(account=ACCOUNT),
    "list_accounts": messages.ListAccounts(after="0a"),
    "accounts": messages.Accounts(accounts=[ACCOUNT], next_after="0a"),
    "edit_account": messages.EditAccount(account="main", name="family", email=None),
    "give_bucket": messages.GiveBucket(bucket="photos", account="family"),
    "delete_account": messages.DeleteAccount(account="family"),
    "done": messages.Done(),
    "refused": Refused(code="no_such_key", message="there is no key"),
    "login": messages.Login(key_id="WHA", secret="s"),
    "logged_in": messages.LoggedIn(token="t", expires_in_s=900.5),
    "attach": Attach(token="t"),
    "attached": Attached(incarnation=1, chunk_size=80 << 20, expires_in_s=60.0),
    "create_bucket": CreateBucket(bucket="photos"),
    "delete_bucket": messages.DeleteBucket(bucket="photos", force=True),
    "list_buckets": messages.ListBuckets(),
    "stat_bucket": messages.StatBucket(bucket="photos"),
    "set_quota": messages.SetQuota(
        bucket="photos", sets_objects=True, quota_objects=5, sets_bytes=True, quota_bytes=6
    ),
    "set_bucket_config": messages.SetBucketConfig(bucket="photos", config="cors", document=b"<x/>"),
    "read_bucket_config": messages.ReadBucketConfig(bucket="photos", config="cors"),
    "bucket_config_found": messages.BucketConfigFound(document=b"<x/>"),
    "find_cors": messages.FindCors(bucket="photos"),
    "bucket_found": messages.BucketFound(
        bucket=BucketInfo(
            name="photos", created_ms=1, object_count=2, byte_count=3, quota_objects=5, quota_bytes=6
        )
    ),
    "buckets": Buckets(buckets=[BucketInfo(name="photos", created_ms=1, object_count=2, byte_count=3)]),
    "stat_object": StatObject(bucket="photos", key="k"),
    "object_found": ObjectFound(object=OBJECT),
    "locate_objects": LocateObjects(bucket="photos", keys=["a", "b"]),
    "objects_located": ObjectsLocated(
        objects=[OBJECT, None],
        grants=[ReadGrant(volume_id=7, url="http://127.0.0.1:7410", token="t", expires_in_s=60.0)],
        offline={8: "disk-2"},
    ),
    "list_objects": ListObjects(bucket="photos", prefix="p/", delimiter="/", after="p/a", limit=10),
    "listing": Listing(objects=[OBJECT], prefixes=["p/q/"], next_after="p/q0"),
    "find_objects": messages.FindObjects(
        bucket="photos",
        prefix="p/",
        contains="cat",
        order="time",
        is_descending=True,
        delimiter="/",
        limit=10,
        cursor="c",
    ),
    "objects_found": messages.ObjectsFound(
        objects=[OBJECT], prefixes=["p/q/"], cursor="c", scanned_count=5, is_complete=False
    ),
    "watch_bucket": messages.WatchBucket(bucket="photos", prefix="p/", after=7, wait_s=1.5),
    "bucket_changed": messages.BucketChanged(next_after=9, count=3, keys=["p/a"], is_missed=True),
    "watch_store": messages.WatchStore(after=7, wait_s=1.5),
    "store_changed": messages.StoreChanged(
        next_after=9, subjects=["buckets", "key"], buckets=["photos"], is_missed=True
    ),
    "list_data_urls": messages.ListDataUrls(),
    "data_urls": messages.DataUrls(urls=["http://127.0.0.1:7410"]),
    "delete_objects": DeleteObjects(bucket="photos", keys=["a"], if_match="x"),
    "deleted": Deleted(existed=[True, False]),
    "object_written": ObjectWritten(etag="7-9-0", size=5, created_ms=1),
    "presign": Presign(
        bucket="photos", key="k", method="PUT", expires_in_s=60.0, size_max=5, content_type="text/plain"
    ),
    "presigned": Presigned(url="http://127.0.0.1:7410/v1/needles/7/9?token=t", expires_in_s=60.0),
    "lease_needles": LeaseNeedles(bucket="photos", needle_count=8, byte_count=9, exclude_volumes=[7]),
    "leased": Leased(
        leases=[
            Lease(
                volume_id=7,
                first_needle_id=1,
                last_needle_id=8,
                byte_count=9,
                url="http://127.0.0.1:7410",
                token="t",
                expires_in_s=60.0,
            )
        ]
    ),
    "settle_needle": ResolveNeedle(bucket="photos", key="k", volume_id=7, needle_id=9),
    "settled": Resolved(is_committed=True),
    "begin_upload": BeginUpload(
        bucket="photos",
        key="k",
        content_type="text/plain",
        metadata={"a": "b"},
        if_match="x",
        if_none_match="*",
        byte_count=5,
    ),
    "upload_begun": UploadBegun(upload_id=1 << 62, chunk_size=80 << 20, expires_in_s=3600.0),
    "request_slots": RequestSlots(
        upload_id=5,
        slots=[SlotWanted(chunk_index=0, size=5, chunk_count=1, object_size=5)],
        exclude_volumes=[7],
    ),
    "slots": Slots(
        slots=[
            Slot(
                chunk_index=0,
                volume_id=7,
                needle_id=9,
                url="http://127.0.0.1:7410",
                token="t",
                expires_in_s=60.0,
            )
        ]
    ),
    "finish_upload": FinishUpload(upload_id=5, chunk_count=1, object_size=5),
    "abort_upload": messages.AbortUpload(upload_id=5),
    "finish_part": messages.FinishPart(
        upload_id=5,
        part_number=3,
        attempt=77,
        chunk_count=2,
        size=9,
        md5=bytes(range(16)),
        checksum=ObjectChecksum("CRC32C", False, b"1234"),
    ),
    "part_finished": messages.PartFinished(part=_PART),
    "list_parts": messages.ListParts(bucket="photos", upload_id=5, key="k", etag="e", after=2, limit=10),
    "parts": messages.Parts(parts=[_PART], next_after=3, upload=_UPLOAD),
    "list_uploads": messages.ListUploads(
        bucket="photos", prefix="a", delimiter="/", after="ab", after_upload=5, limit=10
    ),
    "uploads": messages.Uploads(
        uploads=[_UPLOAD], prefixes=["a/"], next_after="k", next_after_upload=1 << 62
    ),
    "plan_completion": messages.PlanCompletion(upload_id=5, part_numbers=[1, 3], first_chunk=2),
    "completion_plan": messages.CompletionPlan(
        parts=[_PART], chunks=[ManifestChunk(7, 9, 5, 6)], chunk_count=3, upload=_UPLOAD, done="e"
    ),
    "register": Register(
        join_secret="j",
        disk_id="d",
        disk_name="disk-1",
        incarnation=2,
        url="http://127.0.0.1:7410",
        volumes=[REPORT],
        disk_capacity=1 << 40,
        disk_free=1 << 39,
        is_read_only=True,
    ),
    "welcome": Welcome(
        incarnation=1, stamp=1 << 60, token_keys={"k1": b"\0\xff"}, cors_origins=["https://a.example"]
    ),
    "disk_report": DiskReport(volumes=[REPORT], disk_free=5, is_read_only=True),
    "report_seen": ReportSeen(stamp=1 << 60),
    "needles_stored": NeedlesStored(needles=[NEEDLE]),
    "needles_committed": NeedlesCommitted(
        commits=[Commit(etag="7-9-0"), Commit(restamp_above=5), Commit(code="needle_void", message="void")],
        stamp=1 << 60,
    ),
    "create_volume": CreateVolume(incarnation=1, volume_id=7, uuid="0b5e", capacity=1 << 35),
    "volume_created": VolumeCreated(report=REPORT),
    "delete_needles": DeleteNeedles(incarnation=1, volume_id=7, needles=[(9, 1 << 60)], stamp=1 << 60),
    "needles_deleted": NeedlesDeleted(report=REPORT),
    "restamp_needle": RestampNeedle(incarnation=1, volume_id=7, needle_id=9, restamp_above=1 << 60),
    "needle_restamped": NeedleRestamped(stamp=1 << 60),
    "cluster_status": messages.ClusterStatus(),
    "status": Status(
        version="0.1.0",
        incarnation=1,
        uptime_s=1.5,
        health="degraded",
        disks=[
            DiskStatus(
                disk_id="d",
                name="disk-1",
                url="http://127.0.0.1:7410",
                is_online=True,
                since_ms=1,
                capacity=1 << 40,
                free=1 << 39,
                is_read_only=False,
                volumes=[VolumeStatus(report=REPORT, reserved_bytes=5, state="open")],
            )
        ],
        bucket_count=1,
        object_count=2,
        byte_count=3,
        garbage_count=4,
        upload_count=5,
        client_count=6,
    ),
    "list_volumes": messages.ListVolumes(disk_id="d", from_volume=7, limit=50, volume_ids=[7, 9]),
    "volumes_listed": messages.VolumesListed(
        volumes=[VolumeStatus(report=REPORT, reserved_bytes=5, state="open")],
        next_volume=9,
        disk_ids={7: "d"},
    ),
    "locate_chunks": messages.LocateChunks(token="t", first=8192, limit=100),
    "chunks_located": messages.ChunksLocated(
        chunks=[messages.Chunk(7, 1, 5, 9)],
        grants=[messages.ReadGrant(volume_id=7, url="http://h:1", token="t", expires_in_s=600.0)],
        offline={8: "disk-2"},
    ),
    "record_buckets": messages.RecordBuckets(
        incarnation=1, volume_id=7, notes=[messages.BucketNote(3, "photos", 1, False, 1 << 60)]
    ),
    "buckets_recorded": messages.BucketsRecorded(report=REPORT),
    "list_live": messages.ListLive(incarnation=1, volume_id=7, first_id=1, count=64, stamp=1 << 60),
    "live_listed": messages.LiveListed(bitmap=b"\x01\x80", needle_id_max=16),
    "begin_compaction": messages.BeginCompaction(incarnation=1, volume_id=7),
    "compaction_begun": messages.CompactionBegun(generation=3, end_offset=4096, report=REPORT, disk_free=5),
    "switch_generation": messages.SwitchGeneration(incarnation=1, volume_id=7, generation=4, end_offset=4096),
    "generation_switched": messages.GenerationSwitched(
        is_done=True, report=REPORT, remaining_bytes=5, pause_ms=1.5
    ),
    "drop_generation": messages.DropGeneration(incarnation=1, volume_id=7),
    "replace_token_keys": messages.ReplaceTokenKeys(incarnation=1, token_keys={"k": b"\x01" * 32}),
    "rotate_secret": messages.RotateSecret(what="access", overlap_s=900),
    "secret_rotated": messages.SecretRotated(until_ms=1, unreached=["disk-1"], resealed_count=2),
    "limit_keys": messages.LimitKeys(
        incarnation=1,
        limits={
            "WHA": messages.DataLimits(requests_per_s=1.5, bytes_per_s=2.5, requests_at_once=3),
        },
    ),
    "keys_revoked": messages.KeysRevoked(incarnation=1, epochs={"WHA": 2, "WHB": 1 << 62}),
    "register_compactor": messages.RegisterCompactor(
        join_secret="j", disk_id="d", disk_name="disk-1", incarnation=2
    ),
    "register_gateway": messages.RegisterGateway(name="gateway-1", incarnation=2),
    "gateway_welcome": messages.GatewayWelcome(incarnation=1, authority="PEM", next_server_key="k"),
    "check_signature": messages.CheckSignature(
        key_id="WHA",
        scheme="v4",
        string_to_sign=b"AWS4-HMAC-SHA256",
        signature="00ff",
        date="20261130",
        region="us-east-1",
    ),
    "signature_checked": messages.SignatureChecked(
        token="t", expires_in_s=900.0, account_id="a", signing_key=b"k"
    ),
    "compactor_welcome": messages.CompactorWelcome(incarnation=1),
    "start_copy": messages.StartCopy(
        incarnation=1,
        task_id=5,
        volume_id=7,
        uuid="0b5e",
        generation=3,
        end_offset=4096,
        horizon=9,
        rate=None,
    ),
    "start_verify": messages.StartVerify(
        incarnation=1, task_id=5, volume_id=7, uuid="0b5e", generation=3, start=4096, rate=1 << 20
    ),
    "poll_task": messages.PollTask(incarnation=1, task_id=5, rate=0),
    "task_state": messages.TaskState(
        task_id=5,
        state="failed",
        done_bytes=1,
        total_bytes=2,
        generation=3,
        end_offset=4096,
        written_bytes=4,
        damages=[DAMAGE],
        damaged_count=1,
        code="disk_full",
        message="full",
    ),
    "stop_task": messages.StopTask(incarnation=1, task_id=5),
    "start_jobs": messages.StartJobs(work="compact", volume_ids=[7], is_all=True),
    "list_jobs": messages.ListJobs(job_ids=[1]),
    "cancel_jobs": messages.CancelJobs(job_ids=[1]),
    "jobs": messages.Jobs(jobs=[JOB], is_paused=True),
    "decide_orphans": messages.DecideOrphans(decision="keep"),
    "pause_jobs": messages.PauseJobs(is_paused=True),
    "list_audit": messages.ListAudit(
        cursor="0011223344556677-5", since_ms=2, key="WHKEY", action="login", limit=5
    ),
    "audit_listed": messages.AuditListed(
        entries=[
            messages.AuditEntry(
                time="2026-11-29T16:23:24.123Z",
                action="login",
                result="bad_credentials",
                key="WHKEY",
                account="a",
                node="n",
                user="u",
                address="::1",
                target="t",
                request="client-1/2",
                details={"count": 2, "keys": ["a", "b"], "is_forced": True, "life_s": 1.5, "method": "GET"},
            )
        ],
        cursor="0011223344556677-9",
        is_last=False,
        is_gap=True,
        unreadable_count=1,
    ),
    "list_events": messages.ListEvents(after=-1, limit=5, wait_s=1.5),
    "events": messages.Events(
        events=[messages.Event(sequence=1, at_ms=2, name="disk_offline", fields={"disk": "disk-1", "n": 1})],
        next_after=1,
        incarnation=1,
    ),
    "join": messages.Join(token="wjt-1", disk_id="d", disk_name="disk-1", role="volume"),
    "create_join_token": messages.CreateJoinToken(role="volume", is_reusable=True, expires_in_s=60.5),
    "join_token_made": messages.JoinTokenMade(token_id="1f", token="wjt-1f-x", expires_ms=5),
    "list_join_tokens": messages.ListJoinTokens(),
    "join_tokens": messages.JoinTokens(
        tokens=[
            messages.JoinTokenInfo(
                token_id="1f",
                role="both",
                is_reusable=True,
                created_ms=1,
                created_by="WH1",
                expires_ms=2,
                use_count=3,
            )
        ]
    ),
    "remove_join_token": messages.RemoveJoinToken(token_id="1f"),
    "list_nodes": messages.ListNodes(),
    "nodes": messages.Nodes(
        nodes=[
            messages.NodeInfo(
                key="z85",
                name="disk-1",
                role="both",
                added_ms=1,
                host="192.0.2.7",
                joined_with="1f",
                disk_ids=["d"],
                is_online=True,
                removed_ms=9,
            )
        ]
    ),
    "remove_node": messages.RemoveNode(node="disk-1"),
    "list_disks": messages.ListDisks(),
    "disks": messages.Disks(
        disks=[
            messages.DiskInfo(
                disk_id="d",
                name="disk-1",
                is_online=True,
                volume_count=2,
                byte_count=3,
                url="http://192.0.2.7:7410",
                node_key="z85",
                node_name="disk-1",
                added_ms=4,
            )
        ]
    ),
    "list_lost": messages.ListLost(
        disk="disk-1", place=messages.LostPlace(volume_id=7, is_in_chunks=True, needle_id=9)
    ),
    "lost": messages.Lost(
        objects=[
            messages.LostObject(
                volume_id=7, needle_id=9, size=5, bucket="photos", key="a/b", is_elsewhere=True
            )
        ],
        place=messages.LostPlace(volume_id=7, is_in_chunks=True, needle_id=9),
    ),
    "remove_disk": messages.RemoveDisk(disk="disk-1"),
    "disk_removed": messages.DiskRemoved(object_count=3, byte_count=99, upload_count=1, is_done=False),
    "confirm_disk": messages.ConfirmDisk(disk="disk-1", url="http://192.0.2.7:7410"),
    "store_figures": messages.StoreFigures(from_disk="d"),
    "figures": messages.Figures(
        at_ms=9,
        window_s=10.0,
        health="ok",
        bucket_count=1,
        object_count=2,
        byte_count=3,
        stored_bytes=4,
        dead_bytes=5,
        free=6,
        capacity=7,
        rates=RATES,
        disks=[
            messages.DiskFigures(
                disk_id="d",
                name="disk-1",
                is_online=True,
                capacity=7,
                free=6,
                stored_bytes=4,
                dead_bytes=5,
                rates=RATES,
            )
        ],
        next_disk="e",
    ),
    "store_history": messages.StoreHistory(since_ms=8, points_max=100),
    "history": messages.History(
        points=[
            messages.HistoryPoint(
                at_ms=9,
                span_s=10.5,
                health="degraded",
                bucket_count=1,
                object_count=2,
                byte_count=3,
                stored_bytes=4,
                dead_bytes=5,
                free=6,
                capacity=7,
                rates=RATES,
            )
        ]
    ),
    "bucket_history": messages.BucketHistory(bucket="photos", since_ms=8, points_max=100),
    "bucket_growth": messages.BucketGrowth(points=[BUCKET_POINT]),
}
