"""The app that all commands join, and the functions that several of them share."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence

from cyclopts import (
    App,
    CycloptsError,
    Group,
    Parameter,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from warehouse.cli.output.objects import ResultConsole, failure_line, say_failure
from warehouse.cli.usage import UsageError, near_option, unknown_command
from warehouse.conf.programs import module_command, module_environment
from warehouse.errors import RequestRefused
from warehouse.version import package_version

app = App(
    name="warehouse",
    help="""A self-hosted object store.

    Start one with `warehouse up`, then in another terminal:

        warehouse mb wh://photos
        warehouse cp -r ./pictures wh://photos/2026
        warehouse ls -l wh://photos/2026
        warehouse cat wh://photos/2026/hello.txt

    Objects are named wh://bucket/key; a key's slashes act as folders.
    """,
    version=package_version,
    default_parameter=Parameter(negative=(), show_default=False),
    help_format="markdown",
    console=ResultConsole(),
)

# Panels of the help text, in this order.
OBJECTS = Group("Objects", sort_key=1)
STORE = Group("The store", sort_key=2)
SPACE = Group("Space and damage", sort_key=3)
RESCUE = Group("Rescue", sort_key=4)

# Commands of two words.
keys = App(
    name="keys",
    group=STORE,
    help="API keys: what may programs and people do? Also: how the store keeps their secrets.",
    default_parameter=app.default_parameter,
)
accounts = App(
    name="accounts",
    group=STORE,
    help="Accounts: whose keys and buckets belong together?",
    default_parameter=app.default_parameter,
)
profiles = App(
    name="profile",
    group=STORE,
    help="Profiles: which stores does this machine know, and which of them is used?",
    default_parameter=app.default_parameter,
)
app.command(keys)
app.command(profiles)
app.command(accounts)


def usage_problem(error: CycloptsError, words: Sequence[str]) -> str:
    """Explain what is wrong with the words of a command."""
    unknown: str | None = None
    match error:
        case UnknownCommandError():
            chain = error.command_chain or ()
            unknown_word = (error.unused_tokens or words)[0]
            return unknown_command(unknown_word, [*(error.app or app)], " ".join(chain))
        case UnknownOptionError():
            unknown = error.token.keyword or error.token.value
        case UnusedCliTokensError(unused_tokens=[first, *_]):
            if not first.startswith("-"):
                return f"{first!r} is one word too many"
            unknown = first
    if unknown is None:
        return str(error)
    command, _ = innermost(app, words)
    return f"there is no option {unknown}{near_option(unknown, option_names(command))}"


def innermost(app: App, words: Sequence[str]) -> tuple[App, int]:
    """The command that these words name, and how many of them name it."""
    count = 0
    while count < len(words) and not words[count].startswith("-") and words[count] in app:
        app, count = app[words[count]], count + 1
    return app, count


def option_names(command: App) -> list[str]:
    """The options of a command, long and short."""
    arguments = command.assemble_argument_collection()
    return sorted(
        name
        for argument in arguments
        if argument.parse and argument.show
        for name in argument.names
        if name.startswith("-")
    )


def some(words: Sequence[str], what: str) -> Sequence[str]:
    """Return the words, of which there must be at least one.

    Raises:
        UsageError: no word was given.
    """
    if not words:
        raise UsageError(f"name {what}")
    return words


async def each_bucket(names: Sequence[str], work: Callable[[str], Awaitable[None]]) -> None:
    """Do something with every bucket; a refusal for one bucket does not stop the others.

    Raises:
        RequestRefused: the last refusal; the earlier ones have been printed.
    """
    refused: RequestRefused | None = None
    for name in names:
        try:
            await work(name)
        except RequestRefused as error:
            if refused is not None:
                say_failure(failure_line(refused))
            refused = error
    if refused is not None:
        raise refused


def become(
    module: str, options: Iterable[tuple[str, object]], *others: str, title: str | None = None
) -> None:
    """Replace this process by another of our programs, which then gets the signals and sets the exit status.

    Args:
        module: as after `python -m`.
        options: names and values; None and False are left out, True is the name alone, a list repeats the
            name for each value.
        others: further words, unchanged.
        title: shown in the process list.
    """
    words = module_command(module, title=title)
    for name, value in options:
        if value is True:
            words.append(name)
        elif isinstance(value, list):
            for one in value:
                words += [name, str(one)]
        elif value is not None and value is not False:
            words += [name, str(value)]
    os.execve(sys.executable, [*words, *others], module_environment())  # noqa: S606
