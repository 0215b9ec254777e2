"""docs/errors.md says of every error what it means and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from warehouse.errors import BY_CODE, StoreError
from warehouse.errors.__main__ import below, explained, reference

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_in_the_repository_is_current() -> None:
    assert (ROOT / "docs/errors.md").read_text() == reference(), "python -m warehouse.errors > docs/errors.md"


@pytest.mark.parametrize("error", [error for error in BY_CODE.values() if error is not StoreError])
def test_every_error_says_what_it_means_and_what_to_do(error: type[StoreError]) -> None:
    assert "__doc__" in vars(error)
    meaning, to_do = explained(error)
    assert meaning.endswith(".")
    assert to_do.endswith(".")
    assert f"| `{error.code}` |" in reference() or f"`{error.code}`. " in reference()


def test_every_error_has_a_code_of_its_own() -> None:
    assert all(vars(error)["code"] == code for code, error in BY_CODE.items())
    assert set(BY_CODE.values()) == {StoreError, *below(StoreError)}, (
        "it stands below BY_CODE, or shares a code"
    )
