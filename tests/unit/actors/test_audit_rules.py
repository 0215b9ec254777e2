"""Audit rules: every request has a decision, and no line says a secret, whatever the request or its answer has."""

from __future__ import annotations

import json
from typing import Any, cast, get_args

import msgspec
import pytest

from message_samples import KINDS, SAMPLES
from warehouse.actors.control.audit_rules import NOT_AUDITED, RULES, Rule
from warehouse.actors.control.audit_sampling import Allowance
from warehouse.actors.control.audited_requests import NO_KEY_ID, AuditedRequests
from warehouse.auth.rights import BucketName
from warehouse.conf.audit_lines import ACTIONS, encode_line
from warehouse.errors import BadCredentials, PermissionDenied
from warehouse.transport import messages
from warehouse.transport.messages import (
    Answer,
    ClientRequest,
    CompactorRequest,
    Done,
    GatewayRequest,
    Login,
    Message,
    Presign,
    Request,
    StatObject,
    VolumeRequest,
)

MARKER = "never-to-be-seen"
# Names of fields that hold a secret, by what they hold.
SECRET_WORDS = {"secret", "token", "tokens", "password", "sealed", "private"}
TO_A_MASTER = {
    *get_args(ClientRequest),
    *get_args(VolumeRequest),
    *(get_args(CompactorRequest) or [CompactorRequest]),
    *get_args(GatewayRequest),
}


def with_marker(value: Any) -> Any:
    """The same message, with a marker in every field whose name or URL says that it is a secret."""
    if isinstance(value, msgspec.Struct):
        changed: dict[str, Any] = {}
        for field in msgspec.structs.fields(type(value)):
            now = getattr(value, field.name)
            is_secret = SECRET_WORDS & set(field.name.split("_")) or (
                field.name == "url" and "Presigned" in repr(type(value))
            )
            if is_secret and isinstance(now, str):
                changed[field.name] = MARKER
            elif is_secret and isinstance(now, bytes):
                changed[field.name] = MARKER.encode()
            else:
                changed[field.name] = with_marker(now)
        return msgspec.structs.replace(value, **changed)
    if isinstance(value, list):
        return [with_marker(one) for one in value]
    return value


ANSWERS: list[Answer | None] = [
    None,
    *(with_marker(SAMPLES[kind]) for kind in KINDS if KINDS[kind] in get_args(Answer)),
]


def samples_of(kind: type) -> list[Any]:
    return [sample for sample in SAMPLES.values() if type(sample) is kind]


def test_every_request_to_a_master_is_audited_or_says_that_it_is_not() -> None:
    undecided = TO_A_MASTER - set(RULES) - NOT_AUDITED
    assert not undecided, "decide in actors/control/audit_rules.py: RULES or NOT_AUDITED"
    assert not set(RULES) & NOT_AUDITED
    assert {*RULES, *NOT_AUDITED} == TO_A_MASTER, "a rule for a message that no master gets"


@pytest.mark.parametrize("kind", RULES, ids=lambda kind: kind.__name__)
def test_a_rule_writes_only_listed_fields_and_never_a_secret(kind: type) -> None:
    rule: Rule = RULES[kind]
    (sample,) = samples_of(kind)
    request = with_marker(sample)
    if any(SECRET_WORDS & set(field.name.split("_")) for field in msgspec.structs.fields(kind)):
        assert MARKER in repr(request)
    action = rule.action_of(request)
    assert action in ACTIONS
    for answer in ANSWERS:
        line = encode_line(action, {"target": rule.target(request), **rule.details(request, answer)})
        assert MARKER.encode() not in line
        assert json.loads(line)["action"] == action


def test_the_url_of_a_signed_url_is_not_written() -> None:
    request = Presign(bucket="photos", key="a/b", method="GET", expires_in_s=60.0)
    answer = messages.Presigned(url=f"http://h/v1/needles/1/2?token={MARKER}", expires_in_s=60.0)
    rule = RULES[Presign]
    assert rule.target(request) == "wh://photos/a/b"
    assert rule.details(request, answer) == {"method": "GET", "life_s": 60.0}


# --- what stands between the hub and the routes ---------------------------------------------------


