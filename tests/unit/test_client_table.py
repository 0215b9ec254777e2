"""docs/s3.md says which commands of which S3 client the tests run."""

from __future__ import annotations

from client_environments import REQUIREMENTS
from client_kit import PROGRAMS
from client_table import BEGIN, SYSTEM, modules, replaced
from harness import ROOT

PAGE = (ROOT / "docs" / "s3.md").read_text()
ELEVEN = {
    "awscli",
    "boto3",
    "litestream",
    "minio",
    "obstore",
    "pyarrow",
    "rclone",
    "restic",
    "s3cmd",
    "s3fs",
    "s5cmd",
}


def test_the_table_of_clients_is_that_of_the_tests() -> None:
    assert BEGIN in PAGE
    assert replaced(PAGE) == PAGE, "python tests/kits/client_table.py docs/s3.md"


def test_every_client_has_tests_and_an_environment() -> None:
    assert set(modules()) == ELEVEN
    assert REQUIREMENTS.keys() | SYSTEM.keys() == ELEVEN


def test_every_program_is_run() -> None:
    programs = {path.stem.removesuffix("_program") for path in PROGRAMS.glob("*_program.py")} - {"client"}
    assert programs <= modules().keys()
    assert all(modules()[client].parent == PROGRAMS for client in programs)
