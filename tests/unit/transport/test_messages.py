"""Messages: every kind survives the wire, older releases stay readable, and nonsense is named as such."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse.errors import MalformedMessage
from warehouse.transport import messages
from warehouse.transport.messages import (
    FRAME_SIZE_MAX,
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
    Envelope,
    FinishUpload,
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
    RestampNeedle,
    Settled,
    SettleNeedle,
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
    decode_envelope,
    encode_envelope,
    etag_of,
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

# One of every kind, with every field filled.  What older releases wrote is in the files beside this one.
SAMPLES: dict[str, Any] = {
    "done": messages.Done(),
    "refused": Refused(code="no_such_key", message="there is no key"),
    "login": messages.Login(key_id="WHA", secret="s"),
    "logged_in": messages.LoggedIn(token="t", expires_in_s=900.5),
    "attach": Attach(token="t"),
    "attached": Attached(incarnation=1, chunk_size=80 << 20, expires_in_s=60.0),
    "create_bucket": CreateBucket(bucket="photos"),
    "delete_bucket": messages.DeleteBucket(bucket="photos", force=True),
    "list_buckets": messages.ListBuckets(),
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
    "settle_needle": SettleNeedle(bucket="photos", key="k", volume_id=7, needle_id=9),
    "settled": Settled(is_committed=True),
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
    "register_compactor": messages.RegisterCompactor(
        join_secret="j", disk_id="d", disk_name="disk-1", incarnation=2
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
    "list_events": messages.ListEvents(after=-1, limit=5, wait_s=1.5),
    "events": messages.Events(
        events=[messages.Event(sequence=1, at_ms=2, name="disk_offline", fields={"disk": "disk-1", "n": 1})],
        next_after=1,
        incarnation=1,
    ),
}

FROZEN_FILES = sorted(Path(__file__).parent.glob("frozen_messages_*.txt"))


def frozen_frames() -> list[Any]:
    """Each frame that a release wrote: `kind hex`, one a line."""
    return [
        pytest.param(*line.split(), id=f"{path.stem}-{line.split()[0]}")
        for path in FROZEN_FILES
        for line in path.read_text().splitlines()
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_survives_the_wire(kind):
    envelope = Envelope(5, 6, 7 if KINDS[kind] in get_args(Request) else None, SAMPLES[kind])
    assert decode_envelope(encode_envelope(envelope)) == envelope


@pytest.mark.parametrize(("kind", "frame"), frozen_frames())
def test_what_a_release_wrote_reads_the_same_forever(kind, frame):
    assert decode_envelope(bytes.fromhex(frame)).body == SAMPLES[kind]


def test_every_kind_of_this_release_is_frozen():
    frozen = {line.split()[0] for path in FROZEN_FILES for line in path.read_text().splitlines()}
    assert set(SAMPLES) == set(KINDS)
    missing = [
        f"{kind} {encode_envelope(Envelope(5, 6, None, SAMPLES[kind])).hex()}"
        for kind in KINDS
        if kind not in frozen
    ]
    assert not missing, "add to the newest frozen_messages file:\n" + "\n".join(missing)


def test_no_tag_names_two_kinds():
    assert len(KINDS) == len({*get_args(Request), *get_args(Answer)})


# --- values of every kind, made from the types themselves -----------------------------------------


def values_of(kind: msgspec.inspect.Type) -> st.SearchStrategy[Any]:
    info = msgspec.inspect
    match kind:
        case info.IntType():
            return st.integers(
                -(2**63) if kind.ge is None else kind.ge, 2**64 - 1 if kind.le is None else kind.le
            )
        case info.FloatType():
            return st.floats(allow_nan=False)
        case info.StrType():
            return st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
        case info.BytesType():
            return st.binary(max_size=20)
        case info.BoolType():
            return st.booleans()
        case info.NoneType():
            return st.none()
        case info.UnionType():
            return st.one_of([values_of(one) for one in kind.types])
        case info.ListType():
            return st.lists(values_of(kind.item_type), max_size=3)
        case info.TupleType():
            return st.tuples(*[values_of(one) for one in kind.item_types])
        case info.DictType():
            return st.dictionaries(values_of(kind.key_type), values_of(kind.value_type), max_size=3)
        case info.StructType():
            names = [field.name for field in kind.fields]
            return st.tuples(*[values_of(field.type) for field in kind.fields]).map(
                lambda values: kind.cls(**dict(zip(names, values, strict=True)))
            )
    raise AssertionError(f"a message has a field of a new sort: {kind}")


BODIES = st.sampled_from(sorted(KINDS)).flatmap(lambda tag: values_of(msgspec.inspect.type_info(KINDS[tag])))


@given(body=BODIES, request_id=st.integers(0, 2**64 - 1), budget_ms=st.none() | st.integers(0, 2**31))
def test_whatever_the_types_allow_survives_the_wire(body, request_id, budget_ms):
    envelope = Envelope(1, request_id, budget_ms, body)
    assert decode_envelope(encode_envelope(envelope)) == envelope


# --- every field has a bound ----------------------------------------------------------------------


def unbounded(kind: Any, path: str) -> list[str]:
    """The fields below `kind` whose type lets a sender choose any length."""
    info = msgspec.inspect
    match kind:
        case info.StrType() | info.BytesType():
            return [path] if kind.max_length is None else []
        case info.ListType() | info.DictType():
            parts = [kind.item_type] if isinstance(kind, info.ListType) else [kind.key_type, kind.value_type]
            below = [found for part in parts for found in unbounded(part, f"{path}[]")]
            return [*([path] if kind.max_length is None else []), *below]
        case info.TupleType():
            return [found for part in kind.item_types for found in unbounded(part, f"{path}()")]
        case info.UnionType():
            return [found for part in kind.types for found in unbounded(part, path)]
        case info.StructType():
            return [found for field in kind.fields for found in unbounded(field.type, f"{path}.{field.name}")]
        case info.AnyType() | info.RawType() | info.VarTupleType() | info.SetType():
            return [path]
    return []


@pytest.mark.parametrize("kind", KINDS)
def test_every_text_and_every_list_has_a_bound_in_its_type(kind):
    assert unbounded(msgspec.inspect.type_info(KINDS[kind]), kind) == []


class _Loose(msgspec.Struct):
    text: str
    lists: list[list[int]]
    table: dict[str, bytes]


def test_the_walk_finds_what_has_no_bound():
    assert unbounded(msgspec.inspect.type_info(_Loose), "loose") == [
        "loose.text",
        "loose.lists",
        "loose.lists[]",
        "loose.table",
        "loose.table[]",
        "loose.table[]",
    ]


def test_decoding_stops_at_the_first_element_too_many():
    """Whatever the list holds: what comes after is not even looked at."""
    keys = b"\xdd" + (10**6).to_bytes(4, "big") + b"\xa1k" * 2049  # far fewer follow than it says
    frame = b"\x94\x01\x02\x03\x83\xa4kind\xaelocate_objects\xa6bucket\xa1b\xa4keys" + keys
    with pytest.raises(MalformedMessage, match="length <= 2048"):
        decode_envelope(frame)


# --- what later releases may do -------------------------------------------------------------------


def test_fields_that_this_release_does_not_know_are_ignored():
    frame = msgspec.msgpack.encode(
        [1, 2, 3, {"kind": "create_bucket", "bucket": "b", "colour": "red"}, "more"]
    )
    assert decode_envelope(frame) == Envelope(1, 2, 3, CreateBucket(bucket="b"))


# --- nonsense -------------------------------------------------------------------------------------

SOUND = {"kind": "create_bucket", "bucket": "b"}
MALFORMED = {
    "nothing": b"",
    "no msgpack": b"\xc1",
    "a number": b"\x07",
    "a map": msgspec.msgpack.encode(SOUND),
    "too short": msgspec.msgpack.encode([1, 2, 3]),
    "trailing bytes": msgspec.msgpack.encode([1, 2, 3, SOUND]) + b"\0",
    "cut off": msgspec.msgpack.encode([1, 2, 3, SOUND])[:-1],
    "an unknown kind": msgspec.msgpack.encode([1, 2, 3, {"kind": "format_disk"}]),
    "a kind that is a number": msgspec.msgpack.encode([1, 2, 3, {"kind": 5}]),
    "no kind": msgspec.msgpack.encode([1, 2, 3, {"bucket": "b"}]),
    "two kinds": b"\x94\x01\x02\x03\x83\xa4kind\xaddelete_bucket\xa4kind\xaclist_buckets\xa1x\x01",
    "a missing field": msgspec.msgpack.encode([1, 2, 3, {"kind": "create_bucket"}]),
    "a field of the wrong type": msgspec.msgpack.encode([1, 2, 3, {"kind": "create_bucket", "bucket": 5}]),
    "a float for a number": msgspec.msgpack.encode([1, 2.5, 3, SOUND]),
    "text for a number": msgspec.msgpack.encode([1, "2", 3, SOUND]),
    "a boolean for a number": msgspec.msgpack.encode([1, True, 3, SOUND]),
    "text that is not UTF-8": b"\x94\x01\x02\x03\x82\xa4kind\xadcreate_bucket\xa6bucket\xa2\xff\xfe",
    "a forged text length": b"\x94\x01\x02\x03\x82\xa4kind\xdb\xff\xff\xff\xffcreate_bucket",
    "a forged list length": b"\x94\x01\x02\x03\x82\xa4kind\xaelocate_objects\xa4keys\xdd\xff\xff\xff\xff",
    "a forged map length": b"\x94\x01\x02\x03\xdf\xff\xff\xff\xff\xa4kind",
    "deep nesting": b"\x94\x01\x02\x03\x82\xa1x" + b"\x91" * 100_000 + b"\x90\xa4kind\xaclist_buckets",
    "deep nesting for an envelope": b"\x91" * 1_000_000,
    "an extension type": b"\x94\x01\x02\x03\xc7\x01\x05\x00",
}


@pytest.mark.parametrize("frame", MALFORMED.values(), ids=MALFORMED)
def test_nonsense_is_a_malformed_message(frame):
    with pytest.raises(MalformedMessage):
        decode_envelope(frame)


def test_a_frame_beyond_the_limit_is_not_even_looked_at():
    with pytest.raises(MalformedMessage, match=str(FRAME_SIZE_MAX)):
        decode_envelope(b"\xc1" * (FRAME_SIZE_MAX + 1))


@given(frame=st.binary(max_size=200))
def test_random_bytes_are_a_message_or_malformed(frame):
    try:
        decode_envelope(frame)
    except MalformedMessage:
        return


@given(tag=st.sampled_from(sorted(SAMPLES)), data=st.data())
def test_a_changed_byte_is_a_message_or_malformed(tag, data):
    frame = bytearray(encode_envelope(Envelope(5, 6, 7, SAMPLES[tag])))
    for _ in range(data.draw(st.integers(1, 3))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    try:
        envelope = decode_envelope(frame)
    except MalformedMessage:
        return
    encode_envelope(envelope)  # what was let in can be said again


def test_messages_bring_neither_the_loop_nor_the_sockets_along():
    check = "import sys, warehouse.transport.messages; print(sorted({'trio', 'zmq'} & set(sys.modules)))"
    command = [sys.executable, "-c", check]
    root = Path(messages.__file__).parents[3]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_an_etag_names_the_first_needle_and_the_number_of_chunks():
    assert etag_of(7, 255, 0xABCD) == "7-ff-0000abcd"
    assert etag_of(7, 255, 0xABCD, chunk_count=3) == "7-ff-0000abcd-3"
    assert etag_of(7, 255, 0xABCD) != etag_of(7, 254, 0xABCD)
