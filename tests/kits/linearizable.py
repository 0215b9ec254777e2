"""Linearizable: did all clients see one order of versions, with each answer somewhere between its call and return?

A history is judged key by key, which is enough: a store of keys is linearizable when each key is.  The state of
a key is the value that it holds, or None; every put has a value of its own.

    answered            took effect once, between its call and its return
    OUTCOME_UNKNOWN     took effect once, between its call and `LATE_S` behind its return, or never
    any other error     did nothing

The method is the one of Wing and Gong, with Lowe's order: a set of configurations (state, operations under way
that have taken effect) follows the calls and returns.  At a return only those stay in which the operation has
taken effect; where it has not, everything under way is tried before it.  An empty set is a violation.

Source: Wing and Gong, "Testing and verifying concurrent objects", JPDC 1993; Lowe, "Testing for
linearizability", CCPE 2017.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LATE_S = 30.0  # a put of unknown outcome is confirmed within 15 s, or never; a frozen actor adds to that
CONFIGURATIONS_MAX = 200_000


class Kind(enum.Enum):
    PUT = "put"
    PUT_IF_ABSENT = "put_if_absent"
    PUT_IF_MATCH = "put_if_match"
    DELETE = "delete"
    DELETE_IF_MATCH = "delete_if_match"
    READ = "read"


class Outcome(enum.Enum):
    DONE = "done"
    UNMET = "unmet"  # the condition did not hold
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Operation:
    key: str
    kind: Kind
    called_s: float
    returned_s: float
    outcome: Outcome = Outcome.DONE
    value: str | None = None  # what a put stores, what a read saw
    expected: str | None = None  # the value whose ETag a condition names
    existed: bool | None = None  # what a delete answered
    who: str = ""

    def __str__(self) -> str:
        words = [self.kind.value, self.outcome.value, f"value={self.value}"]
        if self.expected is not None:
            words.append(f"expected={self.expected}")
        if self.existed is not None:
            words.append(f"existed={self.existed}")
        return f"{self.called_s:.4f} .. {self.returned_s:.4f} {self.who} {' '.join(words)}"


class Impossible(Exception):
    """In this state the operation cannot have had the outcome that it had."""


@dataclass(frozen=True)
class Violation:
    """No order explains this operation, nor what led up to it."""

    operation: Operation
    near: Sequence[Operation]  # those of the same key that overlap it, or come shortly before it

    def __str__(self) -> str:
        lines = [f"key {self.operation.key}: nothing explains the operation marked with >>"]
        for other in self.near:
            lines.append(f"{'>>' if other is self.operation else '  '} {other}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Verdict:
    operation_count: int
    key_count: int
    violations: list[Violation]
    undecided: list[str]  # keys with too many possible orders


def after(operation: Operation, state: str | None) -> str | None:
    """The state that a write leaves behind.  Raises Impossible."""
    kind, outcome = operation.kind, operation.outcome
    match kind:
        case Kind.PUT:
            holds = True
        case Kind.DELETE:
            holds = True
        case Kind.PUT_IF_ABSENT:
            holds = state is None
        case Kind.PUT_IF_MATCH:
            holds = state is not None and state == operation.expected
        case Kind.DELETE_IF_MATCH:
            holds = state is None or state == operation.expected
        case _:
            raise AssertionError(kind)
    if outcome is not Outcome.UNKNOWN and holds != (outcome is Outcome.DONE):
        raise Impossible
    if not holds:
        return state
    if kind in (Kind.DELETE, Kind.DELETE_IF_MATCH):
        if outcome is Outcome.DONE and operation.existed != (state is not None):
            raise Impossible
        return None
    return operation.value


class TooMany(Exception):
    """More possible orders than this checker wants to follow."""


Configuration = tuple[str | None, frozenset[int]]


class _Key:
    """Follows one key."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._operations = operations
        self._configurations: set[Configuration] = {(None, frozenset())}
        self._reads: dict[int, str | None] = {}  # under way
        self._writes: dict[int, Operation] = {}

    def follow(self) -> Operation | None:
        """The first operation that nothing explains."""
        events = []
        for number, operation in enumerate(self._operations):
            late_s = LATE_S if operation.outcome is Outcome.UNKNOWN else 0.0
            events.append((operation.called_s, 1, number))
            events.append((operation.returned_s + late_s, 0, number))
        for _, is_call, number in sorted(events):
            operation = self._operations[number]
            if is_call:
                self._call(number, operation)
            elif not self._return(number, operation):
                return operation
        return None

    def _call(self, number: int, operation: Operation) -> None:
        if operation.kind is Kind.READ:
            self._reads[number] = operation.value
            self._configurations = {self._seen(*one) for one in self._configurations}
        else:
            self._writes[number] = operation

    def _seen(self, state: str | None, done: frozenset[int]) -> Configuration:
        """A read changes nothing, so it has happened as soon as the state is what it saw."""
        seen = [number for number, value in self._reads.items() if value == state and number not in done]
        return state, done.union(seen) if seen else done

    def _return(self, number: int, operation: Operation) -> bool:
        is_unknown = operation.outcome is Outcome.UNKNOWN
        if not is_unknown and not all(number in done for _, done in self._configurations):
            self._try_all(number)
        self._configurations = {
            (state, done - {number}) for state, done in self._configurations if is_unknown or number in done
        }
        (self._reads if operation.kind is Kind.READ else self._writes).pop(number)
        return bool(self._configurations)

    def _try_all(self, number: int) -> None:
        """Every order of what is under way, up to where operation `number` has taken effect."""
        todo = [*self._configurations]
        while todo:
            state, done = todo.pop()
            if number in done:
                continue
            for other, operation in self._writes.items():
                if other in done:
                    continue
                try:
                    configuration = self._seen(after(operation, state), done | {other})
                except Impossible:
                    continue
                if configuration not in self._configurations:
                    self._configurations.add(configuration)
                    todo.append(configuration)
                    if len(self._configurations) > CONFIGURATIONS_MAX:
                        raise TooMany


def judge(history: Iterable[Operation]) -> Verdict:
    by_key: dict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        by_key[operation.key].append(operation)
    violations: list[Violation] = []
    undecided: list[str] = []
    for key, operations in sorted(by_key.items()):
        operations.sort(key=lambda one: one.called_s)
        try:
            unexplained = _Key(operations).follow()
        except TooMany:
            undecided.append(key)
            continue
        if unexplained is not None:
            violations.append(Violation(unexplained, _near(operations, unexplained)))
    return Verdict(sum(map(len, by_key.values())), len(by_key), violations, undecided)


def _near(operations: Sequence[Operation], center: Operation) -> list[Operation]:
    return [
        one
        for one in operations
        if one.returned_s >= center.called_s - 2.0 and one.called_s <= center.returned_s
    ][-40:]
