"""The list of the public tests that pass, and what the page about S3 tells of it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_has_the_number_of_public_tests_that_pass() -> None:
    names = (ROOT / "tests/s3_suite/passing.txt").read_text().splitlines()
    assert names == sorted(set(names))
    assert all(re.fullmatch(r"test_(s3|headers)::test_\w+", name) for name in names)
    assert f"{len(names)} of the 294 tests" in (ROOT / "docs/s3.md").read_text()
