"""Compactor: copies and verifies the volumes of one disk, in the background.

    warehouse compactor --disk DIR --join FILE

The compactor works next to the volume actor of the same directory and never changes what the volume actor
owns.  A copy goes to files of the next generation, which the volume actor puts in place or removes; a
verification only reads.  The compactor does what the master asks, one attempt at a time, at the rate that the
master sets, and keeps nothing.  When the compactor dies its attempt is lost, and the volume actor removes the
files that the attempt made.

`background.attempt` leads an attempt, `storage` does the work; this file makes a process of them.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path

import trio

from warehouse.actors.background.attempt import Attempt, Work
from warehouse.actors.background.priority import yield_to_others
from warehouse.actors.node_key import join_with_token, node_key_path, wait_for_node_key
from warehouse.actors.process import (
    Announcer,
    add_common_arguments,
    add_disk_arguments,
    held_disk,
    run_actor,
    set_up_actor,
)
from warehouse.conf.arguments import Parser
from warehouse.conf.join import Join
from warehouse.conf.server_keys import ServerKeys
from warehouse.conf.settings import Settings
from warehouse.errors import BadRequest, NodeUnknown, NoSuchJob, RequestRefused, StaleIncarnation, VolumeBusy
from warehouse.storage.compaction.copying import Copy
from warehouse.storage.compaction.scrub import Scrub
from warehouse.storage.disk import OsDisk
from warehouse.storage.files import volume_directory
from warehouse.storage.identity import COMPACTOR_LOCK_NAME, DiskIdentity, read_identity
from warehouse.transport.messages import (
    Answer,
    CompactorWelcome,
    Done,
    PollTask,
    RegisterCompactor,
    Request,
    StartCopy,
    StartVerify,
    StopTask,
)
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.link import Link
from warehouse.transport.zeromq.server_keys import hear_next_key

log = logging.getLogger("warehouse.actors.compactor")  # run as a module it would be "__main__"

REGISTER_S = 10.0
IDENTITY_S = 0.2  # between looks for the identity of the disk, which its volume actor makes
LOOKS_IN_SILENCE = 10  # before the log says what is waited for: a wrong --disk looks the same


class Compactor:
    """The background work of one disk, and its link to the master."""

    def __init__(
        self,
        *,
        disk: OsDisk,
        disk_id: str,
        disk_name: str,
        join: Join,
        keys: CurveKeys,
        announcer: Announcer,
    ) -> None:
        self._disk = disk
        self._disk_id = disk_id
        self._disk_name = disk_name
        self._join = join
        self._announcer = announcer
        self._incarnation = time.time_ns() // 1_000_000  # greater than that of any earlier start
        self._master_incarnation = 0
        self._attempt: Attempt | None = None
        self._nursery: trio.Nursery | None = None
        self._server_keys = ServerKeys(join.server_key, join.path)
        self._link = Link(
            endpoint=join.master,
            server_key=join.server_key.encode(),
            keys=keys,
            name=f"compactor-{disk_id[:8]}",
            incarnation=self._incarnation,
            greet=self._greet,
            answer=self._answer,
            read_server_key=self._server_keys.reader,
        )

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await nursery.start(self._link.run)
            nursery.start_soon(self._announce)

    async def _announce(self) -> None:
        while True:
            try:
                await self._link.wait_up()
            except RequestRefused as error:
                if not self._announcer.is_ready:
                    raise  # a wrong join token: the process that started this one should learn of it now
                log.error("the master refuses this disk", extra={"cause": error.message})
                await trio.sleep(REGISTER_S)
            else:
                self._announcer.ready(disk=self._disk_name)
                await self._link.wait_down()

    # --- talking to the master --------------------------------------------------------------------

    async def _greet(self, link: Link) -> None:
        registration = RegisterCompactor(
            join_secret=self._join.secret,
            disk_id=self._disk_id,
            disk_name=self._disk_name,
            incarnation=self._incarnation,
        )
        try:
            welcome = await link.ask_now(registration, timeout_s=REGISTER_S)
        except NodeUnknown:
            await join_with_token(
                link, self._join, disk_id=self._disk_id, disk_name=self._disk_name, role="compactor"
            )
            welcome = await link.ask_now(registration, timeout_s=REGISTER_S)
        if not isinstance(welcome, CompactorWelcome):
            raise BadRequest(
                f"the master answered {type(welcome).__name__} to a registration, not CompactorWelcome"
            )
        if welcome.incarnation != self._master_incarnation and self._attempt is not None:
            # A new master counts attempts from 1 again, and has the files of unfinished copies removed.
            self._attempt.stop()
        self._master_incarnation = welcome.incarnation
        await hear_next_key(link, self._server_keys, welcome.next_server_key)
        log.info("registered with the master", extra={"master": self._join.master})

    async def _answer(self, request: Request) -> Answer:
        if not isinstance(request, StartCopy | StartVerify | PollTask | StopTask):
            raise BadRequest(f"a compactor does not answer {type(request).__name__}")
        if request.incarnation != self._master_incarnation:
            raise StaleIncarnation(
                f"registered with master {self._master_incarnation:x}, this came from {request.incarnation:x}"
            )
        if not isinstance(request, StopTask) and request.rate is not None and request.rate < 0:
            raise BadRequest(f"rate must be 0 or more bytes a second, not {request.rate}")
        if isinstance(request, StartCopy | StartVerify):
            return await self._start(request)
        attempt = self._attempt
        if attempt is None or attempt.attempt_id != request.task_id:
            raise NoSuchJob(f"the compactor of {self._disk_name} does not know attempt {request.task_id}")
        if isinstance(request, PollTask):
            return attempt.poll(request.rate)
        attempt.stop()
        await attempt.ended.wait()
        if self._attempt is attempt:
            self._attempt = None
        return Done()

    async def _start(self, request: StartCopy | StartVerify) -> Done:
        while (attempt := self._attempt) is not None:
            if attempt.is_stopping:
                await attempt.ended.wait()
                if self._attempt is attempt:
                    self._attempt = None
            elif attempt.attempt_id == request.task_id:
                return Done()  # the master asks twice when it did not get the answer
            elif not attempt.is_over:
                raise VolumeBusy(
                    f"the compactor of {self._disk_name} is busy with attempt {attempt.attempt_id}"
                )
            else:
                await attempt.ended.wait()  # the master knows already how it ended
                if self._attempt is attempt:
                    self._attempt = None
        assert self._nursery is not None
        self._attempt = self._make(request)
        self._nursery.start_soon(self._attempt.run)
        log.info(
            "attempt started",
            extra={
                "attempt_id": request.task_id,
                "volume_id": request.volume_id,
                "work": "copy" if isinstance(request, StartCopy) else "verify",
            },
        )
        return Done()

    def _make(self, request: StartCopy | StartVerify) -> Attempt:
        common = (self._disk, volume_directory(request.volume_id))
        start: Callable[[], Work]
        if isinstance(request, StartCopy):
            start = partial(
                Copy,
                *common,
                uuid=request.uuid,
                generation=request.generation,
                end_offset=request.end_offset,
                horizon=request.horizon,
            )
            reached = attrgetter("end_offset")
        else:
            start = partial(
                Scrub,
                *common,
                uuid=request.uuid,
                generation=request.generation,
                start=request.start,
            )
            reached = attrgetter("resume_at")
        return Attempt(
            request.task_id, generation=request.generation, start=start, reached=reached, rate=request.rate
        )


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="warehouse compactor",
        description="Copy and verify the volumes of one disk in the background, as the master asks.",
    )
    add_disk_arguments(parser, disk_help="the directory of a volume actor")
    add_common_arguments(parser)
    return parser


async def _main(arguments: argparse.Namespace, settings: Settings, announcer: Announcer) -> None:
    join = Join.load(arguments.join)
    identity = await _identity(arguments.disk)
    key_path = node_key_path(arguments.disk, arguments.node_key)
    # One compactor for each disk; several may verify a disk that is read-only.
    with held_disk(arguments.disk, COMPACTOR_LOCK_NAME) as is_read_only:
        # In a store whose machines still share a secret, a disk that nobody can write to has no key.
        has_none = is_read_only and join.secret and not key_path.exists()
        keys = CurveKeys.generate() if has_none else await wait_for_node_key(key_path)
        compactor = Compactor(
            disk=OsDisk(arguments.disk),
            disk_id=identity.disk_id,
            disk_name=arguments.disk.resolve().name,
            join=join,
            keys=keys,
            announcer=announcer,
        )
        await compactor.run()


async def _identity(directory: Path) -> DiskIdentity:
    """The identity of this disk; wait until its volume actor has written it."""
    looks = 0
    while (identity := await trio.to_thread.run_sync(read_identity, directory)) is None:
        looks += 1
        if looks == LOOKS_IN_SILENCE:
            log.info("waiting for the volume actor of the disk", extra={"directory": str(directory)})
        await trio.sleep(IDENTITY_S)
    return identity


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    settings = set_up_actor(arguments, name="compactor")
    yield_to_others()
    return run_actor(arguments, settings, _main)


if __name__ == "__main__":
    raise SystemExit(main())
