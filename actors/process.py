"""Process: what every actor's process has in common around its own loop.

Arguments, settings, logging, signals, the `ready` line, and the lock of a disk directory.  An actor that a
supervisor started stops when the supervisor is gone, however it ended: our standard input closes.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import trio

from warehouse.actors.housekeeping import keep_memory_flat, prepare_memory
from warehouse.conf.logging import set_up_logging
from warehouse.conf.settings import Settings, load_settings
from warehouse.errors import SetupError, StoreError
from warehouse.storage.identity import LOCK_NAME, DiskLock
from warehouse.transport.descriptors import raise_limit

log = logging.getLogger(__name__)

PRIVATE = 0o077  # the umask of every actor: only its own user reads what it writes
STOP_GRACE_S = 10.0  # from the signal to the end; a supervisor waits a little longer before it kills


class Announcer:
    """Announces on standard output, once, that the process is ready."""

    def __init__(self, *, is_json: bool) -> None:
        self._is_json = is_json
        self.is_ready = False

    def ready(self, **fields: Any) -> None:
        if not self.is_ready:
            self.is_ready = True
            self.say("ready", **fields)

    def say(self, event: str, **fields: Any) -> None:
        if self._is_json:
            line = json.dumps({"event": event, **fields})
        else:
            line = " ".join([event, *(f"{name}={value}" for name, value in fields.items())])
        print(line, flush=True)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings file (TOML)")
    parser.add_argument(
        "--json", action="store_true", help="print events as JSON objects, one a line, and log as JSON"
    )
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), help="how much to log")
    parser.add_argument("--log-format", choices=("text", "json"), help=argparse.SUPPRESS)
    parser.add_argument("--stop-with-parent", action="store_true", help=argparse.SUPPRESS)


def add_insecure_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--insecure",
        action="store_true",
        help="with tls.mode off: speak plain HTTP also where other machines can listen in",
    )


def add_disk_arguments(parser: argparse.ArgumentParser, *, disk_help: str) -> None:
    """Add the arguments of actors that work on one disk."""
    parser.add_argument("--disk", required=True, type=Path, metavar="DIR", help=disk_help)
    parser.add_argument(
        "--join", required=True, type=Path, metavar="FILE", help="join file: where the master is, and a token"
    )
    parser.add_argument(
        "--node-key", type=Path, metavar="FILE", help="the key of this disk, if not DIR/node.key"
    )


@contextlib.contextmanager
def held_disk(directory: Path, lock_name: str = LOCK_NAME) -> Iterator[bool]:
    """Hold a lock of a disk directory while the actor runs; yield whether the disk is read-only.

    Nobody can write to a read-only file system, so it needs no lock.

    Raises:
        DiskInUse: another process holds the lock.
        SetupError: the directory cannot be used.
    """
    try:
        lock = DiskLock(directory, lock_name)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise SetupError(f"cannot use {directory}: {error.strerror}") from error
        log.warning("disk is read-only", extra={"disk": str(directory)})
        yield True
        return
    with lock:
        yield False


def set_up_actor(
    arguments: argparse.Namespace, *, name: str, flags: Mapping[str, object] | None = None
) -> Settings:
    """Load settings (file, environment, flags) and start logging; exit with one line if one is wrong.

    Args:
        flags: settings that the actor's own arguments set, such as {"cluster.volumes": 2}; None: not set.
    """
    chosen = {
        **(flags or {}),
        "log.level": arguments.log_level,
        "log.format": arguments.log_format or ("json" if arguments.json else None),
    }
    os.umask(PRIVATE)
    try:
        settings = load_settings(arguments.config, flags=chosen)
    except StoreError as error:
        _say_failed(error, is_json=arguments.json)
        raise SystemExit(1) from error
    set_up_logging(settings.log.level, settings.log.format, name)
    return settings


def run_actor(
    arguments: argparse.Namespace,
    settings: Settings,
    main: Callable[[argparse.Namespace, Settings, Announcer], Awaitable[None]],
) -> int:
    """Run `main` until it ends, a SIGTERM or SIGINT arrives, or the parent ends; return the exit status."""
    announcer = Announcer(is_json=arguments.json)
    raise_limit()

    async def supervise() -> None:
        _require_clock()
        async with trio.open_nursery() as nursery:
            await nursery.start(_stop_on_signal, nursery.cancel_scope)
            if arguments.stop_with_parent:
                nursery.start_soon(_stop_with_parent, nursery.cancel_scope)
            prepare_memory()
            nursery.start_soon(keep_memory_flat)
            await main(arguments, settings, announcer)
            nursery.cancel_scope.cancel()

    try:
        trio.run(supervise)
    except BaseExceptionGroup as group:
        expected, others = group.split(StoreError)
        if expected is None or others is not None:
            raise
        error = _first(expected)
        assert isinstance(error, StoreError)
        _say_failed(error, is_json=arguments.json)
        return 1
    except StoreError as error:
        _say_failed(error, is_json=arguments.json)
        return 1
    return 0


def _now_s() -> float:
    return time.time()


def _require_clock() -> None:
    """Refuse a clock whose times fit into none of our files.

    Raises:
        SetupError: the clock shows a time before 1970.
    """
    now_s = _now_s()
    if now_s < 0:
        raise SetupError(
            f"the clock of this machine shows a time before 1970 ({now_s:.0f} s): set it, then start again"
        )


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _say_failed(error: StoreError, *, is_json: bool) -> None:
    """Print a line for a person, and with --json an event for a program, which may have ended already."""
    print(f"warehouse: {error.message} ({error.code})", file=sys.stderr, flush=True)
    if is_json:
        with contextlib.suppress(OSError):
            print(json.dumps({"event": "failed", "code": error.code, "message": error.message}), flush=True)


async def _stop_on_signal(
    scope: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            log.info("stopping", extra={"signal": signal.Signals(number).name})
            scope.cancel()
            return


async def _stop_with_parent(scope: trio.CancelScope) -> None:
    stdin = sys.stdin.fileno()
    while True:
        await trio.lowlevel.wait_readable(stdin)
        if not os.read(stdin, 4096):
            log.info("stopping", extra={"cause": "parent is gone"})
            scope.cancel()
            return
