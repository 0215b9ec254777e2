"""Descriptors: which TCP connection does a descriptor carry now?

libzmq names a connection by its descriptor alone, with each message and in the monitor's events.  The kernel
gives the number to the next connection at once, and the event comes later.  So the hub counts how many
connections a descriptor has carried, its generation, and remembers which ones it has shut itself.
"""

from __future__ import annotations

from warehouse.transport.zeromq.tcp import connection_name


class Descriptors:
    """The descriptors of one listening socket."""

    def __init__(self) -> None:
        self.generations: dict[int, int] = {}  # descriptor -> how many connections it has carried
        # descriptor -> its generation and the connection that the hub shut, until libzmq says so too
        self.shut: dict[int, tuple[int, str]] = {}

    def reset(self) -> None:
        """Know nothing of any connection, as before the first one."""
        self.generations.clear()
        self.shut.clear()

    def accepted(self, descriptor: int) -> None:
        self.generations[descriptor] = self.generations.get(descriptor, 0) + 1

    def ended(self, descriptor: int) -> None:
        self.shut.pop(descriptor, None)

    def generation_of(self, descriptor: int) -> int:
        return self.generations.get(descriptor, 0)

    def note_shut(self, descriptor: int, name: str) -> None:
        """The hub has shut the connection that this descriptor carries."""
        self.shut[descriptor] = self.generation_of(descriptor), name

    def is_shut(self, descriptor: int) -> bool:
        """Has the hub shut the connection that this descriptor carries?

        Another connection has the descriptor at once, and may speak before the monitor tells of it.
        """
        generation, name = self.shut.get(descriptor, (-1, ""))
        if generation != self.generation_of(descriptor):
            return False
        return connection_name(descriptor) in ("", name)
