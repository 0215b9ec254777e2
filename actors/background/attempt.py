"""Attempt: the compactor's part of one attempt at a job: one copy, or one verification.

    running --last step--> done
       |---- an error, or the master no longer polls ----> failed
       `---- stop() ----> failed

The work itself is an object of `storage` that proceeds in steps of about 1 MiB, each in a thread.  Between
two steps the attempt keeps to its rate, and can be held or stopped.  An attempt that ends before it is done
removes what it made.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import trio

from warehouse.actors.background.throttle import Throttle
from warehouse.errors import DeadlineExceeded, StoreError
from warehouse.storage.recovery import Damage
from warehouse.transport.messages import DAMAGES_MAX, TASK_ORPHANED_S, NeedleDamage, TaskState
from warehouse.transport.zeromq.conversation import refusal_of_bug

log = logging.getLogger(__name__)


class Work(Protocol):
    """A copy or a scrub.  Its calls block, and only one may be under way."""

    @property
    def position(self) -> int: ...
    @property
    def end_offset(self) -> int: ...
    @property
    def read_bytes(self) -> int: ...
    @property
    def written_bytes(self) -> int: ...
    @property
    def damages(self) -> list[Damage]: ...
    @property
    def damaged_count(self) -> int: ...
    def step(self) -> bool:
        """Do about 1 MiB; False: the work is complete."""

    def close(self) -> None: ...
    def remove(self) -> None:
        """Remove what this work made."""


class Attempt:
    """
    Args:
        start: opens the work; called in a thread.
        reached: what `TaskState.end_offset` says of the work.
        rate: bytes read and written a second; 0: hold; None: unlimited.
    """

    def __init__(
        self,
        attempt_id: int,
        *,
        generation: int,
        start: Callable[[], Work],
        reached: Callable[[Work], int],
        rate: int | None,
    ) -> None:
        self.attempt_id = attempt_id
        self.ended = trio.Event()
        self.is_stopping = False
        self._generation = generation
        self._start = start
        self._reached = reached
        self._work: Work | None = None
        self._throttle = Throttle(rate, now=trio.current_time())
        self._rate_changed = trio.Event()
        self._scope = trio.CancelScope(deadline=trio.current_time() + TASK_ORPHANED_S)
        self._state = "running"
        self._code: str | None = None
        self._message = ""
        self._damages: list[NeedleDamage] = []

    @property
    def is_over(self) -> bool:
        """Whether `poll` tells how it ended; `ended` is set a moment later, when all is cleaned up."""
        return self._state != "running"

    def stop(self) -> None:
        """End after the present step; `ended` is set then."""
        self.is_stopping = True
        self._scope.cancel()

    def poll(self, rate: int | None) -> TaskState:
        """Tell the master how far the work is, and continue at the rate that it wants."""
        now = trio.current_time()
        self._scope.deadline = now + TASK_ORPHANED_S
        if rate != self._throttle.rate:
            self._throttle.set_rate(rate, now=now)
            changed, self._rate_changed = self._rate_changed, trio.Event()
            changed.set()
        return self._report()

    def _report(self) -> TaskState:
        work = self._work
        if work is None:
            return TaskState(
                task_id=self.attempt_id,
                state=self._state,
                generation=self._generation,
                code=self._code,
                message=self._message,
            )
        for damage in work.damages[len(self._damages) : DAMAGES_MAX]:
            self._damages.append(
                NeedleDamage(
                    volume_id=damage.volume_id,
                    offset=damage.offset,
                    problem=damage.problem,
                    needle_id=damage.needle_id,
                    bucket=damage.bucket,
                    key=damage.key,
                )
            )
        return TaskState(
            task_id=self.attempt_id,
            state=self._state,
            done_bytes=work.position,
            total_bytes=work.end_offset,
            generation=self._generation,
            end_offset=self._reached(work),
            written_bytes=work.written_bytes,
            damages=list(self._damages),
            damaged_count=work.damaged_count,
            code=self._code,
            message=self._message,
        )

    # --- life -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until the attempt is done, has failed or is stopped; raises nothing of its own."""
        try:
            with self._scope:
                await self._go_through()
            if self._scope.cancelled_caught and not self.is_stopping:
                self._fail(DeadlineExceeded.code, f"the master did not poll for {TASK_ORPHANED_S:.3g} s")
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._clean_up)
            if self._state == "running":  # stopped, or the process ends
                self._fail("stopped", "the attempt was stopped")
            self.ended.set()

    async def _go_through(self) -> None:
        try:
            await self._wait_for_turn()
            self._work = work = await trio.to_thread.run_sync(self._start)
            moved, is_complete = 0, False
            while not is_complete:
                await self._wait_for_turn()
                # Never abandoned: a cancellation waits for the step, so nothing removes files under it.
                is_complete = not await trio.to_thread.run_sync(work.step)
                moved_before, moved = moved, work.read_bytes + work.written_bytes
                self._throttle.spend(moved - moved_before, now=trio.current_time())
            self._state = "done"
        except StoreError as error:
            self._fail(error.code, error.message)
        except Exception as error:
            refusal = refusal_of_bug(error)
            self._fail(refusal.code, refusal.message)

    async def _wait_for_turn(self) -> None:
        while (wait_s := self._throttle.wait_s(now=trio.current_time())) > 0:
            with trio.move_on_after(wait_s):
                await self._rate_changed.wait()

    def _fail(self, code: str, message: str) -> None:
        self._state, self._code, self._message = "failed", code, message
        log.warning("attempt failed", extra={"attempt_id": self.attempt_id, "code": code, "cause": message})

    def _clean_up(self) -> None:
        work = self._work
        if work is None:
            return
        try:
            work.close()
            # The volume actor may have switched to a copy that is done.
            if self._state != "done":
                work.remove()
        except (StoreError, OSError) as error:
            log.error("not cleaned up", extra={"attempt_id": self.attempt_id, "cause": str(error)})
