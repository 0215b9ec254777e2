"""Locator: from keys to places, and to the bytes of small objects; simultaneous gets share requests.

    keys of one moment    one message to the master; while it is in flight, further keys queue for the next
    several small objects one request for up to 128 needles of a volume, in a task of its own
    all other objects     left to the caller: a large one, one with a problem, and a single one unless its
                          caller waits for nothing but the latch of its question

A program that gets from many tasks therefore needs no batches of its own, and a program that gets one object
after the other never waits.  The chunks in the master's answer must add up to the object before anything is
fetched (`exact`), and every byte is checked against the CRC in the catalog.  An object with a problem in a
shared answer (a moved needle, damage, a broken connection) is read again alone, which also finds the cause.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import msgspec
import trio
from crc32c import crc32c

from warehouse.client.control import Control, back_off_s
from warehouse.client.headers import FAILURE_SIZE_MAX, Header, key_size, read_failure
from warehouse.client.reading.exact import require_consistent
from warehouse.errors import (
    BadRequest,
    CatalogBehind,
    LinkDown,
    NoSuchObject,
    ObjectInconsistent,
    PermissionDenied,
    StoreError,
    VolumeOffline,
)
from warehouse.transport.http.batch_format import FRAME, GET_ROUTE, STATE_OK, encode_ids, read_frames
from warehouse.transport.http.latch import Latch
from warehouse.transport.http.pool import HttpPool
from warehouse.transport.messages import Chunk, LocateObjects, ObjectInfo, ObjectsLocated, ReadGrant

log = logging.getLogger(__name__)

BATCH_MAX = 500  # keys of one LocateObjects
CHUNKS_AT_ONCE = 8192  # of all objects in one answer
GRANT_MARGIN_S = 5.0
RESTART_S = 6.0  # slightly longer than the master reports a disk as "back soon"
RESTART_POLL_S = 0.05
INCONSISTENT_TRIES = 4  # a master of release 0.1.0 may mix two versions of an object
# Of gets that share a request: larger objects gain less, and would delay the small ones.
SHARED_SIZE_MAX = 64 * 1024
SHARED_BYTES_MAX = 1024 * 1024
SHARED_COUNT_MAX = 128


@dataclass(frozen=True, slots=True)
class Grant:
    """A `ReadGrant`, prepared for requests."""

    url: str
    authorization: Header
    expires_s: float

    @classmethod
    def of(cls, grant: ReadGrant, now_s: float) -> Self:
        margin_s = min(GRANT_MARGIN_S, grant.expires_in_s / 4)
        return cls(
            grant.url, ("Authorization", f"Bearer {grant.token}"), now_s + grant.expires_in_s - margin_s
        )


class Located(msgspec.Struct, frozen=True):
    """The place of one object, and the rights to read it; all objects of one answer share the grants."""

    bucket: str
    info: ObjectInfo
    grants: dict[int, Grant]
    offline: dict[int, str]
    back_soon: list[int]

    @property
    def is_back_soon(self) -> bool:
        return bool(self.back_soon) and any(chunk.volume_id in self.back_soon for chunk in self.info.chunks)

    def grant_for(self, volume_id: int) -> Grant:
        grant = self.grants.get(volume_id)
        if grant is None:
            disk = self.offline.get(volume_id)
            where = f"disk {disk!r}" if disk else f"the disk of volume {volume_id}"
            raise VolumeOffline(f"{where} is offline; it has bytes of {self.bucket}/{self.info.key}")
        return grant


class Wants(enum.Enum):
    """What a question is about."""

    PLACE = enum.auto()
    SHARED_DATA = enum.auto()  # the bytes as well, if others are fetched at the same moment
    DATA = enum.auto()  # the bytes as well, if the object is small


class Question:
    """One key on its way to the master, and to a volume.

    Attributes:
        latch: opens when there is an answer; for one waiter.
    """

    __slots__ = ("_bucket", "data", "error", "key", "latch", "located", "wants", "why_unknown")

    def __init__(self, bucket: str, key: str, wants: Wants) -> None:
        self._bucket = bucket
        self.key = key
        self.wants = wants
        self.latch = Latch(1)
        self.located: Located | None = None
        self.data: bytes | None = None
        self.error: StoreError | None = None
        self.why_unknown = ""  # as `ObjectsLocated.why_unknown`

    @property
    def is_answered(self) -> bool:
        return not self.latch.left_count

    def settle(self) -> None:
        """Let the asker go on; again: nothing."""
        if self.latch.left_count:
            self.latch.count_down()

    def answer(self) -> tuple[Located, bytes | None]:
        """Where the object is, and its checked bytes if they were wanted and nothing was in the way.

        Raises:
            NoSuchObject, NoSuchBucket, PermissionDenied.
            ObjectInconsistent: another question may have a better answer.
            StoreError: the master did not answer, or refused.
        """
        if self.error is not None:  # one error, many callers: each raises its own copy
            raise type(self.error)(self.error.message) from self.error
        if self.located is None:
            raise absence(self._bucket, self.key, self.why_unknown)
        return self.located, self.data


def absence(bucket: str, key: str, why_unknown: str) -> StoreError:
    """The error for an object that the master does not know."""
    if why_unknown:
        return CatalogBehind(
            f"it is not known whether bucket {bucket!r} has an object {key!r}: {why_unknown}"
        )
    return NoSuchObject(f"bucket {bucket!r} has no object {key!r}")


def denial(bucket: str, key: str) -> PermissionDenied:
    """The error for an object that this API key may not read, whether there is one or not."""
    return PermissionDenied(f"this key has no read right on bucket {bucket!r} for {key!r}")


class Locator:
    """Locates objects of one bucket, many with one request."""

    def __init__(self, bucket: str, control: Control, pool: HttpPool, nursery: trio.Nursery) -> None:
        self._bucket = bucket
        self._control = control
        self._pool = pool
        self._nursery = nursery
        self._waiting: list[Question] = []
        self._is_asking = False

    async def locate(self, key: str) -> Located:
        """Locate an object; wait for a disk that went offline a moment ago.

        Raises:
            BadKey, NoSuchObject, NoSuchBucket, PermissionDenied.
        """
        return (await self._answer(key, Wants.PLACE))[0]

    async def locate_and_fetch(self, key: str) -> tuple[Located, bytes | None]:
        """As `locate`; also the checked bytes, if other small objects are fetched at the same moment."""
        return await self._answer(key, Wants.SHARED_DATA)

    def begin(self, key: str, wants: Wants) -> Question:
        """Ask, without waiting for the answer; nor for a disk that went offline a moment ago.

        Raises:
            BadKey.
        """
        key_size(key)
        # msgpack refuses subclasses, and other keys share the message.
        question = Question(self._bucket, str.__str__(key), wants)
        if not self._is_asking:
            if self._nursery.cancel_scope.cancel_called:
                question.error = LinkDown("the client was closed before the master was asked")
                question.settle()
                return question
            self._is_asking = True
            self._nursery.start_soon(self._ask_until_quiet)
        self._waiting.append(question)
        return question

    async def _answer(self, key: str, wants: Wants) -> tuple[Located, bytes | None]:
        deadline = trio.current_time() + RESTART_S
        inconsistent_count = 0
        while True:
            try:
                question = self.begin(key, wants)
                await question.latch.wait()
                located, data = question.answer()
            except ObjectInconsistent:
                inconsistent_count += 1
                if inconsistent_count == INCONSISTENT_TRIES:
                    raise
                await trio.sleep(back_off_s(inconsistent_count))
                continue
            if not located.is_back_soon or trio.current_time() >= deadline:
                return located, data
            await trio.sleep(RESTART_POLL_S)

    async def _ask_until_quiet(self) -> None:
        # In its own task: one caller may be cancelled while the others still need their answer.
        batch: list[Question] = []
        try:
            while self._waiting:
                await self._gather()
                batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
                await self._ask(batch)
        except BaseException:
            rest, self._waiting = [*batch, *self._waiting], []
            for question in rest:
                if question.located is None and not question.is_answered:
                    question.error = LinkDown("the client was closed before the master answered")
                question.settle()
            raise
        finally:
            self._is_asking = False

    async def _gather(self) -> None:
        """Let whoever begins at this moment join.

        A server that takes request after request has its turns between ours.  As long as they bring
        questions, a message now would be followed at once by another one.
        """
        count = 0
        while count < len(self._waiting) < BATCH_MAX:
            count = len(self._waiting)
            await trio.lowlevel.checkpoint()

    async def _ask(self, batch: list[Question]) -> None:
        try:
            answer = await ask_where(self._control, self._bucket, [question.key for question in batch])
        except StoreError as error:
            for question in batch:
                question.error = error
                question.settle()
            return
        now_s = trio.current_time()
        page: dict[int, ReadGrant] | None = None
        grants: dict[int, Grant] = {}
        shared: dict[int, list[Question]] = {}
        for position, (question, info, granted) in enumerate(
            zip(batch, answer.objects, answer.grants, strict=True)
        ):
            if granted is not page:  # nearly always all are of one page
                self._share_all(grants, shared)
                page, shared = granted, {}
                grants = {volume_id: Grant.of(grant, now_s) for volume_id, grant in granted.items()}
            if position in answer.denied:
                question.error = denial(self._bucket, question.key)
            elif info is None:
                question.why_unknown = answer.why_unknown
            else:
                try:
                    require_consistent(info, question.key)
                except StoreError as error:
                    question.error = error
                    question.settle()
                    continue
                question.located = Located(self._bucket, info, grants, answer.offline, answer.back_soon)
                if (
                    question.wants is not Wants.PLACE
                    and info.chunk_count == 1
                    and 0 < info.size <= SHARED_SIZE_MAX
                ):
                    shared.setdefault(info.chunks[0].volume_id, []).append(question)
                    continue
            question.settle()
        self._share_all(grants, shared)

    # --- fetching together ------------------------------------------------------------------------

    def _share_all(self, grants: Mapping[int, Grant], groups: Mapping[int, list[Question]]) -> None:
        for volume_id, group in groups.items():
            self._share(grants.get(volume_id), group)

    def _share(self, grant: Grant | None, group: list[Question]) -> None:
        while grant is not None and (len(group) > 1 or (group and group[0].wants is Wants.DATA)):
            size = count = 0
            for question in group[:SHARED_COUNT_MAX]:
                size += _chunk_of(question).size
                if size > SHARED_BYTES_MAX:
                    break
                count += 1
            self._nursery.start_soon(self._fetch, grant, group[:count])
            group = group[count:]
        for question in group:  # no grant, or a single object whose caller fetches it
            question.settle()

    async def _fetch(self, grant: Grant, group: list[Question]) -> None:
        try:
            chunks = [_chunk_of(question) for question in group]
            found = await fetch_together(self._pool, grant, chunks)
            for question, data in zip(group, found, strict=True):
                question.data = data
        except StoreError as error:
            log.debug("gets not shared", extra={"count": len(group), "cause": error.message})
        finally:
            for question in group:
                question.settle()


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where some objects are; the fields as in `ObjectsLocated`.

    Attributes:
        grants: of each object, by volume: those of the message that located it, for they may be for its
            objects alone.
    """

    objects: list[ObjectInfo | None]
    grants: list[dict[int, ReadGrant]]
    offline: dict[int, str]
    back_soon: list[int]
    why_unknown: str
    denied: set[int]  # positions

    def distinct_grants(self) -> list[dict[int, ReadGrant]]:
        """The grants of each message."""
        return [*{id(grants): grants for grants in self.grants}.values()]


