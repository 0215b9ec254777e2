"""A volume behind a real HTTP server, and a master that commits whatever it is told of."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import crc32c
import trio

from http_harness import start_server
from warehouse.actors.data.chunk_lists import Ask
from warehouse.actors.data.cold_reads import ColdReads
from warehouse.actors.data.commit_pipeline import CommitPipeline
from warehouse.actors.data.needle_http import NeedleHttp
from warehouse.auth.data_tokens import DataClaims, DataTokenVerifier, sign_data_token
from warehouse.storage.disk import OsDisk
from warehouse.storage.files import data_path
from warehouse.storage.format.stamp import StampClock
from warehouse.storage.volume import Volume
from warehouse.transport.http.batch_format import (
    GET_ROUTE,
    PUT_ROUTE,
    Frame,
    Outcome,
    PutHead,
    decode_outcomes,
    encode_ids,
    encode_put_head,
    read_frames,
)
from warehouse.transport.http.pool import HttpPool
from warehouse.transport.messages import Commit, NeedlesCommitted, NeedlesStored, StoredNeedle
from warehouse.transport.zeromq.link import Link

KEY = b"k" * 32
INCARNATION = 7  # of the actor's run


def data_token(**claims: object) -> str:
    """Good for puts into the actor's volume for a minute, unless the claims say otherwise."""
    fields = {
        "operation": "put",
        "audience": "disk",
        "volume_id": 1,
        "expires_at_s": int(time.time()) + 60,
        "bucket_id": 1,
        "bucket": "b",
        **claims,
    }
    return sign_data_token(DataClaims(**fields), key_id="key", key=KEY)  # type: ignore[arg-type]


class Master:
    """Commits whatever it is told of."""

    def __init__(self) -> None:
        self.told: list[int] = []
        self.is_answering = trio.Event()  # put a fresh one here, and it answers when that is set
        self.is_answering.set()
        self.needles: list[StoredNeedle] = []
        self.real: Link | None = None  # asked in its place

    async def request(self, body: NeedlesStored, *, timeout_s: float) -> NeedlesCommitted:
        if self.real is not None:
            answer = await self.real.request(body, timeout_s=timeout_s)
            assert isinstance(answer, NeedlesCommitted)
            return answer
        await self.is_answering.wait()
        self.told.append(len(body.needles))
        self.needles += body.needles
        return NeedlesCommitted(commits=[Commit(f"e{needle.needle_id}") for needle in body.needles], stamp=1)


class Actor:
    """One volume behind a real HTTP server."""

    def __init__(
        self, folder: Path, ask_master: Ask | None = None, *, verifier: DataTokenVerifier | None = None
    ) -> None:
        self.volume = Volume.create(
            OsDisk(folder), "volumes/1", volume_id=1, uuid=str(uuid.uuid4()), capacity=2**30, created_ms=0
        )
        self.path = folder / data_path("volumes/1", 1)
        self.master = Master()
        clock = StampClock()
        self.pipeline = CommitPipeline(
            self.volume,
            self.master,  # type: ignore[arg-type]
            clock,
            is_synced=True,
            on_master_stamp=clock.observe,
        )
        self.pool = HttpPool()
        self.cold_reads = ColdReads()
        self.verifier = verifier or DataTokenVerifier("disk", {"key": KEY})
        self.http = NeedleHttp(
            pipelines={1: self.pipeline},
            broken={},
            verifier=self.verifier,
            incarnation=INCARNATION,
            clock=clock,
            pool=self.pool,
            is_ready=lambda: True,
            cold_reads=self.cold_reads,
            ask_master=ask_master,
        )
        self.url = ""

    def authorization(self, **claims: object) -> tuple[str, str]:
        return ("Authorization", f"Bearer {data_token(**claims)}")

    async def post(self, route: str, body: bytes, **claims: object) -> bytes:
        headers = [self.authorization(**claims)]
        status, _, content = await self.pool.request("POST", self.url, route, headers=headers, body=body)
        assert status == 200, content
        return content

    async def put(self, bodies: dict[int, bytes]) -> list[Outcome]:
        parts = []
        for needle_id, data in bodies.items():
            parts += (
                encode_put_head(PutHead(needle_id, f"k{needle_id}", len(data), crc32c.crc32c(data))),
                data,
            )
        answer = await self.post(PUT_ROUTE, b"".join(parts), lease_id=1, room=2**40)
        return decode_outcomes(answer, len(bodies))

    async def get(self, needle_ids: list[int]) -> list[Frame]:
        answer = await self.post(GET_ROUTE, encode_ids(needle_ids), operation="get")
        return [*read_frames(answer, needle_ids)]

    async def get_one(self, needle_id: int) -> tuple[int, bytes]:
        """Status and body of a plain GET."""
        headers = [self.authorization(operation="get")]
        status, _, content = await self.pool.request(
            "GET", self.url, f"/v1/needles/1/{needle_id}", headers=headers
        )
        return status, content

    async def serve(self, nursery: trio.Nursery) -> None:
        """Until the nursery is cancelled."""
        await nursery.start(self.cold_reads.run)
        served = await start_server(nursery, self.http.handle, handle_nowait=self.http.get_nowait)
        self.url = served.url
        await nursery.start(self.pipeline.run)


@asynccontextmanager
async def serving_actor(
    folder: Path, nursery: trio.Nursery, ask_master: Ask | None = None
) -> AsyncIterator[Actor]:
    """An actor that serves until the end of the block, which cancels the nursery."""
    actor = Actor(folder, ask_master)
    await actor.serve(nursery)
    try:
        yield actor
    finally:
        with trio.CancelScope(shield=True):
            await actor.pool.aclose()
        nursery.cancel_scope.cancel()
        actor.volume.close()
