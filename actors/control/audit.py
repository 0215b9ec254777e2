"""AuditLog: writes down who did what, in a thread of its own, and never makes the loop wait.

    note()  ->  a queue of 4 MiB  ->  the thread  ->  audit.jsonl

The thread hands each batch to the operating system with one write, and calls fsync(2) once a second, at a
rotation and at the end.  So the end of the process loses what the thread has not fetched yet (milliseconds),
and a power cut loses a second.

When a write fails, the thread keeps its lines and tries again every second, and the queue fills up behind it.
What a full queue does not take is lost and counted.  The count goes into the log itself, in its place between
the lines, when writing works again; into the metrics; and while it lasts, a trouble tells operators.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import trio

from warehouse.actors.control.audit_sampling import Allowance, Repeated, Repeats, Sampler
from warehouse.actors.control.troubles import Troubles
from warehouse.conf.audit_files import AUDIT_NAME, AuditFiles
from warehouse.conf.audit_lines import Value, encode_line, format_utc
from warehouse.conf.settings import Audit

log = logging.getLogger(__name__)

QUEUE_SIZE_MAX = 4 * 1024 * 1024  # bytes
RETRY_S = 1.0
SYNC_S = 1.0
STOP_S = 5.0  # for the last lines, when the master ends
LEFT_OUT_EVERY_S = 60.0
TROUBLE = "audit_failing"


class AuditWriter:
    """The thread, and what it shares with the loop.

    Args:
        on_failure: called in the thread with the cause when writing fails, and with None when it works again.
    """

    def __init__(
        self,
        files: AuditFiles,
        *,
        on_failure: Callable[[str | None], None],
        queue_size_max: int = QUEUE_SIZE_MAX,
        retry_s: float = RETRY_S,
    ) -> None:
        self.lost_count = 0  # since the start
        self.written_count = 0
        self.failure: str | None = None  # why the latest write failed; None: it did not
        self._files = files
        self._on_failure = on_failure
        self._queue_size_max = queue_size_max
        self._retry_s = retry_s
        self._changed = threading.Condition()  # guards what follows
        self._queue: list[bytes] = []
        self._queue_size = 0
        self._lost_unsaid = 0
        self._lost_since_s = 0.0
        self._lost_cause = ""
        self._is_ending = False
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    @property
    def queue_size(self) -> int:
        """Bytes that wait for the thread."""
        return self._queue_size

    def put(self, line: bytes) -> None:
        """Take a line, or lose it when the queue is full."""
        with self._changed:
            # Once a line is lost, all are until the loss has its place in the queue: so the order is kept.
            if self._lost_unsaid or self._queue_size + len(line) > self._queue_size_max:
                if not self._lost_unsaid:
                    self._lost_since_s = time.time()
                    self._lost_cause = self.failure or "too many lines at once"
                self._lost_unsaid += 1
                self.lost_count += 1
                return
            self._queue.append(line)
            self._queue_size += len(line)
            self._changed.notify()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write what is left, or give it up after `STOP_S`.  Blocks."""
        with self._changed:
            self._is_ending = True
            self._changed.notify()
        self._thread.join(STOP_S)

    # --- in the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._write_forever()
        except Exception as error:  # a bug: from here on the queue fills up, and what is lost is counted
            log.error("the audit log is not written any more", exc_info=error)
            self._set_failure(f"a bug: {error}")

    def _write_forever(self) -> None:
        sync_at: float | None = None
        while True:
            batch, count, is_ending = self._fetch(sync_at)
            if batch:
                if not self._write(batch, count):
                    break
                sync_at = sync_at or time.monotonic() + SYNC_S
            if is_ending or (sync_at is not None and time.monotonic() >= sync_at):
                self._sync()
                sync_at = None
            if is_ending and not batch:
                break
        self._files.close()

    def _fetch(self, sync_at: float | None) -> tuple[bytes, int, bool]:
        """Wait for lines, for `sync_at`, or for the end; return the lines, their number, and whether it is
        the end."""
        with self._changed:
            while not (self._queue or self._lost_unsaid or self._is_ending):
                left_s = None if sync_at is None else sync_at - time.monotonic()
                if left_s is not None and left_s <= 0:
                    break
                self._changed.wait(left_s)
            lines, self._queue, self._queue_size = self._queue, [], 0
            if self._lost_unsaid:
                lines.append(
                    encode_line(
                        "lines_lost",
                        {
                            "count": self._lost_unsaid,
                            "since": format_utc(self._lost_since_s),
                            "cause": self._lost_cause,
                        },
                    )
                )
                self._lost_unsaid = 0
            return b"".join(lines), len(lines), self._is_ending

    def _write(self, batch: bytes, count: int) -> bool:
        """Write a batch, however long it takes; False: the end came before."""
        while True:
            try:
                self._files.append(batch)
            except OSError as error:
                self._failed(error)
            else:
                self.written_count += count
                self._set_failure(None)
                return True
            with self._changed:
                if self._is_ending:
                    log.error("audit lines lost at the end", extra={"count": count + len(self._queue)})
                    return False
                self._changed.wait(self._retry_s)

    def _sync(self) -> None:
        try:
            self._files.sync()
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        self._set_failure(error.strerror or str(error))

    def _set_failure(self, failure: str | None) -> None:
        if failure != self.failure:
            self.failure = failure
            self._on_failure(failure)


