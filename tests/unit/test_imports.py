"""The rooms of docs/architecture.md: imports point downwards only, and pure rooms stay pure."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

ALLOWED = {
    "errors": set(),
    "conf": {"errors"},
    "storage": {"errors"},
    "auth": {"errors"},
    "transport": {"errors"},
    "catalog": {"errors", "auth", "transport"},
    "rescue": {"errors", "conf", "storage", "transport", "catalog"},
    "actors": {"errors", "conf", "storage", "auth", "transport", "catalog"},
    "client": {"errors", "conf", "transport"},
}

# Modules that must be usable, and testable, without an event loop or a socket.
PURE = [
    "errors",
    "storage.needle",
    "storage.stamp",
    "storage.volume",
    "storage.compaction",
    "storage.successor",
    "storage.scrub",
    "auth.tokens",
    "auth.rights",
    "auth.keys",
    "catalog.store",
    "catalog.placement",
    "catalog.names",
    "transport.endpoints",
    "transport.messages",
    "transport.http_rules",
    "transport.conditions",
    "transport.header_text",
    "transport.integrity",
    "conf.hosts",
    "conf.settings",
    "rescue.survey",
    "actors.jobs",
    "actors.ledger",
    "actors.throttle",
    "actors.pace",
    "actors.policy",
]


def imported_names(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_a_room_imports_only_the_rooms_below_it(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files, f"{room}/ holds no code: has the room moved?"
    for path in files:
        upward = (imported_names(path) & set(ALLOWED)) - ALLOWED[room] - {room}
        assert not upward, f"{path.relative_to(ROOT)} imports {', '.join(sorted(upward))}"


def test_every_package_of_the_distribution_is_a_room() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "bench"}
    assert packages == set(ALLOWED)


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_brings_no_event_loop_and_no_sockets_along(module: str) -> None:
    program = f"import sys, {module}; sys.exit(' '.join(n for n in ('trio', 'zmq') if n in sys.modules) or 0)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{module} imports {done.stderr.strip()}"
