"""Commands that need no running store: rebuild, export, backup, restore.

Each command replaces this process by a program of `rescue/`, which works on the files themselves.  Its
options are listed here for `--help`, and to tell values from names; all other words are handed on unchanged.
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
    Parameter(metavar="PATH", help="A disk folder outside DIR; may be given several times."),
]
PassphraseFile = Annotated[
    Path | None,
    Parameter(
        metavar="FILE", help="The passphrase of the backup is in this file; without it, a terminal is asked."
    ),
]
KeyFile = Annotated[Path | None, Parameter(metavar="FILE", help="This file is the key of the backup.")]
Json = Annotated[bool, Parameter(help="Print the report as one JSON object.")]


@app.command(group=RESCUE, usage="Usage: warehouse rebuild [OPTIONS]")
def rebuild(
    *others: Others,
    data: Data = None,
    disk: Disks = None,
    backup: Annotated[
        Path | None,
        Parameter(metavar="FILE", help="Take the API keys from this backup, not from the existing catalog."),
    ] = None,
    passphrase_file: PassphraseFile = None,
    key_file: KeyFile = None,
    replace: Annotated[
        bool, Parameter(help="Move an existing catalog aside; without this option it is not touched.")
    ] = False,
    partial: Annotated[
        bool, Parameter(help="Continue without missing disks; the objects on them are left out.")
    ] = False,
    indexes: Annotated[bool, Parameter(help="Also rebuild the index of every volume.")] = False,
    json: Json = False,
) -> None:
    """Rebuild the catalog from the volume files alone; the store must be stopped.

    For example:

        warehouse rebuild --data /srv/warehouse
        warehouse rebuild --data /srv/warehouse --replace --backup /backup/catalog

    Buckets, objects with their metadata, and counts come back. Deleted objects stay deleted; overwritten
    objects come back in their newest version. API keys are taken from the existing catalog, if it can be
    read, or from a backup. The command shows its progress, and in the end what could not be recovered.
    """
    options = (
        *(("--data", data), ("--disk", disk), ("--backup", backup)),
        *(("--passphrase-file", passphrase_file), ("--key-file", key_file), ("--replace", replace)),
        *(("--partial", partial), ("--indexes", indexes), ("--json", json)),
    )
    become("warehouse.rescue.rebuild", options, *others)


@app.command(group=RESCUE, usage="Usage: warehouse export [OPTIONS] --to FOLDER")
def export(
    *others: Others,
    data: Data = None,
    disk: Disks = None,
    to: Annotated[Path | None, Parameter(metavar="FOLDER", help="Target; an empty folder.")] = None,
    resume: Annotated[
        bool, Parameter(help="Continue an interrupted export; complete files are not written again.")
    ] = False,
    json: Json = False,
) -> None:
    """Write all objects as plain files, from the disks alone; the store must be stopped.

    For example:

        warehouse export --data /srv/warehouse --to ./files
        warehouse export --disk /mnt/saved/disk-2 --to ./files

    The last way out: it needs only the disks, and writes nothing to them. Each object becomes
    FOLDER/bucket/key.
    """
    options = (("--data", data), ("--disk", disk), ("--to", to), ("--resume", resume), ("--json", json))
    become("warehouse.rescue.export", options, *others)


@app.command(group=RESCUE, usage="Usage: warehouse backup [OPTIONS] FILE")
def backup(
    *others: Others,
    passphrase_file: PassphraseFile = None,
    key_file: KeyFile = None,
    unencrypted: Annotated[
        bool, Parameter(help="Write the store's secrets in clear, as a plain tar file.")
    ] = False,
    data: Data = None,
    json: Json = False,
) -> None:
    """Write a backup of the catalog to a file; the store may be running.

    For example:

        warehouse backup --passphrase-file ~/.backup-passphrase /backup/warehouse
        warehouse backup --key-file backup.key /backup/warehouse

    A backup has what a rebuild from the volumes cannot know, such as API keys, and restores the catalog
    faster. It does not include the volumes. It contains the store's keys, so it is encrypted; on a terminal
    the command asks for a passphrase.
    """
    options = (
        *(("--passphrase-file", passphrase_file), ("--key-file", key_file), ("--unencrypted", unencrypted)),
        *(("--data", data), ("--json", json)),
    )
    become("warehouse.rescue.backup", options, *others)


@app.command(group=RESCUE, usage="Usage: warehouse restore [OPTIONS] FILE")
def restore(
    *others: Others,
    passphrase_file: PassphraseFile = None,
    key_file: KeyFile = None,
    data: Data = None,
    disk: Disks = None,
    exact: Annotated[
        bool, Parameter(help="Restore the catalog as it was; newer objects in the volumes are kept aside.")
    ] = False,
    json: Json = False,
) -> None:
    """Restore the catalog and its keys from a backup; the store must be stopped.

    Objects that were stored since the backup are found in the volumes and come back as well. The existing
    catalog is moved aside, never deleted.
    """
    options = (
        *(("--passphrase-file", passphrase_file), ("--key-file", key_file)),
        *(("--data", data), ("--disk", disk), ("--exact", exact), ("--json", json)),
    )
    become("warehouse.rescue.restore", options, *others)
