"""Messages about compaction and verification: orders to a compactor, and jobs as clients see them.

`Job` is public: programs hold it (`warehouse.Job`).
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from warehouse.transport.messages.base import Message
from warehouse.transport.messages.numbers import Boot, Id32, Signed, Stamp, Whole
from warehouse.transport.messages.texts import Many, Name, Page, Secret, Sentence, Word
from warehouse.transport.messages.volumes import NeedleDamage

TASK_ORPHANED_S = 30.0


class RegisterCompactor(Message, frozen=True, tag="register_compactor"):
    """A compactor's first words on every connection."""

    join_secret: Secret
    disk_id: Name
    disk_name: Name
    incarnation: Boot


class CompactorWelcome(Message, frozen=True, tag="compactor_welcome"):
    incarnation: Boot  # the master's: the compactor refuses orders of any other
    next_server_key: Word = ""  # as in `Attached`


class StartCopy(Message, frozen=True, tag="start_copy"):
    """Copy the live needles of a volume into the files of its next generation."""

    incarnation: Boot
    task_id: Whole
    volume_id: Id32
    uuid: Name
    generation: Id32  # to copy from
    end_offset: Whole = msgspec.field(name="upto")
    horizon: Stamp  # the copy need not keep records of deletions older than this
    rate: Signed | None  # as in PollTask


class StartVerify(Message, frozen=True, tag="start_verify"):
    """Read every needle of a volume and check it against its CRCs."""

    incarnation: Boot
    task_id: Whole
    volume_id: Id32
    uuid: Name
    generation: Id32
    start: Whole  # offset in the data file to go on from; 0: the beginning
    rate: Signed | None


class PollTask(Message, frozen=True, tag="poll_task"):
    """How far is the task?  A task gives up when nobody has asked for TASK_ORPHANED_S."""

    incarnation: Boot
    task_id: Whole
    rate: Signed | None  # bytes a second, read and written, from now on; 0: hold; None: as fast as it goes


class TaskState(Message, frozen=True, tag="task_state"):
    task_id: Whole
    state: Word  # "running", "done", "failed"
    done_bytes: Whole = 0  # of the data file that was copied from, or verified
    total_bytes: Whole = 0
    generation: Id32 = 0  # of the volume that it reads
    end_offset: Whole = msgspec.field(name="upto", default=0)  # in its data file; reached so far
    written_bytes: Whole = 0
    damages: Annotated[list[NeedleDamage], Page] = []  # all so far, at most DAMAGES_MAX
    damaged_count: Whole = 0
    code: Word | None = None  # why it failed
    message: Sentence = ""


class StopTask(Message, frozen=True, tag="stop_task"):
    """Give up a task and remove what it made; the answer comes when the task has ended."""

    incarnation: Boot
    task_id: Whole


class Job(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One compaction or verification of one volume."""

    job_id: Whole
    work: Word  # "compact", "verify"
    volume_id: Id32
    disk_name: Name
    origin: Word  # "operator", "policy"
    state: Word  # "queued", "copying", "switching", "verifying", "done", "failed", "cancelled"
    done_bytes: Whole = 0
    total_bytes: Whole = 0
    bytes_per_s: float = 0.0
    created_ms: Whole = 0
    started_ms: Whole = 0
    ended_ms: Whole = 0
    freed_bytes: Whole = 0  # what the disk got back
    pause_ms: float = 0.0  # for how long the switch kept writes of the volume waiting
    damaged_count: Whole = 0
    code: Word | None = None  # why it failed, or is waiting
    message: Sentence = ""
    wait_since_ms: Whole = 0  # when it began to wait for what `code` and `message` say; 0: it does not wait
    is_stalled: bool = False  # no progress for minutes

    @property
    def is_finished(self) -> bool:
        return self.state in ("done", "failed", "cancelled")


class StartJobs(Message, frozen=True, tag="start_jobs"):
    """Compact or verify volumes, one after the other on each disk.

    A volume that has an unfinished job of that work keeps it: the answer names that one.
    """

    work: Word  # "compact", "verify"
    volume_ids: Annotated[list[Signed], Many] = []
    is_all: bool = False
    is_forced: bool = False  # False: leave volumes alone that would give next to nothing back


class ListJobs(Message, frozen=True, tag="list_jobs"):
    job_ids: Annotated[list[Signed], Many] = []  # none: all unfinished ones, and the latest finished ones


class CancelJobs(Message, frozen=True, tag="cancel_jobs"):
    job_ids: Annotated[list[Signed], Many]


class Jobs(Message, frozen=True, tag="jobs"):
    """Answers StartJobs, ListJobs, CancelJobs and PauseJobs."""

    jobs: Annotated[list[Job], Many]
    is_paused: bool = False
    rest: Annotated[list[Whole], Many] = []  # numbers of jobs that did not fit: list these


class PauseJobs(Message, frozen=True, tag="pause_jobs"):
    """Pause all compaction and verification, or resume it; survives restarts."""

    is_paused: bool


class DecideOrphans(Message, frozen=True, tag="decide_orphans"):
    """Decide about needles that no object names, if they are too many for a crash; answered by Done."""

    decision: (
        Word  # "keep": set them aside, and go on with a catalog that is behind; "drop": they are garbage
    )
