"""The buffers of large bodies."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from warehouse.actors.data.buffers import LARGE, LARGE_COUNT, SMALL, BufferPool


def test_a_buffer_is_used_again() -> None:
    buffers = BufferPool()
    with buffers.lend() as first:
        pass
    with buffers.lend() as second:
        assert second is first


def test_buffers_lent_at_once_are_different_ones() -> None:
    buffers = BufferPool()
    with buffers.lend() as first, buffers.lend() as second:
        first[0], second[0] = 1, 2
        assert first[0] == 1


def test_a_buffer_comes_back_after_an_error() -> None:
    buffers = BufferPool()
    for _ in range(2 * LARGE_COUNT):
        with pytest.raises(OSError), buffers.lend() as buffer:
            raise OSError
    assert len(buffer) == LARGE


def test_beyond_the_large_ones_all_are_small_until_one_comes_back() -> None:
    buffers = BufferPool()
    with ExitStack() as stack:
        sizes = [len(stack.enter_context(buffers.lend())) for _ in range(LARGE_COUNT + 3)]
    assert sizes == [LARGE] * LARGE_COUNT + [SMALL] * 3
    with buffers.lend() as buffer:
        assert len(buffer) == LARGE
