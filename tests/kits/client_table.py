"""The table of S3 clients in docs/s3.md: which commands of which client the tests run.

python tests/kits/client_table.py docs/s3.md       write it there
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from client_environments import REQUIREMENTS
from client_kit import PROGRAMS, commands_of

TESTS = PROGRAMS.parent
BEGIN, END = "<!-- clients: begin -->\n", "<!-- clients: end -->\n"
MOVING = "from_minio"  # tests docs/s3-from-minio.md
NAMES = {"awscli": "AWS command line", "minio": "minio-py", "litestream": "Litestream"}
SYSTEM = {"rclone": "rclone 1.60", "restic": "restic"}
ALSO = {
    "awscli": "path style; folders also with virtual hosts, through nginx",
    "boto3": "path style, directly and through nginx; virtual hosts",
    "rclone": "both releases; the newer also through nginx",
}


def modules() -> dict[str, Path]:
    """The module that holds the commands of each client."""
    found = {}
    for test in sorted(TESTS.glob("test_*.py")):
        client = test.stem.removeprefix("test_")
        if client == MOVING:
            continue
        program = PROGRAMS / f"{client}_program.py"
        found[client] = program if program.exists() else test
    return found


def table() -> str:
    lines = ["| client | release | commands, each a test | how |", "|---|---|---|---|"]
    for client, path in modules().items():
        releases = [f"`{REQUIREMENTS[client]}`"] if client in REQUIREMENTS else []
        if client in SYSTEM:
            releases.append(f"{SYSTEM[client]} of Debian" if client == "rclone" else "that of Debian")
        commands = " · ".join(commands_of(path).values())
        how = ALSO.get(client, "path style")
        lines.append(f"| {NAMES.get(client, client)} | {', '.join(releases)} | {commands} | {how} |")
    return "\n".join(lines) + "\n"


def replaced(page: str) -> str:
    """The page with the table as it should be."""
    return re.sub(f"(?s){BEGIN}.*?{END}", lambda _: BEGIN + table() + END, page)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.write_text(replaced(place.read_text()))
