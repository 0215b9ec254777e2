"""The process of a command: from its words to its exit status.

    exit status   0 done   1 failed (a line on standard error says why)   2 wrong usage
                  130 interrupted by Ctrl-C, 143 terminated; running uploads were aborted
                  141 nobody reads standard output any more (as in `warehouse cat ... | head`)

The modules in `commands/` join the app when they are imported, here and nowhere else.
"""

from __future__ import annotations

import inspect
import io
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import trio
from cyclopts import CycloptsError

import warehouse.cli.commands.accounts
import warehouse.cli.commands.amend
import warehouse.cli.commands.audit
import warehouse.cli.commands.bench
import warehouse.cli.commands.completion
import warehouse.cli.commands.console
import warehouse.cli.commands.copy
import warehouse.cli.commands.folders
import warehouse.cli.commands.history
import warehouse.cli.commands.keys
import warehouse.cli.commands.maintenance
import warehouse.cli.commands.move
import warehouse.cli.commands.nodes
import warehouse.cli.commands.objects
import warehouse.cli.commands.orphans
import warehouse.cli.commands.presign
import warehouse.cli.commands.profiles
import warehouse.cli.commands.reading
import warehouse.cli.commands.remove
import warehouse.cli.commands.rescue
import warehouse.cli.commands.rotation
import warehouse.cli.commands.store
import warehouse.cli.commands.sync
import warehouse.cli.commands.top  # noqa: F401  # like those above: its commands join the app
from warehouse.cli import closed_streams
from warehouse.cli.app import app, innermost, option_names, usage_problem
from warehouse.cli.output.formats import printable, shortened
from warehouse.cli.output.objects import failure_line, say_failed, say_failure
from warehouse.cli.usage import UnknownOption, UsageError, near_option
from warehouse.client.nurseries import background
from warehouse.conf.arguments import empty_option
from warehouse.errors import StoreError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    closed_streams.hold()
    words = sys.argv[1:] if arguments is None else list(arguments)
    # A failure is printed once, below; log records of a reconnecting link are not for a terminal.
    logging.getLogger().addHandler(logging.NullHandler())
    for stream in (sys.stdout, sys.stderr):  # a key that the terminal cannot show must not end a listing
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    exit_status = 0
    try:
        exit_status = _run_command(words)
        sys.stdout.flush()
        return exit_status
    except BrokenPipeError:  # the reader of our output has gone
        _forget_output()
        return 128 + signal.SIGPIPE
    except OSError as error:  # for example, the disk of our output is full
        _forget_output()
        if not exit_status:  # otherwise a failure has been printed
            say_failure(failure_line(error, "standard output"))
        return exit_status or 1


def _forget_output() -> None:
    """Discard buffered output, because Python would report the failure again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _run_command(words: Sequence[str]) -> int:
    if (option := empty_option(words)) is not None:
        return _wrong_usage(UsageError(f"{option} is empty: perhaps a variable is not set?"), words)
    try:
        command, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        return _wrong_usage(UsageError(usage_problem(error, words)), words)
    try:
        if not inspect.iscoroutinefunction(command):  # up, --help, --version
            command(*bound.args, **bound.kwargs)
            return 0
        return trio.run(_run_cancellable, partial(command, *bound.args, **bound.kwargs))
    except UnknownOption as error:
        near = near_option(error.option, option_names(innermost(app, words)[0]))
        return _wrong_usage(UnknownOption(error.option, near) if near else error, words)
    except UsageError as error:
        return _wrong_usage(error, words)
    except BrokenPipeError:
        raise
    except (StoreError, OSError) as error:
        say_failed(error, words)
        say_failure(failure_line(error))
        return 1


def _wrong_usage(error: UsageError, words: Sequence[str]) -> int:
    command = f" {words[0]}" if words and words[0] in app else ""
    say_failed(error, words)
    line = shortened(printable(error.message.rstrip(".")))
    say_failure(f"warehouse: {line} (see: warehouse{command} --help)")
    return 2


async def _run_cancellable(work: Callable[[], Awaitable[int]]) -> int:
    """Run a command's work; a signal cancels it, so that it can clean up."""
    received: list[int] = []
    exit_status = 0
    async with background() as nursery:
        await nursery.start(_cancel_on_signal, nursery.cancel_scope, received)
        exit_status = await work()
    return 128 + received[0] if received else exit_status


async def _cancel_on_signal(
    scope: trio.CancelScope,
    received: list[int],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for number in signals:
            received.append(number)
            scope.cancel()
            return