class Lines:
    """An audit log that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.repeated: list[str] = []  # actions that may be sampled

    def note(self, action: str, **fields: Any) -> None:
        self.told.append(json.loads(encode_line(action, fields)))

    def note_refusal(self, action: str, **fields: Any) -> None:
        self.note(action, **fields)

    def note_repeated(self, action: str, allowance: Allowance, **fields: Any) -> None:
        self.repeated.append(action)
        self.note(action, **fields)


class OnePeer:
    address = "192.0.2.7"
    user_id = "node-key"
    session = None
    request_name = "client-0/1"


def audited(answer: Any, known: tuple[str, ...] = ()) -> tuple[AuditedRequests, Lines]:
    lines = Lines()

    def now(peer: Any, request: Request) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def later(peer: Any, request: Request) -> Any:
        return now(peer, request)

    requests = AuditedRequests(
        lines,  # type: ignore[arg-type]
        answer_now=now,
        answer=later,
        account_of=lambda key_id: "main" if key_id in known else None,
        bucket_named=BucketName,
    )
    return requests, lines


PEER: Any = OnePeer()


@pytest.mark.parametrize(
    ("request_", "answer", "is_sampled"),
    [
        (Login(key_id="WHKEY", secret="s"), messages.LoggedIn(token="t", expires_in_s=9.0), True),
        (
            Presign(bucket="photos", key="a", method="GET", expires_in_s=60.0),
            messages.Presigned(url="http://h/", expires_in_s=60.0),
            True,
        ),
        (messages.DeleteObjects(bucket="photos", keys=["a"]), messages.Deleted(existed=[False]), True),
        (
            messages.DeleteObjects(bucket="photos", keys=["a", "b"]),
            messages.Deleted(existed=[False, True]),
            False,
        ),
        (messages.DeleteBucket(bucket="photos"), Done(), False),
    ],
)
async def test_only_what_changes_nothing_may_be_left_out(
    request_: Any, answer: Answer, is_sampled: bool
) -> None:
    requests, lines = audited(answer)
    await requests.answer(PEER, request_)
    assert len(lines.told) == 1
    assert bool(lines.repeated) is is_sampled


async def test_a_login_is_written_with_its_key_address_and_outcome() -> None:
    requests, lines = audited(messages.LoggedIn(token=MARKER, expires_in_s=9.0), known=("WHKEY",))
    await requests.answer(PEER, Login(key_id="WHKEY", secret=MARKER))
    (told,) = lines.told
    assert {name: told[name] for name in told if name != "time"} == {
        "action": "login",
        "result": "ok",
        "key": "WHKEY",
        "account": "main",
        "address": "192.0.2.7",
        "request": "client-0/1",
    }


@pytest.mark.parametrize("mistaken", ["s3cret-of-somebody", "x" * 43, "A" * 40, "passw\nord", ""])
async def test_a_secret_in_the_place_of_a_key_id_is_not_written(mistaken: str) -> None:
    requests, lines = audited(BadCredentials("no"))
    with pytest.raises(BadCredentials):
        await requests.answer(PEER, Login(key_id=mistaken, secret="x"))
    (told,) = lines.told
    assert told.get("key", NO_KEY_ID) == NO_KEY_ID
    assert told["result"] == "bad_credentials"


async def test_an_id_that_looks_like_one_is_written_although_nobody_has_it() -> None:
    requests, lines = audited(BadCredentials("no"))
    with pytest.raises(BadCredentials):
        await requests.answer(PEER, Login(key_id="WHABC234", secret="x"))
    assert lines.told[0]["key"] == "WHABC234"


async def test_a_refusal_for_want_of_rights_is_written_whatever_was_asked() -> None:
    requests, lines = audited(PermissionDenied("this key lacks the permission read"))
    with pytest.raises(PermissionDenied):
        requests.answer_now(PEER, StatObject(bucket="b", key="k"))
    assert lines.told[0]["action"] == "request_refused"
    assert lines.told[0]["kind"] == "stat_object"


async def test_what_is_read_is_not_written() -> None:
    requests, lines = audited(Done())
    requests.answer_now(PEER, StatObject(bucket="b", key="k"))
    await requests.answer(PEER, SAMPLES["lease_needles"])
    assert lines.told == []


async def test_a_request_whose_outcome_nobody_knows_says_so() -> None:
    requests, lines = audited(RuntimeError("a bug"))
    with pytest.raises(RuntimeError):
        await requests.answer(PEER, messages.DeleteBucket(bucket="b"))
    assert lines.told[0]["result"] == "outcome_unknown"


async def test_a_rule_that_fails_fails_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(request: Any) -> str:
        raise KeyError("a bug in a rule")

    monkeypatch.setitem(RULES, cast("type[Message]", messages.CreateBucket), Rule("bucket_created", broken))
    requests, lines = audited(Done())
    assert await requests.answer(PEER, messages.CreateBucket(bucket="b")) == Done()
    assert lines.told == []


async def test_grants_are_written_as_people_write_them() -> None:
    grants = [
        messages.KeyGrant(bucket="photos", permissions=["read"]),
        messages.KeyGrant(bucket="photos", prefix="2026/", permissions=["read", "list"]),
    ]
    answer = SAMPLES["key_created"]
    requests, lines = audited(
        msgspec.structs.replace(answer, key=msgspec.structs.replace(answer.key, grants=grants))
    )
    await requests.answer(PEER, messages.CreateKey(name="n"))
    assert lines.told[0]["grants"] == ["photos:read", "photos/2026/*:read,list"]
