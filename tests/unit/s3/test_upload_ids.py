"""Upload ids: of one key, and opaque."""

from __future__ import annotations

import pytest

from warehouse.s3.failures import Failure
from warehouse.s3.upload_ids import make_upload_id, read_upload_id, read_upload_marker


@pytest.mark.parametrize("number", [0, 1, 2**40 + 7, 2**63 - 1])
def test_an_id_comes_back(number: int) -> None:
    text = make_upload_id("b", "k é", number)
    assert read_upload_id("b", "k é", text) == read_upload_marker("b", "k é", text) == number
    assert text.replace("-", "").replace("_", "").isalnum()


GOOD = make_upload_id("bucket", "key", 12345)


@pytest.mark.parametrize(
    ("bucket", "key", "text"),
    [
        ("bucket", "key2", GOOD),
        ("bucket2", "key", GOOD),
        ("bucket", "key", ""),
        ("bucket", "key", "12345"),
        ("bucket", "key", GOOD + "A"),
        ("bucket", "key", GOOD[:-1]),
        ("bucket", "key", GOOD + "="),
        ("bucket", "key", "é" * 23),
        ("bucket", "key", "B" + GOOD[1:]),
        ("bucket", "key", "\n" + GOOD),
        *(
            ("bucket", "key", GOOD[:at] + ("A" if GOOD[at] != "A" else "B") + GOOD[at + 1 :])
            for at in range(23)
        ),
    ],
)
def test_any_other_text_names_no_upload(bucket: str, key: str, text: str) -> None:
    with pytest.raises(Failure) as refused:
        read_upload_id(bucket, key, text)
    assert refused.value.code == "NoSuchUpload"
    with pytest.raises(Failure) as refused:
        read_upload_marker(bucket, key, text)
    assert refused.value.code == "InvalidArgument"
