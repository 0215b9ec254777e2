"""Roles: who may say what, how long it may be, and what the refusal tells."""

from __future__ import annotations

import os
import time

import msgspec
import pytest

from errors import BadRequest, MalformedMessage, NotAuthenticated
from transport import messages as m
from transport.roles import (
    CLIENT,
    CLIENT_FRAME_MAX,
    COMPACTOR,
    NOBODY_FRAME_MAX,
    VOLUME,
    join_secret_of,
    nobody,
)

SECRET = "a-join-secret-of-a-cluster"
NOBODY = nobody(lambda frame: join_secret_of(frame) is not None and SECRET in str(join_secret_of(frame)))
REPORT = m.VolumeReport(
    volume_id=1,
    uuid="u",
    generation=1,
    capacity=1,
    file_size=1,
    live_count=0,
    live_bytes=0,
    dead_bytes=0,
    needle_id_max=0,
    stamp_max=0,
)


def registration(volume_count: int, secret: str = SECRET) -> m.Register:
    return m.Register(
        join_secret=secret,
        disk_id="d",
        disk_name="d",
        incarnation=1,
        url="http://127.0.0.1:1",
        volumes=[REPORT] * volume_count,
        disk_capacity=1,
        disk_free=1,
    )


def frame_of(body: m.Message, incarnation: int = 1) -> bytes:
    return m.encode_envelope(m.Envelope(incarnation, 2, 5000, body))  # type: ignore[arg-type]


LOGIN = m.Login(key_id="k", secret="s")
STORED = m.NeedlesStored(needles=[])
LIST = m.ListBuckets()
MAY = [
    (NOBODY, [LOGIN, m.Attach(token="t"), registration(0)]),
    (CLIENT, [LOGIN, m.Attach(token="t"), LIST, m.ClusterStatus()]),
    (VOLUME, [STORED, registration(3), m.DiskReport(volumes=[REPORT], disk_free=1)]),
    (COMPACTOR, [m.TaskState(task_id=1, state="done")]),
]
MAY_NOT = [
    (NOBODY, LIST, NotAuthenticated),
    (NOBODY, STORED, NotAuthenticated),
    (CLIENT, STORED, NotAuthenticated),
    (CLIENT, m.DiskReport(volumes=[], disk_free=1), NotAuthenticated),
    (CLIENT, m.PollTask(incarnation=1, task_id=1, rate=None), BadRequest),
    (CLIENT, m.Buckets(buckets=[]), MalformedMessage),
    (VOLUME, LIST, NotAuthenticated),
    (VOLUME, m.Buckets(buckets=[]), MalformedMessage),
    (COMPACTOR, STORED, NotAuthenticated),
    (COMPACTOR, LIST, NotAuthenticated),
]


@pytest.mark.parametrize(("role", "bodies"), MAY, ids=lambda value: getattr(value, "name", ""))
def test_each_role_says_what_is_its_business(role, bodies):
    for body in bodies:
        assert role.decode(frame_of(body)).body == body


@pytest.mark.parametrize(("role", "body", "error"), MAY_NOT)
def test_what_is_not_its_business_is_refused_by_name(role, body, error):
    with pytest.raises(error):
        role.decode(frame_of(body))


def test_before_a_login_a_frame_has_64_kib():
    fits = m.Attach(token="t" * 30_000)
    assert NOBODY.decode(frame_of(fits)).body == fits
    frame = frame_of(m.Login(key_id="k" * NOBODY_FRAME_MAX, secret="s"))
    with pytest.raises(MalformedMessage, match=str(NOBODY_FRAME_MAX)):
        NOBODY.decode(frame)
    assert len(frame_of(LIST)) < CLIENT_FRAME_MAX < m.FRAME_SIZE_MAX


def test_a_disk_of_thousands_of_volumes_registers_when_it_shows_the_join_secret():
    for incarnation in (1, 200, 70_000, 1 << 40, 1 << 63):
        frame = frame_of(registration(2000), incarnation)
        assert len(frame) > 3 * NOBODY_FRAME_MAX
        assert len(NOBODY.decode(frame).body.volumes) == 2000  # type: ignore[union-attr]
    with pytest.raises(MalformedMessage, match=str(NOBODY_FRAME_MAX)):
        NOBODY.decode(frame_of(registration(2000, secret="guess")))
    hidden = m.Register.__struct_fields__
    assert hidden[0] == "join_secret", "every release writes it first: only there it is looked for"


def test_no_frame_of_nobody_costs_more_than_a_moment():
    """Bombs of 8 MB took seconds and gigabytes before frames had roles."""
    bombs = [
        frame_of(m.NeedlesStored(needles=[m.StoredNeedle(1, 1, 1, 1, 1, 1, 1, "k", 1)] * 100_000)),
        frame_of(m.LocateObjects(bucket="b", keys=["k"] * 1_000_000)),
        b"\x94\x01\x02\xcd\x13\x88\x82\xa4kind\xa5login\xa1x\xdd" + (8_000_000).to_bytes(4, "big") + b"\xc0" * 8_000_000,
        b"\x91" * 8_000_000,
        os.urandom(8_000_000),
    ]  # fmt: skip
    for bomb in bombs:
        started = time.perf_counter()
        with pytest.raises((MalformedMessage, NotAuthenticated)):
            NOBODY.decode(bomb)
        with pytest.raises((MalformedMessage, NotAuthenticated)):
            NOBODY.decode(bomb[:NOBODY_FRAME_MAX])
        assert time.perf_counter() - started < 0.05


def test_no_list_of_a_client_is_decoded_beyond_its_bound():
    frame = frame_of(m.DeleteObjects(bucket="b", keys=["k"] * 900_000))
    assert len(frame) <= CLIENT_FRAME_MAX
    started = time.perf_counter()
    with pytest.raises(MalformedMessage):
        CLIENT.decode(frame)
    assert time.perf_counter() - started < 0.1


def test_a_join_secret_is_found_only_at_the_front_of_a_register():
    assert (join_secret_of(frame_of(registration(0))) or "").startswith(SECRET)
    assert join_secret_of(frame_of(LOGIN)) is None
    assert join_secret_of(b"") is None
    late = msgspec.msgpack.encode([1, 2, 3, {"kind": "register", "x": "y" * 600, "join_secret": SECRET}])
    assert join_secret_of(late) is None
