"""Roles: what a peer may say to a hub depends on who it is.

    nobody      64 KiB a frame, the kinds that make a session: Login, Attach, Join, and the registrations,
                which the owner refuses to an unknown key
    node        as nobody, and a Register up to 8 MiB: its key is known to the owner
    client      1.25 MiB a frame, the requests of clients; no answers, because a hub never asks clients
    volume      1.25 MiB a frame, and 8 MiB for what names all volumes of a disk: its reports, and answers
                to the commands that volume actors get
    compactor   the same for its registration, and for answers about its tasks
    gateway     64 KiB a frame, and the signatures that it shows
    anybody     everything; for hubs whose owner makes no difference

The hub refuses a frame beyond its role's size by its head, unread.  It refuses a kind that the role does not
have, and says what to do about it.  Decoding stops at the first list, text or number that is longer than its
type allows.  A field that stands in a message a thousand times would get around that.  So the number of
fields is checked before a long frame is decoded, and the kind has to come first, as every release writes it.
No frame of nobody costs more than a millisecond, none of a client more than some twenty, and none of a
node, which somebody has let in once, more than some eighty.

So a stranger gets as far as the handshake and 64 KiB: it presents a join token, an API key or an access
token, or is disconnected.  One exception serves stores of 0.1.0, whose actors make a new key at each start:
until the first node joins with a token, a longer Register is read when the join secret stands at its front.
The owner compares the secret before anything is decoded.

A role also has a budget of bytes a second, and one of bytes that may be in work at once, of all its peers
together.  The hub tells a peer beyond one `overloaded`, and cuts no peer off.  A frame that cannot be read
costs more of the budget, because an honest peer sends none.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

from warehouse.errors import BadRequest, MalformedMessage, NodeUnknown, NotAuthenticated, StoreError
from warehouse.transport.messages import (
    FRAME_SIZE_MAX,
    Answer,
    Attach,
    ClientRequest,
    CompactorAnswer,
    CompactorRequest,
    DiskReport,
    Done,
    Envelope,
    GatewayRequest,
    Join,
    Login,
    Refused,
    Register,
    RegisterCompactor,
    RegisterGateway,
    Request,
    TaskState,
    VolumeAnswer,
    VolumeRequest,
    decode_envelope,
    decoder_of,
)

NOBODY_FRAME_MAX = 64 * 1024
NOBODY_BYTES_PER_S = 64 * 1024  # four long frames at once, or 32 short ones: a session takes two
NOBODY_FRAME_PRICE = 8 * 1024
CLIENT_FRAME_MAX = 1280 * 1024  # a thousand keys of 1 KiB, and a quarter
ACTOR_FRAME_MAX = 1280 * 1024  # a full batch of stored needles whose texts take four bytes a character
SHORT_FRAME_MAX = 16 * 1024  # decoded as it is: nothing in it takes long
FIELDS_MAX = 32  # of one message; none has more than 20
MALFORMED_COST = 16  # how many times the bytes of a frame that cannot be read count

Decode = Callable[[bytes | memoryview], Envelope]


@dataclass(frozen=True)
class Role:
    """What a peer may say, and how much of it."""

    name: str
    decode: Decode  # raises StoreError: refuse the frame with it
    bytes_per_s: int
    in_work_max: int  # bytes of requests in work, of all peers of this role together
    burst_s: float = 4.0  # seconds of budget that a quiet peer has saved
    in_flight_max: int | None = None  # requests in work; None: what the hub's limits say
    is_nobody: bool = False  # it has to say soon who it is
    frame_price: int = 0  # bytes of the budget that any frame costs at least

    @cached_property
    def burst(self) -> float:
        return self.bytes_per_s * self.burst_s


def _tags(*kinds: Any) -> frozenset[str]:
    return frozenset(kind.__struct_config__.tag for kind in kinds)


_REQUEST_TAGS = _tags(*get_args(Request))
_ANSWER_TAGS = _tags(*get_args(Answer))


# Integers as msgpack has them.  They are looked at here and not decoded: what follows may be megabytes.
_INT = rb"(?:[\x00-\x7f\xe0-\xff]|[\xcc\xd0].|[\xcd\xd1]..|[\xce\xd2].{4}|[\xcf\xd3].{8})"

# The front of every message: the envelope, then a map of few fields, whose first one is its kind.
_FEW = rb"(?:[\x81-\x8f]|(?:\xde|\xdf\x00\x00)\x00[\x00-" + bytes([FIELDS_MAX]) + rb"])"
_FRONT = re.compile(
    rb"(?:[\x94-\x9f]|\xdc..|\xdd.{4})" + _INT * 2 + rb"(?:\xc0|" + _INT + rb")" + _FEW + rb"\xa4kind"
    rb"(?:[\xa0-\xbf]|\xd9.)([a-z_]{1,64})",
    re.DOTALL,
)

_FRONT_SIZE = 128

# The front of a Register, as every release writes it: the envelope, then kind and join_secret.
_REGISTER = re.compile(
    rb"\x94" + _INT * 3 + rb"(?:[\x80-\x8f]|\xde..)\xa4kind\xa8register\xabjoin_secret"
    rb"(?:[\xa0-\xbf]|\xd9.)([\x20-\x7e]{1,256})",
    re.DOTALL,
)


def join_secret_of(frame: bytes | memoryview) -> str | None:
    """The join secret at the front of a Register, and what follows it; None for any other frame.

    This looks at the first bytes only, so it costs the same for every length.  Do not trust the length that
    the frame gives the secret: compare as many characters as the secret has.
    """
    match = _REGISTER.match(bytes(frame[:512]))
    return None if match is None else match[1].decode("ascii")


def _decoder(
    kinds: Any,
    *,
    size_max: int,
    refuse: Callable[[str], StoreError],
    long_kinds: frozenset[str] = frozenset(),
) -> Decode:
    """Decode envelopes of these kinds only; name what is wrong with the others.

    Args:
        long_kinds: those that may be as long as any frame.
    """
    decoder, own_tags = decoder_of(kinds), _tags(*get_args(kinds))

    def decode(frame: bytes | memoryview) -> Envelope:
        if len(frame) <= SHORT_FRAME_MAX:
            try:
                return decode_envelope(frame, decoder=decoder)
            except MalformedMessage:
                require_own(kind_of(frame))
                raise
        kind = kind_of(frame) if len(frame) <= FRAME_SIZE_MAX else ""
        longest = FRAME_SIZE_MAX if kind in long_kinds else size_max
        if len(frame) <= longest:
            require_own(kind)
            if not kind:
                raise MalformedMessage(
                    f"not a message of this protocol: no kind in front, or more than {FIELDS_MAX} fields"
                )
        return decode_envelope(frame, decoder=decoder, size_max=longest)

    def require_own(kind: str) -> None:
        if kind not in own_tags and (kind in _REQUEST_TAGS or kind in _ANSWER_TAGS):
            raise refuse(kind)

    return decode


def kind_of(frame: bytes | memoryview) -> str:
    """The kind in front of a message; "" when there is none, or the message has too many fields."""
    match = _FRONT.match(bytes(frame[:_FRONT_SIZE]))
    return "" if match is None else match[1].decode("ascii")


def _of_nobody(kind: str) -> StoreError:
    if kind in _tags(*get_args(GatewayRequest)):
        return NotAuthenticated("register this gateway first (RegisterGateway)")
    if kind in _tags(*get_args(VolumeRequest)):
        return NotAuthenticated("register this disk first (Register)")
    return NotAuthenticated("present an access token first (Attach)")


def _of_client(kind: str) -> StoreError:
    if kind in _tags(*get_args(VolumeRequest)):
        return NotAuthenticated("this is a client's connection: register this disk first (Register)")
    return _of_others(kind)


def _of_actor(kind: str) -> StoreError:
    if kind in _tags(*get_args(ClientRequest)):
        return NotAuthenticated("this is the connection of one of our actors: present an access token first")
    if kind in _tags(*get_args(VolumeRequest)):
        return NotAuthenticated("register this disk first (Register)")
    return _of_others(kind)


def _of_others(kind: str) -> StoreError:
    if kind in _tags(*get_args(GatewayRequest)):
        return NotAuthenticated("register this gateway first (RegisterGateway)")
    if kind in _ANSWER_TAGS:
        return MalformedMessage(f"nobody asked for an answer of the kind {kind}")
    return BadRequest(f"a master does not answer {kind}")


_Introduction = Login | Attach | Join | Register | RegisterCompactor | RegisterGateway
_FromNobody = _Introduction | Done
_FromClient = ClientRequest | Register | RegisterCompactor | RegisterGateway | Done
_FromVolume = VolumeRequest | Attach | RegisterCompactor | Done | Refused | VolumeAnswer
_FromGateway = GatewayRequest | Register | RegisterCompactor | Attach | Done
_FromCompactor = CompactorRequest | Register | Attach | Done | Refused | CompactorAnswer

_MIB = 1024 * 1024

ANYBODY = Role("anybody", decode_envelope, bytes_per_s=1 << 40, in_work_max=1 << 40)
CLIENT = Role(
    "client",
    _decoder(_FromClient, size_max=CLIENT_FRAME_MAX, refuse=_of_client),
    bytes_per_s=16 * _MIB,
    in_work_max=64 * _MIB,
)
VOLUME = Role(
    "volume",
    _decoder(
        _FromVolume,
        size_max=ACTOR_FRAME_MAX,
        refuse=_of_actor,
        long_kinds=_tags(Register, DiskReport),
    ),
    bytes_per_s=64 * _MIB,
    in_work_max=256 * _MIB,
)
GATEWAY = Role(
    "gateway",
    _decoder(_FromGateway, size_max=NOBODY_FRAME_MAX, refuse=_of_actor),
    bytes_per_s=8 * _MIB,
    in_work_max=16 * _MIB,
)
COMPACTOR = Role(
    "compactor",
    _decoder(_FromCompactor, size_max=ACTOR_FRAME_MAX, refuse=_of_actor, long_kinds=_tags(TaskState)),
    bytes_per_s=8 * _MIB,
    in_work_max=16 * _MIB,
)


# Its key is known, and it has not said yet which of its actors it is.
NODE = Role(
    "node",
    _decoder(_FromNobody, size_max=NOBODY_FRAME_MAX, refuse=_of_nobody, long_kinds=_tags(Register)),
    bytes_per_s=8 * _MIB,
    in_work_max=64 * _MIB,
    in_flight_max=8,
    is_nobody=True,
)


def nobody(is_introduced: Callable[[bytes | memoryview], bool] = lambda frame: False) -> Role:
    """The role of a peer that has not said who it is, and whose key is unknown.

    Args:
        is_introduced: may this frame, longer than 64 KiB, be read as a Register?
    """
    decode_short = _decoder(_FromNobody, size_max=NOBODY_FRAME_MAX, refuse=_of_nobody)

    def decode(frame: bytes | memoryview) -> Envelope:
        if len(frame) <= NOBODY_FRAME_MAX or kind_of(frame) != "register":
            return decode_short(frame)
        if not is_introduced(frame):
            raise NodeUnknown("the key of this volume actor is none of this store's nodes: join with a token")
        return NODE.decode(frame)

    return Role(
        "nobody",
        decode,
        bytes_per_s=NOBODY_BYTES_PER_S,
        in_work_max=16 * _MIB,
        in_flight_max=8,
        is_nobody=True,
        frame_price=NOBODY_FRAME_PRICE,
    )
