"""Journal: every request is counted when it ends, and written down where the operator wishes.

    begin           its head has come
    answered        its answer has gone
    refused         it is refused, by a handler or before one was asked (`refusing.py`)
    cut             its answer broke off, or the gateway stops

A request ends once.  Between its beginning and its end the record lies with its connection.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence

from warehouse.gateway.records import Record, line_of
from warehouse.transport.http.exchange import Exchange

# Upper ends of the classes of durations, in seconds; the last one has none.
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 120.0)
CUT = "Cut"
_RECORD = "record"


def record_of(exchange: Exchange) -> Record:
    """The record of a request that has begun, for whoever learns something about it."""
    record: Record = exchange.connection_state[_RECORD]
    return record


def _agent_of(exchange: Exchange) -> str:
    agent = exchange.headers.get(b"user-agent")
    return "" if agent is None else agent.decode("utf-8", "replace")


def cors_of(exchange: Exchange | None) -> Sequence[tuple[bytes, bytes]]:
    """What the answer to a request says to a browser; nothing, where the request could not be read."""
    record: Record | None = None if exchange is None else exchange.connection_state.get(_RECORD)
    return () if record is None else record.cors


class Durations:
    """How long requests took: counts by class, and their sum in seconds."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        self.sum_s += seconds
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1


class Journal:
    """
    Args:
        write: takes lines for the access log; None: there is none.

    Attributes:
        requests: how many have ended, by operation and status.
        refusals: how many were refused, by S3's code.
        received, sent: bytes of bodies, by operation.
    """

    def __init__(self, write: Callable[[bytes], None] | None = None) -> None:
        self._write = write
        self.open_count = 0
        self.requests: Counter[tuple[str, int]] = Counter()
        self.refusals: Counter[str] = Counter()
        self.cut_count = 0
        self.received: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.durations: dict[str, Durations] = {}

    def begin(self, exchange: Exchange) -> None:
        exchange.connection_state[_RECORD] = Record(
            time.time(),
            time.monotonic(),
            request_id=exchange.request_id,
            method=exchange.method.decode("latin-1"),
            address=exchange.peer,
            agent=_agent_of(exchange),
        )
        self.open_count += 1

    def answered(self, exchange: Exchange) -> None:
        record = self._taken(exchange)
        if record is not None:
            self._end(record, exchange, exchange.status)

    def refused(self, exchange: Exchange | None, request_id: str, status: int, code: str, size: int) -> None:
        """
        Args:
            exchange: None where the head of the request cannot be read.
            size: of the error document, in bytes.
        """
        record = None if exchange is None else self._taken(exchange)
        if record is None:
            record = Record(time.time(), time.monotonic(), request_id=request_id)
            self.open_count += 1
        self.refusals[code] += 1
        record.code = code
        if exchange is None or exchange.method != b"HEAD":
            record.bytes_out = size
        self._end(record, exchange, status)

    def cut(self, exchange: Exchange) -> None:
        record = self._taken(exchange)
        if record is not None:
            self.cut_count += 1
            record.code = CUT
            self._end(record, exchange, exchange.status)

    def _taken(self, exchange: Exchange) -> Record | None:
        record: Record | None = exchange.connection_state.pop(_RECORD, None)
        return record

    def _end(self, record: Record, exchange: Exchange | None, status: int) -> None:
        self.open_count -= 1
        record.status = status
        record.duration_s = time.monotonic() - record.begun_s
        if exchange is not None:
            record.bytes_in = (
                record.received if exchange.is_chunked else exchange.content_length - exchange.body_left
            )
            record.bytes_out = record.bytes_out or exchange.sent_size
        operation = record.operation
        self.requests[operation, status] += 1
        if record.bytes_in:
            self.received[operation] += record.bytes_in
        if record.bytes_out:
            self.sent[operation] += record.bytes_out
        durations = self.durations.get(operation)
        if durations is None:
            durations = self.durations[operation] = Durations()
        durations.add(record.duration_s)
        if self._write is not None:
            self._write(line_of(record))
