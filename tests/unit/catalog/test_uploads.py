"""Uploads in a file that an older release has written."""

import pytest

from catalog_kit import CREATED_MS, SqliteKit, stamp

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
