"""Private folders of measurements: those of a killed console go, those of another console stay."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, cast

from warehouse.webui.measuring import LEFT_S, Measuring


def test_two_consoles_of_one_profile_leave_each_other_their_folders(tmp_path: Path) -> None:
    one, other = (Measuring(tmp_path, cast(Any, None)) for _ in range(2))
    first = one._make_folder()
    assert other._make_folder() != first
    assert first.is_dir()


def test_what_a_killed_console_has_left_goes_away(tmp_path: Path) -> None:
    measuring = Measuring(tmp_path, cast(Any, None))
    left = measuring._make_folder()
    long_ago = time.time() - LEFT_S - 1
    os.utime(left, (long_ago, long_ago))
    assert measuring._make_folder() != left
    assert not left.exists()
