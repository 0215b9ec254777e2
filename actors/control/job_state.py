"""One job: a compaction or a verification that somebody wants, from the wish to its end.

Pure bookkeeping: no waiting, no sockets, time is an argument (`now`: monotonic seconds, `now_ms`: wall
time).  A job is what is wanted; an attempt is one try at it, and a job may need several.

    stateDiagram-v2
        [*] --> queued
        queued --> copying: the turn of a compaction
        queued --> verifying: the turn of a verification
        queued --> cancelled: an operator cancels a job that waits
        copying --> switching: the copy is complete
        copying --> done: nothing to give back, or a lost answer hid that the switch took place
        copying --> queued: the attempt failed or was interrupted
        copying --> failed: the last attempt failed
        copying --> cancelled: an operator cancels a job that runs
        switching --> done: the volume actor serves the next generation
        switching --> queued: the attempt failed or was interrupted
        switching --> failed: the last attempt failed
        switching --> cancelled: an operator cancels a job that runs
        verifying --> done: every needle was read
        verifying --> queued: the attempt failed, was interrupted, or made way for another job
        verifying --> failed: the last attempt failed
        verifying --> cancelled: an operator cancels a job that runs
        done --> [*]
        failed --> [*]
        cancelled --> [*]

`MOVES` is the same as data, and `JobState.move_to` refuses every other move.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from warehouse.errors import StoreError
from warehouse.transport.messages import Job, NeedleDamage

OPERATOR, POLICY = "operator", "policy"
COMPACT, VERIFY = "compact", "verify"

PASSED_OVER_MAX = 4  # times that later jobs go ahead of a job that could run
STALLED_S = 300.0  # an unfinished job without progress for this long is stalled
SPEED_WINDOW_S = 5.0


class State(enum.StrEnum):
    """Where a job is; the values are on the wire and in events."""

    QUEUED = "queued"
    COPYING = "copying"  # the compactor writes the next generation
    SWITCHING = "switching"  # the volume actor puts the next generation in place
    VERIFYING = "verifying"  # the compactor reads every needle
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


_AFTER_AN_ATTEMPT = frozenset({State.DONE, State.QUEUED, State.FAILED, State.CANCELLED})

MOVES: Mapping[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.COPYING, State.VERIFYING, State.CANCELLED}),
    State.COPYING: _AFTER_AN_ATTEMPT | {State.SWITCHING},
    State.SWITCHING: _AFTER_AN_ATTEMPT,
    State.VERIFYING: _AFTER_AN_ATTEMPT,
    State.DONE: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
}
FINISHED = frozenset(state for state, following in MOVES.items() if not following)

# How far along an attempt is, for a job that may have had several.
_STAGES = {State.QUEUED: 0, State.COPYING: 1, State.VERIFYING: 1, State.SWITCHING: 2}


@dataclass
class JobState:
    """One job as the master knows it; `Job` is what others see of it."""

    job_id: int
    work: str
    volume_id: int
    disk_id: str
    disk_name: str
    origin: str
    created_ms: int
    done_bytes: int = 0
    total_bytes: int = 0
    bytes_per_s: float = 0.0
    started_ms: int = 0
    ended_ms: int = 0
    freed_bytes: int = 0
    pause_ms: float = 0.0
    damaged_count: int = 0
    code: str | None = None
    message: str = ""
    attempt_count: int = 0  # attempts that failed for a cause of their own
    interruption_count: int = 0  # attempts that ended because an actor went away
    not_before: float = 0.0
    passed_over_count: int = 0  # how often a later job went ahead of this one, or interrupted it
    is_forced: bool = True  # False: a compaction that would give next to nothing back is not worth doing
    wait_since_ms: int = 0  # since when the job waits for what its message says; 0: it does not wait
    is_stalled: bool = False
    # The latest attempt asked for a switch from this generation, of this many bytes.  The answer may be lost.
    switched_from: int = 0
    size_before: int = 0
    # What the pass of a verification has met so far, by needle id (or 0) and offset.
    found: dict[tuple[int, int], NeedleDamage] = field(default_factory=dict, repr=False)
    is_found_whole: bool = False  # `found` holds all damage from the start of the volume on
    saved_at: float = 0.0
    _state: State = field(default=State.QUEUED, init=False)
    _measured: tuple[float, int] | None = field(default=None, repr=False)
    _reason: str = field(default="", repr=False)
    # The furthest point that any attempt reached, and when: a new attempt is no progress.
    _furthest: tuple[int, int] = field(default=(0, 0), repr=False)
    _moved_at: float | None = field(default=None, repr=False)

    @property
    def state(self) -> State:
        return self._state

    def move_to(self, state: State) -> None:
        """Change the state; every other way to change it is a mistake of ours."""
        assert state in MOVES[self._state], f"job {self.job_id} may not go from {self._state} to {state}"
        self._state = state

    @property
    def noun(self) -> str:
        return "compaction" if self.work == COMPACT else "verification"

    @property
    def is_finished(self) -> bool:
        return self._state in FINISHED

    @property
    def is_running(self) -> bool:
        return self._state is not State.QUEUED and not self.is_finished

    @property
    def is_due(self) -> bool:
        return self.passed_over_count >= PASSED_OVER_MAX

    @property
    def rank(self) -> tuple[bool, bool, bool, int]:
        """Of two jobs, the job with the lower rank goes first."""
        if self.is_due:
            return (False, False, False, self.job_id)
        return (True, self.origin != OPERATOR, self.work != COMPACT, self.job_id)

    def yields_to(self, other: JobState) -> bool:
        """May `other` interrupt this job?  A verification continues later from where it was.

        Only a job of a better class may: among equals, the job that runs is finished first.
        """
        return self.work == VERIFY and not self.is_due and other.rank[:3] < self.rank[:3]

    def seen(self) -> Job:
        return Job(
            job_id=self.job_id,
            work=self.work,
            volume_id=self.volume_id,
            disk_name=self.disk_name,
            origin=self.origin,
            state=self._state.value,
            done_bytes=self.done_bytes,
            total_bytes=self.total_bytes,
            bytes_per_s=self.bytes_per_s,
            created_ms=self.created_ms,
            started_ms=self.started_ms,
            ended_ms=self.ended_ms,
            freed_bytes=self.freed_bytes,
            pause_ms=self.pause_ms,
            damaged_count=self.damaged_count,
            code=self.code,
            message=self.message,
            wait_since_ms=self.wait_since_ms,
            is_stalled=self.is_stalled,
        )

    def wait_because(
        self, error: StoreError | None, message: str = "", *, reason: str = "", now_ms: int = 0
    ) -> None:
        """Say why this queued job does not run yet.

        Args:
            reason: a word for it, where no error has a code.
            now_ms: when the wait begins, unless the job has waited for the same reason before.
        """
        self.code = error.code if error is not None else None
        self.message = error.message if error is not None else message
        reason = self.code or reason
        if not (reason and now_ms):
            self.wait_since_ms = 0
        elif reason != self._reason or not self.wait_since_ms:
            self.wait_since_ms = now_ms
        self._reason = reason

    def begin_attempt(self, *, now_ms: int) -> None:
        """An attempt begins to copy or to verify: forget how far the one before it came."""
        self.started_ms = now_ms
        self.done_bytes = self.total_bytes = 0
        self.bytes_per_s, self._measured = 0.0, None
        self.wait_because(None)

    def look_for_progress(self, *, now: float, is_excused: bool) -> bool:
        """Note whether this job came further; return whether it has just been found stalled.

        Args:
            is_excused: no progress is expected: all jobs are paused, or other jobs have their turn.
        """
        place = (_STAGES.get(self._state, 0), self.done_bytes)
        if self._moved_at is None or is_excused or place > self._furthest:
            self._furthest, self._moved_at = max(place, self._furthest), now
            self.is_stalled = False
        elif now - self._moved_at >= STALLED_S and not self.is_stalled:
            self.is_stalled = True
            return True
        return False

    def progress(self, done_bytes: int, total_bytes: int, *, now: float) -> None:
        self.total_bytes = total_bytes
        if self._measured is not None:
            at, before = self._measured
            passed = now - at
            if passed > 0:
                # Recent seconds weigh most: a change of rate shows soon, and single steps do not.
                weight = min(1.0, passed / SPEED_WINDOW_S)
                speed = max(0, done_bytes - before) / passed
                self.bytes_per_s += weight * (speed - self.bytes_per_s) if self.bytes_per_s else speed
        self._measured = (now, done_bytes)
        self.done_bytes = done_bytes