class AuditLog:
    """
    Args:
        folder: of the master.
    """

    def __init__(self, folder: Path, settings: Audit, troubles: Troubles) -> None:
        self.path = folder / AUDIT_NAME
        self._troubles = troubles
        self._token: trio.lowlevel.TrioToken | None = None
        self._sampler = Sampler[tuple[str, str]](
            per_minute=settings.failures_per_minute, every=settings.sample, others=("others", "others")
        )
        self._repeats = Repeats(every=settings.sample)
        self.writer: AuditWriter | None = None
        if settings.enabled == "on":
            files = AuditFiles(self.path, size_max=settings.size, count_max=settings.files)
            self.writer = AuditWriter(files, on_failure=self._tell_failure)

    def figures(self) -> list[tuple[str, str, float]]:
        """Name, text and value of each metric."""
        writer = self.writer
        written, lost, queue = (
            (0, 0, 0) if writer is None else (writer.written_count, writer.lost_count, writer.queue_size)
        )
        is_failing = writer is not None and writer.failure is not None
        return [
            ("audit_lines", "Lines of the audit log written since the start", written),
            ("audit_lines_lost", "Lines of the audit log lost since the start", lost),
            ("audit_queue_bytes", "Bytes of the audit log that wait to be written", queue),
            ("audit_failing", "Whether the audit log cannot be written", is_failing),
        ]

    # --- lines ------------------------------------------------------------------------------------

    def note(self, action: str, **fields: Value) -> None:
        """Write a line soon; never waits, never raises.

        Args:
            action, fields: see `conf.audit_lines`.  `result` is "ok" if it is not given.
        """
        if self.writer is None:
            return
        try:
            self.writer.put(encode_line(action, fields))
        except (ValueError, TypeError, UnicodeError) as error:  # our mistake, and no reason to fail a request
            log.error("audit line cannot be written", exc_info=error, extra={"action": action})

    def note_refusal(self, action: str, *, result: str, address: str, **fields: Value) -> None:
        """As `note`, for something that anybody can repeat at will: of many, some are written."""
        left_out = self._sampler.admit((action, address), time.monotonic())
        if left_out is not None:
            self.note(action, result=result, address=address, left_out=left_out or None, **fields)

    def note_repeated(
        self, action: str, allowance: Allowance, *, key: str, address: str, **fields: Value
    ) -> None:
        """As `note`, for something that whoever has a key can repeat at will, and that changes nothing."""
        left_out = self._repeats.admit(Repeated(action, key, address), allowance, time.monotonic())
        if left_out is not None:
            self.note(action, key=key, address=address, left_out=left_out or None, **fields)

    def tell_left_out(self) -> None:
        """Write how many lines were left out, where no later line of their kind says it."""
        for (action, key, address), count in self._repeats.take_left_out().items():
            self.note("lines_left_out", of=action, key=key, address=address, left_out=count)
        for (action, address), count in self._sampler.take_left_out().items():
            self.note("lines_left_out", of=action, address=address, left_out=count)

    # --- life -------------------------------------------------------------------------------------

    def start(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        if self.writer is not None:
            self.writer.start()

    async def run(self) -> None:
        """Tell what was left out, once a minute, until cancelled."""
        while True:
            await trio.sleep(LEFT_OUT_EVERY_S)
            self.tell_left_out()

    async def aclose(self) -> None:
        """Write the last lines; takes at most `STOP_S`, also when the caller is cancelled."""
        self.tell_left_out()
        if self.writer is not None:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self.writer.stop)

    def _tell_failure(self, failure: str | None) -> None:
        """In the thread: have the loop tell operators."""
        if self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._note_failure, failure)

    def _note_failure(self, failure: str | None) -> None:
        if failure is None:
            self._troubles.over(TROUBLE, "audit")
            return
        self._troubles.tell(
            TROUBLE,
            "audit",
            f"the audit log {self.path} cannot be written ({failure}): its lines wait in memory, and are lost"
            " when there are too many; make room on that disk, or see to the file",
        )
