"""The tools of a rescue, as an operator runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from harness import environment


def tool(name: str, *arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", f"warehouse.rescue.{name}", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment(),
    )
    assert done.returncode == status, f"{name} ended with {done.returncode}: {done.stderr[-2000:]}"
    return done


def report_of(name: str, *arguments: object) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(tool(name, *arguments, "--json").stdout)
    return report
