"""Options that several commands share: which store, which files of a folder, and what is only tried."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from warehouse.cli.copying.patterns import Rules
from warehouse.cli.copying.walks import Links
from warehouse.cli.usage import UsageError
from warehouse.client.store import Store, connect

Recursive = Annotated[bool, Parameter(name=["--recursive", "-r"])]
LinksWord = Annotated[
    Literal["files", "follow", "skip", "fail"] | None,
    Parameter(
        metavar="HOW",
        help="Links and special files in a local folder: follow links to files and leave out the rest "
        "(files, the default), also follow links to folders (follow), leave out all links (skip), or count "
        "the rest as failures (fail).",
    ),
]
Exclude = Annotated[
    list[str] | None,
    Parameter(
        metavar="PATTERN", help="Leave out matching files, such as '*.tmp'; may be given several times."
    ),
]
Include = Annotated[
    list[str] | None,
    Parameter(
        metavar="PATTERN", help="Do not leave out matching files; without --exclude: leave out all others."
    ),
]
DryRun = Annotated[bool, Parameter(name="--dry-run", help="Only print what would be done.")]
NoGlob = Annotated[bool, Parameter(name="--no-glob", help="Treat * and ? as ordinary letters of the key.")]
Yes = Annotated[bool, Parameter(name=["--yes", "-y"], help="Delete without asking.")]


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    """Options of every command."""

    profile: Annotated[
        Path | None,
        Parameter(
            metavar="NAME",
            help="Which store: a name of `warehouse profile ls`, or a file with its address and an API key."
            " Found automatically after `warehouse up`.",
        ),
    ] = None
    data: Annotated[
        Path | None,
        Parameter(metavar="DIR", help="Data folder of a `warehouse up`; its profile.toml is used."),
    ] = None
    json: Annotated[bool, Parameter(help="Print one JSON object per line.")] = False

    def connect(self) -> AbstractAsyncContextManager[Store]:
        return connect(self.profile_path())

    def profile_path(self) -> Path | None:
        """The profile that was named; None: the one that is found automatically.

        Raises:
            UsageError: two profiles were named.
        """
        if self.profile is not None and self.data is not None:
            raise UsageError("--profile and --data both name a profile: give one of them")
        return self.data / "profile.toml" if self.data is not None else self.profile


NOTHING_SPECIAL = Common()


def links_of(word: str | None) -> Links:
    return Links(word) if word is not None else Links.FILES


def rules_of(exclude: Sequence[str] | None, include: Sequence[str] | None) -> Rules:
    for pattern in (*(exclude or ()), *(include or ())):
        if not pattern.strip("/"):
            raise UsageError(f"a pattern must name files, {pattern!r} names none")
    return Rules(tuple(exclude or ()), tuple(include or ()))
