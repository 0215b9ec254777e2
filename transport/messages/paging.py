"""Paging: how much of a long answer goes into one message.  Pure.

A frame takes 8 MiB.  The documented limits allow longer answers: a thousand objects with 8 KiB of metadata
each, an object of half a million chunks, the status of 20,000 volumes.  So the sender of an answer puts what
fits into half a frame, and says where the next page begins.  The other half is for what comes with it once:
rights to read, names of disks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from warehouse.transport.messages.base import FRAME_SIZE_MAX

T = TypeVar("T")

ANSWER_SIZE_MAX = FRAME_SIZE_MAX // 2  # bytes of the part that is paged

_encode = msgspec.msgpack.Encoder().encode


def size_of(item: Any) -> int:
    """Bytes that `item` takes in a message."""
    return len(_encode(item))


def fitting(items: Iterable[Any], size_max: int = ANSWER_SIZE_MAX) -> int:
    """How many of `items`, from the first on, are together not longer than `size_max` bytes as a message.

    At least one, if there is one: the reader of an empty page would ask forever.
    """
    return fitting_sizes(map(size_of, items), size_max)


def fitting_sizes(sizes: Iterable[int], size_max: int) -> int:
    """How many of these sizes, from the first on, come to `size_max` together; at least one, as above."""
    total = count = 0
    for size in sizes:
        total += size
        if total > size_max and count:
            break
        count += 1
    return count


def first_that_fit(items: Sequence[T], size_max: int = ANSWER_SIZE_MAX) -> list[T]:
    return list(items[: fitting(items, size_max)])
