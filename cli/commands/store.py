"""Commands about the whole store: up, status, and one process alone: master, volume, compactor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from warehouse.cli.app import STORE, app, become
from warehouse.cli.options import NOTHING_SPECIAL, Common
from warehouse.cli.output.store import print_status
from warehouse.cli.repeating import Every, Rhythm, Times, repeated, wanted
from warehouse.cli.usage import UsageError


@app.command(group=STORE)
def up(
    *others: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
    data: Annotated[
        Path | None, Parameter(metavar="DIR", help="Folder of all data (default: ./warehouse-data).")
    ] = None,
    volumes: Annotated[
        str | None,
        Parameter(metavar="N", help="Number of disk folders, each with a volume actor (default: 1)."),
    ] = None,
    port_base: Annotated[
        str | None,  # the started program checks it
        Parameter(
            metavar="N",
            help="First port, for control; +1: health; from +10: volumes; +80: console; +90: S3; from +110:"
            " health of the others (default: 7400).",
        ),
    ] = None,
    json: Annotated[bool, Parameter(help="Print one JSON object per line.")] = False,
) -> None:
    """Start a whole store on this machine; Ctrl-C stops it.

    It prints `ready` when a put would succeed, and writes the profile that the other commands find
    automatically. The first start prints the root key. Further options: `--host HOST`, `--advertise HOST`
    (the name at which other machines reach this one), `--no-console`, `--no-s3`, `--config FILE` and
    `--log-level LEVEL`.
    """
    options = (("--data", data), ("--volumes", volumes), ("--port-base", port_base), ("--json", json))
    become("warehouse.actors.cluster", options, *others, title="warehouse up")  # for `pgrep -f`


Words = Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]


@app.command(group=STORE, help_flags=(), version_flags=())
def master(*words: Words) -> None:
    """Start a master alone; `warehouse master --help` shows its options."""
    become("warehouse.actors.master", (), *words, title="warehouse master")


@app.command(group=STORE, help_flags=(), version_flags=())
def volume(*words: Words) -> None:
    """Start the volume actor of one disk; `warehouse volume --help` shows its options."""
    become("warehouse.actors.volume", (), *words, title="warehouse volume")


@app.command(group=STORE, help_flags=(), version_flags=())
def compactor(*words: Words) -> None:
    """Start the compactor of one disk; `warehouse compactor --help` shows its options."""
    become("warehouse.actors.compactor", (), *words, title="warehouse compactor")


@app.command(group=STORE, help_flags=(), version_flags=())
def gateway(
    *words: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
) -> None:
    """Start an S3 endpoint of a store; any number of them may run."""
    become("warehouse.gateway", (), *words, title="warehouse gateway")


@app.command(group=STORE)
async def status(
    *,
    watch: Annotated[bool, Parameter(help="Again and again, until Ctrl-C.")] = False,
    every: Every = None,
    times: Times = None,
    common: Common = NOTHING_SPECIAL,
) -> int:
    """Show health, disks, volumes and free space."""
    if not watch and (every is not None or times is not None):
        raise UsageError(f"{'--every' if every is not None else '--times'} goes with --watch")
    rhythm = wanted(every, times) if watch else Rhythm(times=1)
    async with common.connect() as store:

        async def show() -> None:
            print_status(await store.status(), is_json=common.json)

        await (repeated(show, rhythm, is_json=common.json) if watch else show())
    return 0
