"""A backup may be anybody's: nothing but what a store writes gets out of it, and nothing of it is run."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from hostile_kit import PHOTOS, HostileDisk
from warehouse.catalog.sqlite.catalog import SqliteCatalog
from warehouse.catalog.sqlite.schema import (
    APPLICATION_ID,
    STEPS,
    differences,
    know_legacy_grants,
    statements_of,
)
from warehouse.errors import (
    BackupCorrupt,
    CatalogCorrupt,
    DiskFull,
    FormatUnsupported,
    ReadFailed,
    StoreError,
)
from warehouse.rescue.archive import KEY_NAMES, opened_backup
from warehouse.rescue.backup import back_up
from warehouse.rescue.console import NoProgress
from warehouse.rescue.rebuild import Options, rebuild
from warehouse.rescue.restore import restore

QUIET = NoProgress()
Entry = tuple[tarfile.TarInfo, bytes]


class Crafted:
    """The members of a good backup, to be written again with something wrong."""

    def __init__(self, good: Path, path: Path) -> None:
        self.path = path
        self.changes: dict[str, object] = {}  # of the manifest
        with tarfile.open(good) as tar:
            self.members = {entry.name: content_of(tar, entry) for entry in tar.getmembers()}
        self.manifest = json.loads(self.members.pop("manifest.json"))

    def entries(self) -> list[Entry]:
        sums = {name: hashlib.sha256(content).hexdigest() for name, content in self.members.items()}
        sizes = {name: len(content) for name, content in self.members.items()}
        manifest = {**self.manifest, "sha256": sums, "sizes": sizes, **self.changes}
        everything = {"manifest.json": json.dumps(manifest).encode(), **self.members}
        return [(plain(name, len(content)), content) for name, content in everything.items()]

    def write(self, entries: list[Entry] | None = None) -> Path:
        with tarfile.open(self.path, "w", format=tarfile.PAX_FORMAT) as tar:
            for entry, content in entries or self.entries():
                tar.addfile(entry, io.BytesIO(content))
        return self.path

    def change_catalog(self, work: Callable[[sqlite3.Connection], object]) -> None:
        path = self.path.with_name("changed.sqlite3")
        path.write_bytes(self.members["catalog.sqlite3"])
        with closing(sqlite3.connect(path)) as connection:
            work(connection)
            connection.commit()
        self.members["catalog.sqlite3"] = path.read_bytes()
        path.unlink()


def plain(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry


def content_of(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    content = tar.extractfile(entry)
    assert content is not None
    return content.read()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one object, a key, and the master's secrets; and its backup."""
    folder = tmp_path_factory.mktemp("made")
    data = folder / "store"
    HostileDisk(data).close()
    rebuild(Options(data=data), QUIET)
    keys = data / "master" / "keys"
    keys.mkdir(mode=0o700)
    for name in (*KEY_NAMES, "authorized_keys", "access.pem.new"):
        (keys / name).write_text(f"secret {name}")
    back_up(folder / "good.tar", data, QUIET)
    return folder


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    """That store."""
    shutil.copytree(made / "store", tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def crafted(made: Path, tmp_path: Path) -> Crafted:
    return Crafted(made / "good.tar", tmp_path / "crafted.tar")


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    (tmp_path / "fresh").mkdir()
    return tmp_path / "fresh"


def left_behind(folder: Path) -> list[str]:
    return sorted(
        path.name for path in folder.rglob("*") if path.is_file() and path.name != "catalog.sqlite3.lock"
    )


def refused(path: Path, fresh: Path, match: str | None, error: type[StoreError] = BackupCorrupt) -> None:
    with pytest.raises(error, match=match):
        restore(path, fresh, QUIET)
    assert left_behind(fresh) == []
    with pytest.raises(error), opened_backup(path, fresh) as backup:
        raise AssertionError(f"{backup} was opened")


def test_the_keys_of_a_backup_are_those_of_a_master() -> None:
    """`actors/control/key_files.py` makes them; its room is none that this one may look into."""
    source = (Path(__file__).parents[3] / "actors/control/key_files.py").read_text()
    for name in KEY_NAMES:
        assert f'"{name}"' in source


def test_a_backup_holds_what_belongs_to_it_and_comes_back(crafted: Crafted, fresh: Path) -> None:
    names = [f"keys/{name}" for name in KEY_NAMES]
    assert list(crafted.members) == ["catalog.sqlite3", *names]
    assert restore(crafted.write(), fresh, QUIET).keys == list(KEY_NAMES)
    assert (fresh / "master" / "keys" / "data.json").read_text() == "secret data.json"


def test_a_backup_of_the_first_release_is_restored(crafted: Crafted, fresh: Path) -> None:
    entries = crafted.entries()
    manifest = json.loads(entries[0][1])
    del manifest["sizes"]
    content = json.dumps(manifest).encode()
    restore(crafted.write([(plain("manifest.json", len(content)), content), *entries[1:]]), fresh, QUIET)
    assert (fresh / "master" / "catalog.sqlite3").is_file()


@pytest.mark.parametrize(
    "name",
    ["keys/authorized_keys", "other.txt", "catalog.sqlite3-wal", "keys", "keys/", "./catalog.sqlite3", "../evil",
     "/etc/evil", "keys/../../evil", "manifest.json", "catalog.sqlite3/x", "", "k" * 200, "keys/\u202edata.json"],
)  # fmt: skip
def test_a_member_that_no_backup_has_is_refused_though_the_manifest_names_it(
    name: str, crafted: Crafted, fresh: Path
) -> None:
    crafted.members[name] = b"evil"
    entries = crafted.entries()
    if name == "manifest.json":  # once more, at the end
        entries.append((plain(name, 4), b"evil"))
    refused(crafted.write(entries), fresh, "not a valid backup")


KINDS = {
    "link": tarfile.SYMTYPE,
    "hard link": tarfile.LNKTYPE,
    "device": tarfile.BLKTYPE,
    "pipe": tarfile.FIFOTYPE,
    "folder": tarfile.DIRTYPE,
    "sparse file": tarfile.GNUTYPE_SPARSE,
    "contiguous file": tarfile.CONTTYPE,
    "long name": tarfile.GNUTYPE_LONGNAME,
    "global header": tarfile.XGLTYPE,
    "unknown": b"Z",
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_a_member_that_is_no_plain_file_is_refused(kind: bytes, crafted: Crafted, fresh: Path) -> None:
    entries = crafted.entries()
    entry, content = entries[-1]
    entry.type, entry.linkname = kind, "../../etc/passwd"
    refused(crafted.write(entries[:-1] + [(entry, content)]), fresh, "plain file|extended|header|whole")


@pytest.mark.parametrize(
    "records",
    [
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "keys/data.json",
         "GNU.sparse.realsize": str(3 << 30)},
        {"path": "../evil"},
        {"linkpath": "/etc/passwd"},
        {"size": str(1 << 40)},
        {"size": "-5"},
        {"size": "many"},
        {"SCHILY.xattr.user.x": "y"},
        {"comment": "x" * 10_000},
    ],
    ids=lambda records: next(iter(records)),
)  # fmt: skip
def test_an_extended_header_says_nothing_but_times_and_sizes(
    records: dict[str, str], crafted: Crafted, fresh: Path
) -> None:
    entries = crafted.entries()
    entries[-1][0].pax_headers = records
    refused(crafted.write(entries), fresh, "extended header|cut off|not a whole|expected")


def test_a_backup_that_was_packed_anew_with_times_is_taken(crafted: Crafted, fresh: Path) -> None:
    entries = crafted.entries()
    for entry, _ in entries:
        entry.mtime = 1.5
    restore(crafted.write(entries), fresh, QUIET)


def test_a_member_that_comes_twice_is_refused(crafted: Crafted, fresh: Path) -> None:
    entries = crafted.entries()
    refused(crafted.write([*entries, entries[1]]), fresh, "twice")


@pytest.mark.parametrize("changes", [{"catalog.sqlite3": 5}, {"keys/data.json": 1 << 40}])
def test_a_size_that_is_not_what_the_manifest_says_is_refused(
    changes: dict[str, int], crafted: Crafted, fresh: Path
) -> None:
    sizes = {name: len(content) for name, content in crafted.members.items()}
    crafted.changes = {"sizes": sizes | changes}
    refused(crafted.write(), fresh, "expected")


def test_a_secret_of_a_gigabyte_is_refused_before_it_is_read(crafted: Crafted, fresh: Path) -> None:
    crafted.members["keys/data.json"] = b"x" * 70_000
    refused(crafted.write(), fresh, "at most 65536")


def test_a_catalog_that_there_is_no_room_for_is_refused_before_it_is_read(
    crafted: Crafted, fresh: Path
) -> None:
    """A file of a few KiB may have a member of terabytes, which are a hole: to read them takes hours."""
    size = 4 << 40
    crafted.members = {"catalog.sqlite3": b""}
    crafted.changes = {"sizes": {"catalog.sqlite3": size}}
    (manifest, content), _ = crafted.entries()
    entry = plain("catalog.sqlite3", size)
    with crafted.path.open("wb") as file:
        for head, data in ((manifest, content), (entry, b"")):
            file.write(head.tobuf(tarfile.GNU_FORMAT))
            file.write(data + bytes(-len(data) % 512))
        file.truncate(file.tell() + size + 1024)
    refused(crafted.path, fresh, "are free", DiskFull)


@pytest.mark.parametrize(
    "changes",
    [{"created_ms": 10**30}, {"created_ms": -1}, {"sha256": {}}, {"sha256": 7}, {"format": "x"}, {"format": True},
     {"sizes": {"catalog.sqlite3": 1.5}}, {"stamp_max": [[[[]]]]}],
)  # fmt: skip
def test_a_manifest_that_makes_no_sense_is_refused(
    changes: dict[str, object], crafted: Crafted, fresh: Path
) -> None:
    crafted.changes = changes
    refused(crafted.write(), fresh, None, StoreError)


def test_archives_that_were_cut_or_joined_are_refused(crafted: Crafted, fresh: Path) -> None:
    good = crafted.write().read_bytes()
    end = len(good.rstrip(b"\0"))
    for content in (
        b"",
        good[:511],
        good[: end // 2],
        good[: end + 100],
        good + good,
        good + b"x",
        good + bytes(2 << 20),
    ):
        crafted.path.write_bytes(content)
        refused(crafted.path, fresh, None)
    crafted.path.unlink()
    os.mkfifo(crafted.path)
    refused(crafted.path, fresh, "no backup", ReadFailed)
    crafted.path.unlink()
    with crafted.path.open("wb") as file:
        file.truncate(1 << 42)
    refused(crafted.path, fresh, None)


def test_nothing_is_written_of_a_backup_of_which_a_byte_is_wrong(
    crafted: Crafted, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warehouse.rescue.archive._unpack", lambda *_: pytest.fail("it was unpacked"))
    path = crafted.write()
    content = bytearray(path.read_bytes())
    content[len(content.rstrip(b"\0")) - 1] ^= 1
    path.write_bytes(content)
    refused(path, fresh, "SHA-256")


# --- its catalog ----------------------------------------------------------------------------------

SCHEMAS = {
    "trigger": "CREATE TRIGGER evil AFTER INSERT ON buckets BEGIN UPDATE api_keys SET permissions = 255; END",
    "view": "CREATE VIEW evil AS SELECT 1",
    "table": "CREATE TABLE evil (x)",
    "virtual table": "CREATE VIRTUAL TABLE evil USING fts5(x)",
    "index": "CREATE INDEX evil ON buckets (abs(created_ms))",
    "column": "ALTER TABLE buckets ADD COLUMN evil TEXT DEFAULT 'x'",
    "computed column": "ALTER TABLE buckets ADD COLUMN evil TEXT AS (name || 'x')",
    "missing index": "DROP INDEX objects_by_needle",
    "missing table": "DROP TABLE jobs",
}


@pytest.mark.parametrize("sql", SCHEMAS.values(), ids=list(SCHEMAS))
def test_a_catalog_with_another_schema_than_ours_is_refused(sql: str, crafted: Crafted, fresh: Path) -> None:
    crafted.change_catalog(lambda connection: connection.execute(sql))
    refused(crafted.write(), fresh, "schema is not that of a store")


@pytest.mark.parametrize("version", range(1, len(STEPS)))
def test_a_trigger_in_an_older_catalog_does_not_survive_being_brought_up_to_date(
    version: int, tmp_path: Path
) -> None:
    path = tmp_path / "old.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        know_legacy_grants(connection)
        for step in STEPS[:version]:
            for statement in statements_of(step):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {version}")
        assert differences(connection, version) == []
        connection.execute("CREATE TRIGGER evil AFTER UPDATE ON volumes BEGIN DELETE FROM facts; END")
        connection.commit()
    with pytest.raises(CatalogCorrupt, match=r"trigger 'evil'.*DROP TRIGGER"):
        SqliteCatalog.open(path)


KEY_COLUMNS = "id, name, salt, hash, permissions, grants, is_enabled, epoch, created_ms"
NODE_KEY = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"


def node_sql(*, key: str = f"'{NODE_KEY}'", role: str = "'both'", times: str = "1, 'wjt', 'd', NULL") -> str:
    return f"INSERT INTO nodes VALUES ({key}, 'disk-1', {role}, '192.0.2.7', {times})"


def token_sql(
    *, token_id: str = "2f8a61c90d4e", digest: str = "zeroblob(32)", rest: str = "'both', 0, 1, '', NULL, 0"
) -> str:
    return f"INSERT INTO join_tokens VALUES ('{token_id}', {digest}, {rest})"


ROWS = {
    "a bucket that leads up": "UPDATE buckets SET name = '../x'",
    "a bucket of nothing": "UPDATE buckets SET name = ''",
    "a key of nothing": "UPDATE objects SET key = ''",
    "a key of 2 KiB": "UPDATE objects SET key = printf('%.*c', 2048, 'k')",
    "a size below 0": "UPDATE objects SET size = -1",
    "a stamp of 2^63 - 1": "UPDATE objects SET stamp = 9223372036854775807",
    "the last stamp": "UPDATE facts SET value = 9223372036854775807 WHERE name = 'stamp_max'",
    "needle 2^40": "UPDATE objects SET needle_id = 1099511627776",
    "the last bucket": "UPDATE sqlite_sequence SET seq = 9223372036854775807 WHERE name = 'buckets'",
    "volume ids of text": "UPDATE sqlite_sequence SET seq = 'abc' WHERE name = 'volumes'",
    "bucket ids of nothing": "UPDATE sqlite_sequence SET seq = NULL",
    "no chunk": "UPDATE objects SET chunk_count = 0",
    "metadata that is none": "UPDATE objects SET metadata = x'ff'",
    "a volume without uuid": "UPDATE volumes SET uuid = 'x'",
    "a volume of 2^60 bytes": "UPDATE volumes SET capacity = 1152921504606846976",
    "an API key that does not decode":
        f"INSERT INTO api_keys ({KEY_COLUMNS}) VALUES ('k', 'n', x'00', x'00', 1, x'ff', 1, 1, 1)",
    "an API key with a grant of no permission that there is":
        f"INSERT INTO api_keys ({KEY_COLUMNS}) VALUES ('k', 'n', x'', x'', 1, x'9194cd400001c0a0', 1, 1, 1)",
    "an API key with all rights of 2^62":
        f"INSERT INTO api_keys ({KEY_COLUMNS}) VALUES"
        " ('k', 'n', x'00', x'00', 4611686018427387904, NULL, 1, 1, 1)",
    "a node whose key is none": node_sql(key="printf('%.*c', 40, '~')"),
    "a node with a key of 1 MiB": node_sql(key="printf('%.*c', 1048576, 'k')"),
    "a node of no role": node_sql(role="'master'"),
    "a node of the year 100000": node_sql(times="1 << 52, NULL, NULL, NULL"),
    "a node that was removed before all time": node_sql(times="1, NULL, NULL, -1"),
    "a node for a disk of 1 MiB": node_sql(times="1, NULL, printf('%.*c', 1048576, 'd'), NULL"),
    "a disk of a node whose key is none": "UPDATE disks SET node_key = ''",
    "attributes that are none": "UPDATE objects SET attributes = x'c1'",
    "attributes of 32 KiB": "UPDATE objects SET attributes = zeroblob(32768)",
    "an MD5 that the attributes do not have": "UPDATE objects SET md5 = zeroblob(16)",
    "an object in 10,001 parts": "UPDATE objects SET part_count = 10001",
    "an object that is half amended": "UPDATE objects SET is_amended = 2",
    "a part of number 0": "INSERT INTO parts VALUES (1, 0, 0, 1, 1, zeroblob(16), NULL, 1)",
    "a part with a short MD5": "INSERT INTO parts VALUES (1, 1, 0, 1, 1, x'00', NULL, 1)",
    "a part with a checksum that is none": "INSERT INTO parts VALUES (1, 1, 0, 1, 1, zeroblob(16), x'c1', 1)",
    "an amendment in volume 0": "INSERT INTO amendments VALUES (0, 1, 1, 1, 1)",
    "an upload begun with what are no attributes": (
        "INSERT INTO uploads (id, bucket_id, key, created_ms, expires_ms, lifetime_ms, attributes)"
        " VALUES (1, 1, 'k', 1, 1, 1, x'c1')"
    ),
    "a disk with a URL of 1 MiB": "UPDATE disks SET url = printf('%.*c', 1048576, 'u')",
    "a join token whose id is none": token_sql(token_id="../token"),
    "a join token with a digest of nothing": token_sql(digest="x''"),
    "a join token for no role": token_sql(rest="'', 0, 1, '', NULL, 0"),
    "a join token that is half reusable": token_sql(rest="'both', 2, 1, '', NULL, 0"),
    "a join token used less than never": token_sql(rest="'both', 0, 1, '', NULL, -1"),
    "a join token that expires before all time": token_sql(rest="'both', 0, 1, '', -1, 0"),
    "a join token made by 1 MiB": token_sql(rest="'both', 0, 1, printf('%.*c', 1048576, 'k'), NULL, 0"),
}  # fmt: skip


@pytest.mark.parametrize("sql", ROWS.values(), ids=list(ROWS))
def test_a_row_that_no_store_wrote_is_refused(sql: str, crafted: Crafted, fresh: Path) -> None:
    crafted.change_catalog(lambda connection: connection.execute(sql))
    with pytest.raises(BackupCorrupt, match=r"no store can have written.*warehouse rebuild"):
        restore(crafted.write(), fresh, QUIET)
    assert left_behind(fresh) == []


def test_nodes_and_join_tokens_as_a_store_writes_them_are_restored(crafted: Crafted, fresh: Path) -> None:
    def add(connection: sqlite3.Connection) -> None:
        connection.execute(node_sql())
        connection.execute(token_sql())
        connection.execute("UPDATE disks SET node_key = ?, url = 'http://192.0.2.7:7410'", (NODE_KEY,))

    crafted.change_catalog(add)
    restore(crafted.write(), fresh, QUIET)
    catalog = SqliteCatalog.open(fresh / "master" / "catalog.sqlite3")
    try:
        assert [node.key for node in catalog.nodes()] == [disk.node_key for disk in catalog.disks()]
        assert [token.id for token in catalog.join_tokens()] == ["2f8a61c90d4e"]
    finally:
        catalog.close()


def test_a_content_type_that_no_header_carries_is_left_out_of_a_restored_catalog(
    crafted: Crafted, data: Path
) -> None:
    crafted.change_catalog(
        lambda connection: connection.execute("UPDATE objects SET content_type = 'text/html' || char(13, 10)")
    )
    assert restore(crafted.write(), data, QUIET).rebuild is None
    catalog = SqliteCatalog.open(data / "master" / "catalog.sqlite3")
    try:
        (row,) = catalog.list_objects(PHOTOS).objects
        assert row.content_type is None
    finally:
        catalog.close()


def test_a_rebuild_believes_no_old_catalog_whose_tables_are_not_ours(data: Path) -> None:
    path = data / "master" / "catalog.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE api_keys")
        connection.execute("CREATE VIEW api_keys AS SELECT 'k' AS id, 'n' AS name, x'' AS salt")
        connection.commit()
    report = rebuild(Options(data=data, replace=True), QUIET)
    assert (report.api_keys, report.objects) == (0, 1)
    assert any("nothing could be read" in remark for remark in report.remarks)


def test_a_format_of_a_later_release_is_not_damage(crafted: Crafted, fresh: Path) -> None:
    crafted.changes = {"format": 2}
    refused(crafted.write(), fresh, "format 2", FormatUnsupported)
