"""A little of what `python -m tests.fuzz_s3` does for as long as one likes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio

from s3_kit import s3_store
from s3_streams import Requests
from tests.fuzz_s3 import SETTINGS, fuzz


@pytest.mark.parametrize(
    "seconds", [4, pytest.param(2400, marks=[pytest.mark.long, pytest.mark.timeout(3000)])]
)
def test_a_gateway_copes_with_twisted_requests(tmp_path: Path, seconds: int) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    with s3_store(tmp_path, config=SETTINGS) as gateway:
        run = trio.run(fuzz, gateway, Requests.KINDS, seconds, seed)
    assert run.statuses.keys() == set(Requests.KINDS)
    assert all(statuses.total() for statuses in run.statuses.values())