async def ask_where(control: Control, bucket: str, keys: Sequence[str]) -> Whereabouts:
    """Locate objects with as many messages as needed; return one entry per key, with all its chunks.

    Raises:
        ObjectInconsistent: an object of very many chunks was replaced between two messages.
        BadRequest: the master answered for another number of keys than we asked for.
        StoreError: the master refused the request.
    """
    objects: list[ObjectInfo | None] = []
    grants: list[dict[int, ReadGrant]] = []
    pages: list[ObjectsLocated] = []
    denied: set[int] = set()
    while not pages or len(objects) < len(keys):
        page = await _ask_where(control, bucket, keys[len(objects) :])
        pages.append(page)
        denied |= {len(objects) + position for position in page.denied}
        grants += [_by_volume([page])] * len(page.objects)
        found = [*page.objects]
        if found and (first := found[0]) is not None and not _is_whole(first):
            found[0], more = await _all_chunks(control, bucket, first)
            grants[len(objects)] = _by_volume([page, *more])
            pages += more
        objects += found
    return Whereabouts(
        objects=objects,
        grants=grants,
        offline={volume_id: disk for page in pages for volume_id, disk in page.offline.items()},
        back_soon=[*{volume_id for page in pages for volume_id in page.back_soon}],
        why_unknown=next((page.why_unknown for page in pages if page.why_unknown), ""),
        denied=denied,
    )


