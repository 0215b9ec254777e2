"""Deletions: delete many files or objects, after checking that the user means it.

`judge` is pure: from what a command would delete and keep, and from its options, it decides to go ahead, to
ask, or to refuse.  A mistyped source looks like an empty one, or like one that has nothing in common with the
target, so both need more than --delete.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from warehouse.cli.output.formats import format_count
from warehouse.cli.usage import UsageError
from warehouse.client.bucket import Bucket
from warehouse.errors import DeletionRefused, OutcomeUnknown

DELETE_BATCH = 1000
ATTEMPTS = 5
FEW = 10  # up to this number is deleted without a question, unless nothing would remain


async def delete_batch(bucket: Bucket, keys: Sequence[str]) -> Sequence[bool]:
    """Delete up to `DELETE_BATCH` objects, again if the answer is lost; return whether each existed."""
    for _ in range(ATTEMPTS - 1):
        try:
            return await bucket.delete_many(keys)
        except OutcomeUnknown:
            continue
    return await bucket.delete_many(keys)


# --- whether --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Limit:
    """The largest deletion that is allowed: a count, or a share of the files of the target."""

    count: int | None = None
    percent: float | None = None

    def allows(self, deleted: int, there: int) -> bool:
        if self.count is not None:
            return deleted <= self.count
        assert self.percent is not None
        return deleted * 100 <= self.percent * there

    def __str__(self) -> str:
        return str(self.count) if self.count is not None else f"{self.percent:g}%"


def parse_limit(text: str) -> Limit:
    """`"100"` or `"5%"`."""
    found = re.fullmatch(r"([0-9]+)|([0-9]+(?:\.[0-9]+)?)%", text.strip())
    if found is None or (found[2] is not None and float(found[2]) > 100):
        raise UsageError(
            f"--max-delete must be a number of files or a share, such as 100 or 5%, not {text!r}"
        )
    return Limit(count=int(found[1])) if found[1] is not None else Limit(percent=float(found[2]))


@dataclass(frozen=True)
class Wish:
    """The options about deletions."""

    limit: Limit | None = None  # --max-delete
    is_sure: bool = False  # --yes
    may_be_empty: bool = False  # --allow-empty-source


@dataclass(frozen=True)
class Case:
    """What a `sync --delete` would do."""

    source: str
    target: str
    source_count: int  # files that the source has
    surplus_count: int  # files that only the target has
    kept_count: int  # files that both have

    @property
    def there_count(self) -> int:
        return self.surplus_count + self.kept_count


def judge(case: Case, wish: Wish) -> str | None:
    """Decide about a deletion: None is yes; a text is a question to ask first.

    Raises:
        DeletionRefused: the source is empty, or `--max-delete` allows fewer deletions.
    """
    if not case.surplus_count:
        return None
    would = f"all {format_count(case.surplus_count, 'file')} of {case.target}"
    if case.kept_count:
        would = f"{case.surplus_count:,} of {format_count(case.there_count, 'file')} in {case.target}"
    if not case.source_count and not wish.may_be_empty:
        raise DeletionRefused(
            f"{case.source} is empty, so --delete would delete {would}; nothing was deleted. "
            "Is the source mistyped, or not mounted? If it is meant to be empty, add --allow-empty-source"
        )
    if wish.limit is not None:
        if not wish.limit.allows(case.surplus_count, case.there_count):
            raise DeletionRefused(
                f"--delete would delete {would}, which is more than --max-delete {wish.limit}; "
                "nothing was deleted"
            )
        return None
    if wish.is_sure or not case.source_count:
        return None
    is_all = not case.kept_count and case.surplus_count > 1
    is_much = case.surplus_count > FEW and case.surplus_count > case.kept_count
    return f"Delete {would}?" if is_all or is_much else None


async def require_yes(question: str | None, *, can_ask: bool, outcome: str = "nothing was deleted") -> None:
    """Ask the user at the terminal.

    Args:
        outcome: what happens without a yes.
    Raises:
        DeletionRefused: the answer is no, or nobody can be asked.
    """
    if question is None:
        return
    asked = question.removesuffix("?")
    if not can_ask or not is_terminal():
        raise DeletionRefused(f"{asked}: without a terminal this needs --yes; {outcome}")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    answer = await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
    if answer.strip().lower() not in ("y", "yes"):
        raise DeletionRefused(f"{asked}: the answer was no; {outcome}")


def is_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr is not None and sys.stderr.isatty()
