"""Descriptors: the limit is raised, and connections get a share that leaves half of it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from warehouse.transport.descriptors import connections_within

RAISE = """
import json, resource
from warehouse.transport.descriptors import raise_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1024))
said = raise_limit()
print(json.dumps([said, *resource.getrlimit(resource.RLIMIT_NOFILE)]))
"""


def test_the_soft_limit_is_raised_to_the_hard_one():
    done = subprocess.run([sys.executable, "-c", RAISE], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [1024, 1024, 1024]


@pytest.mark.parametrize(
    ("descriptors", "wanted", "expected"),
    [(65536, 1024, 1024), (1024, 1024, 170), (256, 1024, 42), (256, 8, 8), (4, 1024, 1)],
)
def test_connections_leave_half_of_the_descriptors_to_files(descriptors, wanted, expected):
    assert connections_within(descriptors, wanted) == expected
    refused = min(64, expected)
    assert expected == 1 or 2 * expected + refused <= descriptors / 2
