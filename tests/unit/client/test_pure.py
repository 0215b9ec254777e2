"""Which modules of the client are rules alone, and that they stay so."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PURE = [
    "client/headers",
    "client/writing/leases",
    "client/leftovers",
    "cli/copying/places",
    "cli/output/formats",
    "cli/usage",
]


@pytest.mark.parametrize("name", PURE)
def test_a_rule_needs_no_event_loop_and_no_socket(name: str) -> None:
    imported = set()
    for node in ast.walk(ast.parse((ROOT / f"{name}.py").read_text())):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
    assert not imported & {"trio", "zmq", "rich", "cyclopts"}
    ours = {module for module in imported if module.startswith(("warehouse.client", "warehouse.cli"))}
    assert ours <= {"warehouse." + pure.replace("/", ".") for pure in PURE}
