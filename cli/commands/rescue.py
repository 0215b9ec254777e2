"""The command line without a running store: rebuild, export, backup, restore.

Each becomes another program of ours (`python -m rescue...`), which works on the files themselves.  Here are
its options, for `--help` and to tell values from names; other words are handed on as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from warehouse.cli.app import RESCUE, app, become

Others = Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]
Data = Annotated[
    Path | None, Parameter(metavar="DIR", help="Data folder of the store (default: ./warehouse-data).")
]
Disks = Annotated[
    list[Path] | None,
    Parameter(metavar="PATH", help="A disk folder that is not in DIR; may be given several times."),
]
Json = Annotated[bool, Parameter(help="Print the report as one JSON object.")]


@app.command(group=RESCUE, usage="Usage: warehouse rebuild [OPTIONS]")
def rebuild(
    *others: Others,
    data: Data = None,
    disk: Disks = None,
    backup: Annotated[
        Path | None,
        Parameter(
            metavar="FILE", help="Take the API keys from this backup, not from the catalog that is there."
        ),
    ] = None,
    replace: Annotated[
        bool, Parameter(help="Move a catalog that is there aside; without this it is left alone.")
    ] = False,
    partial: Annotated[
        bool, Parameter(help="Go on though disks are missing; what is on them is left out.")
    ] = False,
    indexes: Annotated[bool, Parameter(help="Make the index of every volume anew, too.")] = False,
    json: Json = False,
) -> None:
    """Make the catalog anew from the volume files alone; the store must be stopped.

    For example:

        warehouse rebuild --data /srv/warehouse
        warehouse rebuild --data /srv/warehouse --replace --backup /backup/catalog

    Buckets, objects with their metadata, and counts come back; deleted objects stay deleted, overwritten ones
    come back in their newest version. API keys are taken over from the catalog that is there, if it can be
    read, or from a backup. It shows how far it is, and ends with what could not be recovered.
    """
    options = (
        *(("--data", data), ("--disk", disk), ("--backup", backup), ("--replace", replace)),
        *(("--partial", partial), ("--indexes", indexes), ("--json", json)),
    )
    become("warehouse.rescue.rebuild", options, *others)


@app.command(group=RESCUE, usage="Usage: warehouse export [OPTIONS] --to FOLDER")
def export(
    *others: Others,
    data: Data = None,
    disk: Disks = None,
    to: Annotated[Path | None, Parameter(metavar="FOLDER", help="Where to; an empty folder.")] = None,
    resume: Annotated[
        bool, Parameter(help="Go on with an export: files that are whole are not written again.")
    ] = False,
    json: Json = False,
) -> None:
    """Write all objects as plain files, from the disks alone: the last way out; the store must be stopped.

    For example:

        warehouse export --data /srv/warehouse --to ./files
        warehouse export --disk /mnt/saved/disk-2 --to ./files

    Nothing is needed but the disks, and nothing is written to them. Each object becomes FOLDER/bucket/key.
    """
    options = (("--data", data), ("--disk", disk), ("--to", to), ("--resume", resume), ("--json", json))
    become("warehouse.rescue.export", options, *others)


@app.command(group=RESCUE, usage="Usage: warehouse backup [OPTIONS] FILE")
def backup(*others: Others, data: Data = None, json: Json = False) -> None:
    """Write a backup of the catalog to a file; the store may be running.

    It holds what a rebuild from the volumes cannot know, such as API keys, and brings the catalog back
    faster. The volumes are not in it. Keep it as safe as the store itself: it holds the store's keys.
    """
    become("warehouse.rescue.backup", (("--data", data), ("--json", json)), *others)


@app.command(group=RESCUE, usage="Usage: warehouse restore [OPTIONS] FILE")
def restore(
    *others: Others,
    data: Data = None,
    disk: Disks = None,
    exact: Annotated[
        bool, Parameter(help="Take the catalog as it was; what the volumes hold beyond it is kept aside.")
    ] = False,
    json: Json = False,
) -> None:
    """Bring the catalog and its keys back from a backup; the store must be stopped.

    What was stored since the backup is found in the volumes and comes back, too. What was there before is
    moved aside, never deleted.
    """
    options = (("--data", data), ("--disk", disk), ("--exact", exact), ("--json", json))
    become("warehouse.rescue.restore", options, *others)