def _by_volume(pages: Sequence[ObjectsLocated]) -> dict[int, ReadGrant]:
    return {grant.volume_id: grant for page in pages for grant in page.grants}


async def _ask_where(
    control: Control, bucket: str, keys: Sequence[str], first_chunk: int = 0
) -> ObjectsLocated:
    request = LocateObjects(bucket=bucket, keys=[*keys], chunk_limit=CHUNKS_AT_ONCE, first_chunk=first_chunk)
    answer = await control.ask(request, ObjectsLocated)
    if len(answer.objects) > len(keys) or (keys and not answer.objects):
        raise BadRequest(f"asked for {len(keys)} objects, the master answered {len(answer.objects)}")
    return answer


def _is_whole(info: ObjectInfo | None) -> bool:
    return info is None or len(info.chunks) >= info.chunk_count


async def _all_chunks(
    control: Control, bucket: str, info: ObjectInfo
) -> tuple[ObjectInfo, list[ObjectsLocated]]:
    """Complete an object of which an answer has only the first chunks; return it with the further answers."""
    chunks, pages = [*info.chunks], []
    while len(chunks) < info.chunk_count:
        page = await _ask_where(control, bucket, [info.key], len(chunks))
        more = page.objects[0]
        if more is None or (more.etag, more.created_ms) != (info.etag, info.created_ms) or not more.chunks:
            raise ObjectInconsistent(f"{bucket}/{info.key} was replaced while its chunks were located")
        chunks += more.chunks
        pages.append(page)
    return msgspec.structs.replace(info, chunks=chunks), pages


async def fetch_together(pool: HttpPool, grant: Grant, chunks: Sequence[Chunk]) -> list[bytes | None]:
    """Fetch chunks of one volume with one request and check them; None for a chunk with a problem.

    Raises:
        BodyTooLarge: the answer is longer than these chunks.
        StoreError: no answer came, or the whole request was refused.
    """
    needle_ids = [chunk.needle_id for chunk in chunks]
    size = sum(chunk.size + FRAME.size for chunk in chunks)
    status, _, body = await pool.request(
        "POST",
        grant.url,
        GET_ROUTE,
        headers=(grant.authorization,),
        body=encode_ids(needle_ids),
        response_size_max=max(size, FAILURE_SIZE_MAX),
    )
    if status != 200:
        raise read_failure(status, body)
    found: list[bytes | None] = []
    for chunk, frame in zip(chunks, read_frames(body, needle_ids), strict=True):
        is_whole = frame.state == STATE_OK and len(frame.data) == chunk.size
        found.append(bytes(frame.data) if is_whole and crc32c(frame.data) == chunk.crc else None)
    return found


def _chunk_of(question: Question) -> Chunk:
    assert question.located is not None
    return question.located.info.chunks[0]
