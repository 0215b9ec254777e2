"""Uploads in a file that an older release has written, and uploads that end by the piece."""

import pytest

from catalog_kit import CREATED_MS, SqliteKit, stamp
from warehouse.catalog.sqlite import transaction, uploads
from warehouse.catalog.sqlite.part_reads import PartReads

YEAR_MS = 365 * 24 * 3600 * 1000


@pytest.fixture
def kit(tmp_path):
    kit = SqliteKit(tmp_path)
    yield kit
    kit.assert_consistent()
    kit.close()


def test_an_upload_that_an_older_release_gave_a_year_expires_in_its_time(kit):
    bucket_id = kit.bucket()
    upload_id = kit.begin(bucket_id, expires_ms=CREATED_MS + 1000)
    kit.do(lambda t: t._execute("UPDATE uploads SET expires_ms = ?", (CREATED_MS + YEAR_MS,)))
    assert kit.do(lambda t: t.expire_uploads(CREATED_MS, stamp(1), 10)) == []
    assert kit.do(lambda t: t.expire_uploads(CREATED_MS + 1000, stamp(1), 10)) == [upload_id]


def begun_with_chunks(kit, bucket_id, *, count):
    """Three uploads, each of which has so many chunks."""
    begun = [kit.begin(bucket_id, f"{name}") for name in "abc"]
    for name, upload_id in zip("abc", begun, strict=True):
        for index in range(count):
            kit.send_chunk(upload_id, bucket_id, index, key=name)
    return begun


def test_uploads_with_many_chunks_expire_in_several_transactions(kit, monkeypatch):
    """Ten thousand parts each: a hundred of such uploads in one would hold up every put for many seconds."""
    monkeypatch.setattr(uploads, "CHUNKS_AT_ONCE", 5)
    begun = begun_with_chunks(kit, kit.bucket(), count=4)
    expired = [kit.do(lambda t: t.expire_uploads(10**15, stamp(9), 10)) for _ in range(3)]
    assert [len(each) for each in expired] == [2, 1, 0]
    assert {upload_id for each in expired for upload_id in each} == set(begun)
    assert len(kit.garbage()) == 12


def test_a_deleted_bucket_with_large_uploads_and_objects_is_purged_in_several_transactions(kit, monkeypatch):
    monkeypatch.setattr(uploads, "CHUNKS_AT_ONCE", 5)
    monkeypatch.setattr(transaction, "PURGE_AT_ONCE", 5)
    bucket_id = kit.bucket()
    for upload_id in begun_with_chunks(kit, bucket_id, count=4):
        kit.do(lambda t, upload_id=upload_id: t.finish_upload(upload_id, 4, 400))
    begun_with_chunks(kit, bucket_id, count=4)
    counts = []
    kit.do(lambda t: t.delete_bucket("photos", force=True, stamp=stamp(9)))
    while kit.catalog.is_purge_left:
        counts.append(len(kit.garbage()))
        kit.do(lambda t: t.purge())
    assert counts == [8, 20], "two objects, then the third one and two uploads, then the rest"
    assert len(kit.garbage()) == 24


def test_a_common_prefix_costs_a_few_rows_however_many_uploads_have_it(kit, monkeypatch):
    """A page of a thousand prefixes would read a million rows, and the master does nothing else meanwhile."""
    bucket_id = kit.bucket()
    for number in range(200):
        kit.begin(bucket_id, f"{number % 5}/{number}", style="multipart")
    read, real = [], PartReads._open

    def counted(self, *arguments):
        rows = real(self, *arguments)
        read.append(len(rows))
        return rows

    monkeypatch.setattr(PartReads, "_open", counted)
    page = kit.catalog.open_uploads(bucket_id, delimiter="/")
    assert page.prefixes == ["0/", "1/", "2/", "3/", "4/"]
    assert sum(read) <= 25
