"""Schema: the tables of the catalog, and the steps that bring an older file up to date.

`PRAGMA user_version` counts the steps that a file has been through.  A step is never edited once it was
released: a change is a new step.  All steps that a file lacks run in one transaction.

    buckets   name is NULL while the objects of a deleted bucket are being turned into garbage
    objects   the visible version of each key; volume_id, needle_id and crc are those of its first chunk
    versions  the other versions of each key, and delete markers; empty so far
    uploads   unfinished ones, and finished ones for as long as a finish may be repeated
    chunks    slots of unfinished uploads, the chunks of objects that have more than one, and the manifests
              of those that have one (at `MANIFEST_INDEX`)
    parts     whole parts of multipart uploads, and the parts of objects that were completed from some
    amendments    needles that changed the attributes of a version, the latest of each
    bucket_configs    documents that say how a bucket behaves, by kind; opaque here
    outbox    garbage whose tombstone is not durable yet
    buried    garbage whose tombstone is durable; only the latest, to answer late messages
    copies    which disks hold a volume: a volume is the same needles, on one disk or on several
    jobs      compactions and verifications that are not finished
    damages   known damage that was not mended; needle_id is 0 where it is unknown
    api_keys  credentials of clients, and what they may do (`catalog/identities.py`)
    accounts  whose keys and buckets belong together
    revocations   of a key that lost rights: from which epoch on its tokens count; kept until others expired
    nodes     CURVE keys of volume actors and compactors that have joined, or were removed (`removed_ms`)
    join_tokens   what lets a node join, as digests
    facts     the catalog's meta, numbers by name: stamp_max, the greatest stamp ever seen; catalog_id, which
              no other catalog has, from the first start of a master on; switches of the master;
              `removed_disk ID`: when the removal of that disk began
    bucket_notes   what each disk has still to write down, so that a rebuild knows the buckets

Of a disk: `epoch` and `mark` are its latest registration (`storage/epoch.py`); `catalog_id` is the catalog
that it names until it is registered with this one, 0 from then on.

Of a volume: `verified_ms` is when the last verification that read all of it began, NULL for never; the
other columns with `verify` are the progress of the one under way, 0 for none.  A sweep gives up needles that
no row names; none with a stamp up to `swept_stamp` is left.  Until the fact `unproven_until_ms`, needles up
to `unproven_to` may come without a proof that they were promised (`actors/control/promises.py`).

Of a bucket: `owner_id` is the id of an account; a quota that is NULL is none.  Of a disk: `node_key` is the
key of the node that brought it, NULL until one did, and `url` is where that node serves it.

Of an object: `md5` and `part_count` are its ETag, NULL for one that follows from the first needle; an
`owner_id` that is NULL is the bucket's; `attributes` are encoded (`transport/messages/attributes.py`), NULL
for none, and `is_amended` says that a needle of `amendments` has them.

`reason`, in outbox and buried, is explained in `catalog/interface.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Container, Iterable
from contextlib import closing
from functools import lru_cache
from pathlib import Path

from warehouse.catalog.sqlite.driver import corrupt
from warehouse.catalog.sqlite.key_columns import legacy_grants
from warehouse.errors import CatalogCorrupt, FormatUnsupported, SchemaNewer

APPLICATION_ID = 0x57485343  # "WHSC": this SQLite file is ours
_SQLITES_OWN = frozenset(("sqlite_sequence", "sqlite_stat1", "sqlite_stat3", "sqlite_stat4"))
SQLITE_MIN = (3, 37, 0)  # STRICT tables

STEPS: tuple[str, ...] = (
    # 1
    """
    CREATE TABLE buckets (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT UNIQUE,
        created_ms INTEGER NOT NULL,
        object_count INTEGER NOT NULL DEFAULT 0,
        byte_count INTEGER NOT NULL DEFAULT 0
    ) STRICT;

    CREATE TABLE objects (
        bucket_id INTEGER NOT NULL,
        key TEXT NOT NULL,
        size INTEGER NOT NULL,
        stamp INTEGER NOT NULL,
        created_ms INTEGER NOT NULL,
        content_type TEXT,
        volume_id INTEGER NOT NULL,
        needle_id INTEGER NOT NULL,
        crc INTEGER NOT NULL,
        chunk_count INTEGER NOT NULL,
        upload_id INTEGER,
        metadata BLOB,
        PRIMARY KEY (bucket_id, key)
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX objects_by_needle ON objects (volume_id, needle_id);

    CREATE TABLE uploads (
        id INTEGER PRIMARY KEY,
        bucket_id INTEGER NOT NULL,
        key TEXT NOT NULL,
        content_type TEXT,
        if_match TEXT,
        if_none_match TEXT,
        created_ms INTEGER NOT NULL,
        expires_ms INTEGER NOT NULL,
        lifetime_ms INTEGER NOT NULL,
        is_finished INTEGER NOT NULL DEFAULT 0,
        metadata BLOB,
        finished_size INTEGER,
        finished_stamp INTEGER,
        finished_volume_id INTEGER,
        finished_needle_id INTEGER,
        finished_crc INTEGER,
        finished_chunk_count INTEGER
    ) STRICT;
    CREATE INDEX uploads_by_expiry ON uploads (is_finished, expires_ms);
    CREATE INDEX uploads_by_bucket ON uploads (bucket_id);

    CREATE TABLE chunks (
        upload_id INTEGER NOT NULL,
        chunk_index INTEGER NOT NULL,
        volume_id INTEGER NOT NULL,
        needle_id INTEGER NOT NULL,
        size INTEGER NOT NULL,
        crc INTEGER NOT NULL DEFAULT 0,
        stamp INTEGER NOT NULL DEFAULT 0,
        is_stored INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (upload_id, chunk_index)
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX chunks_by_needle ON chunks (volume_id, needle_id);

    CREATE TABLE outbox (
        volume_id INTEGER NOT NULL,
        needle_id INTEGER NOT NULL,
        stamp INTEGER NOT NULL,
        reason TEXT NOT NULL,
        PRIMARY KEY (volume_id, needle_id)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE buried (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        volume_id INTEGER NOT NULL,
        needle_id INTEGER NOT NULL,
        reason TEXT NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX buried_by_needle ON buried (volume_id, needle_id);

    CREATE TABLE disks (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        added_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE volumes (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        uuid TEXT NOT NULL UNIQUE,
        capacity INTEGER NOT NULL,
        needle_id_reserved INTEGER NOT NULL DEFAULT 0,
        garbage_count INTEGER NOT NULL DEFAULT 0,
        state TEXT NOT NULL
    ) STRICT;

    CREATE TABLE copies (
        volume_id INTEGER NOT NULL,
        disk_id TEXT NOT NULL,
        PRIMARY KEY (volume_id, disk_id)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE api_keys (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        salt BLOB NOT NULL,
        hash BLOB NOT NULL,
        permissions INTEGER NOT NULL,
        buckets BLOB,
        is_enabled INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        created_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE facts (
        name TEXT PRIMARY KEY,
        value INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    INSERT INTO facts (name, value) VALUES ('stamp_max', 0);
    """,
    # 2
    """
    CREATE TABLE bucket_notes (
        disk_id TEXT NOT NULL,
        bucket_id INTEGER NOT NULL,
        name TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        is_deleted INTEGER NOT NULL,
        stamp INTEGER NOT NULL,
        PRIMARY KEY (disk_id, bucket_id)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO bucket_notes (disk_id, bucket_id, name, created_ms, is_deleted, stamp)
        SELECT disks.id, buckets.id, coalesce(buckets.name, ''), buckets.created_ms, buckets.name IS NULL,
               iif(buckets.name IS NULL, facts.value, buckets.created_ms << 16)
        FROM disks, buckets, facts WHERE facts.name = 'stamp_max';

    CREATE TABLE jobs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        work TEXT NOT NULL,
        volume_id INTEGER NOT NULL,
        origin TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        UNIQUE (work, volume_id)
    ) STRICT;

    CREATE TABLE damages (
        volume_id INTEGER NOT NULL,
        needle_id INTEGER NOT NULL,
        offset INTEGER NOT NULL,
        problem TEXT NOT NULL,
        bucket TEXT,
        key TEXT,
        found_ms INTEGER NOT NULL,
        PRIMARY KEY (volume_id, needle_id, offset)
    ) STRICT, WITHOUT ROWID;

    ALTER TABLE volumes ADD COLUMN created_ms INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE volumes ADD COLUMN verified_ms INTEGER;
    ALTER TABLE volumes ADD COLUMN verify_started_ms INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE volumes ADD COLUMN verify_generation INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE volumes ADD COLUMN verify_offset INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE volumes ADD COLUMN swept_stamp INTEGER NOT NULL DEFAULT 0;
    UPDATE volumes SET created_ms = coalesce(
        (SELECT min(added_ms) FROM copies JOIN disks ON disks.id = disk_id WHERE volume_id = volumes.id), 0
    );
    """,
    # 3
    """
    ALTER TABLE disks ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE disks ADD COLUMN mark INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE disks ADD COLUMN catalog_id INTEGER NOT NULL DEFAULT 0;
    """,
    # 4
    """
    CREATE TABLE accounts (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        email TEXT,
        created_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    INSERT INTO accounts (id, name, created_ms)
        VALUES (lower(hex(randomblob(16))), 'main', CAST(strftime('%s', 'now') AS INTEGER) * 1000);

    ALTER TABLE buckets ADD COLUMN owner_id TEXT NOT NULL DEFAULT '';
    ALTER TABLE buckets ADD COLUMN quota_bytes INTEGER;
    ALTER TABLE buckets ADD COLUMN quota_objects INTEGER;
    UPDATE buckets SET owner_id = (SELECT id FROM accounts);

    ALTER TABLE api_keys ADD COLUMN account_id TEXT NOT NULL DEFAULT '';
    ALTER TABLE api_keys ADD COLUMN description TEXT NOT NULL DEFAULT '';
    ALTER TABLE api_keys ADD COLUMN sealed BLOB;
    ALTER TABLE api_keys ADD COLUMN grants BLOB;
    ALTER TABLE api_keys ADD COLUMN expires_ms INTEGER;
    ALTER TABLE api_keys ADD COLUMN last_used_ms INTEGER;
    ALTER TABLE api_keys ADD COLUMN previous_salt BLOB;
    ALTER TABLE api_keys ADD COLUMN previous_hash BLOB;
    ALTER TABLE api_keys ADD COLUMN previous_sealed BLOB;
    ALTER TABLE api_keys ADD COLUMN previous_until_ms INTEGER;
    ALTER TABLE api_keys ADD COLUMN sign_s_max INTEGER;
    ALTER TABLE api_keys ADD COLUMN limits BLOB;
    UPDATE api_keys SET
        account_id = (SELECT id FROM accounts),
        permissions = permissions | iif(permissions & 3, 256, 0) | iif(permissions & 32, 512, 0),
        grants = legacy_grants(
            buckets, (SELECT group_concat(id || ':' || name) FROM buckets WHERE name IS NOT NULL)
        );
    ALTER TABLE api_keys DROP COLUMN buckets;

    ALTER TABLE uploads ADD COLUMN key_id TEXT NOT NULL DEFAULT '';
    CREATE INDEX uploads_open_by_key ON uploads (key_id) WHERE is_finished = 0 AND key_id <> '';

    -- Rows of earlier releases do not name uploads of one chunk.  Clocks of disks may be some minutes ahead.
    INSERT INTO facts (name, value)
        SELECT 'uploads_named_ms', (CAST(strftime('%s', 'now') AS INTEGER) + 600) * 1000
        WHERE EXISTS (SELECT 1 FROM objects);

    CREATE TABLE revocations (
        key_id TEXT PRIMARY KEY,
        epoch INTEGER NOT NULL,
        at_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE nodes (
        key TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        role TEXT NOT NULL,
        host TEXT NOT NULL,
        added_ms INTEGER NOT NULL,
        joined_with TEXT,
        disk_id TEXT,
        removed_ms INTEGER
    ) STRICT, WITHOUT ROWID;
    ALTER TABLE disks ADD COLUMN node_key TEXT;
    ALTER TABLE disks ADD COLUMN url TEXT;

    CREATE TABLE join_tokens (
        id TEXT PRIMARY KEY,
        digest BLOB NOT NULL,
        role TEXT NOT NULL,
        is_reusable INTEGER NOT NULL,
        created_ms INTEGER NOT NULL,
        created_by TEXT NOT NULL,
        expires_ms INTEGER,
        use_count INTEGER NOT NULL DEFAULT 0
    ) STRICT, WITHOUT ROWID;

    ALTER TABLE volumes ADD COLUMN unproven_to INTEGER NOT NULL DEFAULT 0;
    UPDATE volumes SET unproven_to = needle_id_reserved;
    INSERT INTO facts (name, value)
        VALUES ('unproven_until_ms', (CAST(strftime('%s', 'now') AS INTEGER) + 8 * 86400) * 1000);
    """,
    # 5
    """
    ALTER TABLE objects ADD COLUMN md5 BLOB;
    ALTER TABLE objects ADD COLUMN part_count INTEGER;
    ALTER TABLE objects ADD COLUMN owner_id TEXT;
    ALTER TABLE objects ADD COLUMN version_id BLOB;
    ALTER TABLE objects ADD COLUMN attributes BLOB;
    ALTER TABLE objects ADD COLUMN is_amended INTEGER NOT NULL DEFAULT 0;

    CREATE TABLE versions (
        bucket_id INTEGER NOT NULL,
        key TEXT NOT NULL,
        size INTEGER NOT NULL,
        stamp INTEGER NOT NULL,
        created_ms INTEGER NOT NULL,
        content_type TEXT,
        volume_id INTEGER NOT NULL,
        needle_id INTEGER NOT NULL,
        crc INTEGER NOT NULL,
        chunk_count INTEGER NOT NULL,
        upload_id INTEGER,
        metadata BLOB,
        md5 BLOB,
        part_count INTEGER,
        owner_id TEXT,
        version_id BLOB,
        attributes BLOB,
        is_amended INTEGER NOT NULL DEFAULT 0,
        is_null INTEGER NOT NULL DEFAULT 0,
        is_marker INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (bucket_id, key, stamp DESC)
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX versions_by_needle ON versions (volume_id, needle_id);

    CREATE TABLE parts (
        upload_id INTEGER NOT NULL,
        part_number INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        chunk_count INTEGER NOT NULL,
        size INTEGER NOT NULL,
        md5 BLOB NOT NULL,
        checksum BLOB,
        created_ms INTEGER NOT NULL,
        PRIMARY KEY (upload_id, part_number)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE amendments (
        volume_id INTEGER NOT NULL,
        needle_id INTEGER NOT NULL,
        target_volume_id INTEGER NOT NULL,
        target_needle_id INTEGER NOT NULL,
        stamp INTEGER NOT NULL,
        PRIMARY KEY (volume_id, needle_id)
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX amendments_by_target ON amendments (target_volume_id, target_needle_id);

    CREATE TABLE bucket_configs (
        bucket_id INTEGER NOT NULL,
        kind TEXT NOT NULL,
        document BLOB NOT NULL,
        PRIMARY KEY (bucket_id, kind)
    ) STRICT, WITHOUT ROWID;

    ALTER TABLE buckets ADD COLUMN region TEXT NOT NULL DEFAULT '';
    ALTER TABLE buckets ADD COLUMN is_lock_enabled INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE buckets ADD COLUMN versioning TEXT NOT NULL DEFAULT '';
    ALTER TABLE buckets ADD COLUMN config_epoch INTEGER NOT NULL DEFAULT 0;

    ALTER TABLE bucket_notes ADD COLUMN owner_id TEXT NOT NULL DEFAULT '';
    ALTER TABLE bucket_notes ADD COLUMN region TEXT NOT NULL DEFAULT '';
    ALTER TABLE bucket_notes ADD COLUMN is_lock_enabled INTEGER NOT NULL DEFAULT 0;
    -- No disk has written down yet whose a bucket is.
    INSERT OR REPLACE INTO bucket_notes (disk_id, bucket_id, name, created_ms, is_deleted, stamp, owner_id)
        SELECT disks.id, buckets.id, buckets.name, buckets.created_ms, 0,
               max(facts.value, buckets.created_ms << 16), buckets.owner_id
        FROM disks, buckets, facts WHERE facts.name = 'stamp_max' AND buckets.name IS NOT NULL;

    ALTER TABLE uploads ADD COLUMN style TEXT NOT NULL DEFAULT '';
    ALTER TABLE uploads ADD COLUMN attributes BLOB;
    ALTER TABLE uploads ADD COLUMN owner_id TEXT NOT NULL DEFAULT '';
    ALTER TABLE uploads ADD COLUMN initiator_id TEXT NOT NULL DEFAULT '';
    ALTER TABLE uploads ADD COLUMN finished_md5 BLOB;
    ALTER TABLE uploads ADD COLUMN finished_part_count INTEGER;
    CREATE INDEX uploads_in_parts ON uploads (bucket_id, key, id)
        WHERE is_finished = 0 AND style = 'multipart';
    """,
)


def bring_up_to_date(connection: sqlite3.Connection, path: Path, steps: tuple[str, ...] = STEPS) -> int:
    """Run the steps that the file lacks; return how many it had been through.

    Raises:
        SchemaNewer: a later release wrote this file.
        FormatUnsupported: this Python's SQLite is too old.
        CatalogCorrupt: the file belongs to another program, or is not what its version says.
    """
    if sqlite3.sqlite_version_info < SQLITE_MIN:
        wanted = ".".join(map(str, SQLITE_MIN))
        raise FormatUnsupported(
            f"this Python has SQLite {sqlite3.sqlite_version}; {wanted} or later is needed"
        )
    is_empty = connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None
    is_new = is_empty and _pragma(connection, "user_version") == 0
    version = 0 if is_new else version_of(connection, path, steps)
    _refuse_what_would_run(connection, path)
    if version < len(steps):
        know_legacy_grants(connection)
        _run(connection, statements_of_new(steps) if is_new else _statements_of(steps[version:]), len(steps))
    return version


def version_of(connection: sqlite3.Connection, path: Path, steps: tuple[str, ...] = STEPS) -> int:
    """How many steps a file that holds a catalog has been through; raises as above."""
    version = _pragma(connection, "user_version")
    if version > len(steps):
        raise SchemaNewer(
            f"the catalog {path} has schema {version}, this release knows up to {len(steps)}:"
            " run the release that wrote it, or a later one"
        )
    if version < 1 or _pragma(connection, "application_id") != APPLICATION_ID:
        raise corrupt(path, "it is an SQLite file, but not a catalog of Warehouse")
    return version


def _refuse_what_would_run(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse triggers and views: they run with our statements, and no step of ours makes one."""
    row = connection.execute(
        "SELECT type, name FROM sqlite_master WHERE type NOT IN ('table', 'index') LIMIT 1"
    ).fetchone()
    if row is not None:
        kind, name = row
        raise CatalogCorrupt(
            f"the catalog {path} has a {kind} {name!r}, which no release makes and which would run with"
            f" every change of the store: find out who made it, then remove it (DROP {str(kind).upper()}) or"
            " restore a backup"
        )


def differences(
    connection: sqlite3.Connection, version: int, *, tables: Container[str] | None = None
) -> list[str]:
    """How a file's schema differs from what these steps make, as sentences.

    A trigger or a view would run with the rights of whoever opens the file.

    Args:
        version: how many steps the file has been through.
        tables: compare only these.
    """
    wanted, found = _objects_after(version), _objects_of(connection)
    names = [name for name in sorted(wanted.keys() | found.keys()) if tables is None or name in tables]
    problems = []
    for name in names:
        if name not in wanted:
            problems.append(f"there is a {found[name][0]} {name!r} that no release makes"[:200])
        elif name not in found:
            problems.append(f"the {wanted[name][0]} {name!r} is missing")
        elif found[name] != wanted[name]:
            problems.append(f"the {wanted[name][0]} {name!r} is not as a release makes it")
    return problems


def _objects_of(connection: sqlite3.Connection) -> dict[str, tuple[str, str, str]]:
    """Type, table and statement of everything in a schema except what belongs to SQLite itself."""
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
    return {
        str(name): (str(kind), str(table), _without_spaces(str(sql)))
        for kind, name, table, sql in rows
        if not (kind == "table" and name in _SQLITES_OWN)
        and not (kind == "index" and sql is None and str(name).startswith("sqlite_autoindex_"))
    }


@lru_cache(maxsize=16)
def _objects_after(version: int) -> dict[str, tuple[str, str, str]]:
    with closing(_made_by(STEPS[:version])) as connection:
        return _objects_of(connection)


def _made_by(steps: tuple[str, ...]) -> sqlite3.Connection:
    """A catalog in memory that has been through these steps."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    know_legacy_grants(connection)
    for statement in _statements_of(steps):
        connection.execute(statement)
    return connection


def _statements_of(steps: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(statement for step in steps for statement in statements_of(step))


@lru_cache(maxsize=16)
def statements_of_new(steps: tuple[str, ...] = STEPS) -> tuple[str, ...]:
    """What makes an empty file the catalog that these steps would make of it.

    Each column that a step adds has SQLite read the whole schema again.  So tables are made as they are in
    the end.  Of what the steps do to rows, only the rows that they insert concern a catalog without any.
    """
    with closing(_made_by(steps)) as connection:
        made = [
            str(sql)
            for name, sql in connection.execute("SELECT name, sql FROM sqlite_master ORDER BY rowid")
            if sql is not None and name not in _SQLITES_OWN
        ]
    return (*made, *(one for one in _statements_of(steps) if _verb(one) == "INSERT"))


def _verb(statement: str) -> str:
    lines = (line.split() for line in statement.splitlines() if not line.lstrip().startswith("--"))
    return next(words[0] for words in lines if words)


def _without_spaces(sql: str) -> str:
    return " ".join(sql.split())


def _run(connection: sqlite3.Connection, statements: Iterable[str], version: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in statements:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def know_legacy_grants(connection: sqlite3.Connection) -> None:
    """Step 4, and what reads files older than that, call this function of ours."""
    connection.create_function("legacy_grants", 2, legacy_grants, deterministic=True)


def statements_of(script: str) -> list[str]:
    """Split a script; `executescript` would commit on its own.  A comment stays before its statement."""
    statements, current = [], ""
    for line in script.splitlines():
        current += line + "\n"
        if sqlite3.complete_statement(current):
            statements.append(current.strip())
            current = ""
    assert not current.strip(), f"a step ends in the middle of a statement: {current}"
    return statements


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
