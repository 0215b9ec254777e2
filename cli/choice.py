"""Options that several commands share: which files of a folder are meant, and what is only tried."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from cyclopts import Parameter

from warehouse.cli.copying.patterns import Rules
from warehouse.cli.copying.places import UsageError
from warehouse.cli.copying.walks import Links

LinksWord = Annotated[
    Literal["files", "follow", "skip", "fail"] | None,
    Parameter(
        metavar="HOW",
        help="Links and special files below a local folder: follow links to files and leave the rest out "
        "(files, the default), follow links to folders too (follow), leave all links out (skip), or count "
        "the rest as failures (fail).",
    ),
]
Exclude = Annotated[
    list[str] | None,
    Parameter(metavar="PATTERN", help="Leave out what matches, such as '*.tmp'; may be given several times."),
]
Include = Annotated[
    list[str] | None,
    Parameter(metavar="PATTERN", help="Leave this in; without --exclude: leave everything else out."),
]
DryRun = Annotated[bool, Parameter(name="--dry-run", help="Say what would be done, and do nothing.")]
NoGlob = Annotated[
    bool, Parameter(name="--no-glob", help="Wildcards (* and ?) are letters of the key, and nothing else.")
]
Yes = Annotated[bool, Parameter(name=["--yes", "-y"], help="Delete without a question.")]


def links_of(word: str | None) -> Links:
    return Links(word) if word is not None else Links.FILES


def rules_of(exclude: Sequence[str] | None, include: Sequence[str] | None) -> Rules:
    for pattern in (*(exclude or ()), *(include or ())):
        if not pattern.strip("/"):
            raise UsageError(f"a pattern names files, {pattern!r} names none")
    return Rules(tuple(exclude or ()), tuple(include or ()))
