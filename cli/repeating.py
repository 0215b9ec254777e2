"""Repeating: a command that prints the same again and again, in place on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

import trio
from cyclopts import Parameter

from warehouse.cli.output.formats import NUMBER_MAX, parse_number, parse_span
from warehouse.cli.output.objects import failure_line, say, say_failure
from warehouse.cli.usage import UsageError
from warehouse.errors import Unavailable

EVERY_S = 2.0
EVERY_S_MIN = 0.1
_HOME_AND_CLEAR = "\x1b[H\x1b[J"

Every = Annotated[str | None, Parameter(metavar="TIME", help="How often (2s).")]
Times = Annotated[str | None, Parameter(metavar="N", help="Stop after so many times.")]


@dataclass(frozen=True)
class Rhythm:
    every_s: float = EVERY_S
    times: int | None = None  # None: until Ctrl-C


def wanted(every: str | None, times: str | None) -> Rhythm:
    """Raises UsageError: they make no sense."""
    every_s = parse_span(every) if every is not None else EVERY_S
    if every_s < EVERY_S_MIN:
        raise UsageError(f"--every must be at least {EVERY_S_MIN} s, not {every}")
    return Rhythm(every_s, parse_number("--times", times, 1, NUMBER_MAX) if times is not None else None)


async def repeated(show: Callable[[], Awaitable[None]], rhythm: Rhythm, *, is_json: bool) -> None:
    """Call `show` again and again; a store that is away for a while is told, and asked again."""
    count = 0
    while True:
        if not is_json and sys.stdout.isatty():
            sys.stdout.write(_HOME_AND_CLEAR)
        elif not is_json and count:
            say("")
        try:
            await show()
        except Unavailable as error:
            if count == 0:
                raise
            say_failure(failure_line(error))
        sys.stdout.flush()
        count += 1
        if count == rhythm.times:
            return
        await trio.sleep(rhythm.every_s)
