"""A little of what `python -m tests.fuzz_http` does for as long as one likes."""

from __future__ import annotations

import random

import pytest
import trio

from tests.fuzz_http import fuzz


@pytest.mark.parametrize(
    "seconds", [3, pytest.param(600, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
def test_servers_cope_with_twisted_streams(seconds: int) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    run = trio.run(fuzz, seconds, seed)
    assert run.served_count
