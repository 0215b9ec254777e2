"""Newcomers: connections that have not said who they are, and how many of them there may be.

    accepted --> newcomer --says who it is--> known
                    |
                    +-- NOBODY_S have passed, or too many came after it: shut

A connection costs a descriptor and some memory, before and after its handshake, so there is a budget for all
connections, a smaller one for newcomers, and one for the newcomers of each address.  When a budget is used
up, the address with the most newcomers loses the oldest of them.  So a stranger that opens thousands drives
out its own connections.  An honest newcomer says who it is within milliseconds, so it gets in from the same
address, too.  A known connection stays.

Pure bookkeeping: times are arguments, and the caller shuts what it is told to shut.
"""

from __future__ import annotations

from collections import OrderedDict

NOBODY_S = 10.0  # a connection that has not said by then who it is, is shut


class Newcomers:
    """The connections of one listening socket, by descriptor.

    Args:
        total_max: all connections together.
        newcomers_max: those that have not said who they are.
        per_address: of them, those of one address.
        nobody_s: for how long they may be that.
    """

    def __init__(
        self,
        *,
        total_max: int,
        newcomers_max: int,
        per_address: int | None = None,
        nobody_s: float = NOBODY_S,
    ) -> None:
        self.total_max = total_max
        self.newcomers_max = newcomers_max
        self._per_address = newcomers_max if per_address is None else per_address
        self._nobody_s = nobody_s
        self._address_of: dict[int, str] = {}  # of all connections
        self._since: OrderedDict[int, float] = OrderedDict()  # of newcomers, the oldest first
        self._by_address: dict[str, OrderedDict[int, None]] = {}  # of newcomers

    @property
    def count(self) -> int:
        """All connections."""
        return len(self._address_of)

    @property
    def newcomer_count(self) -> int:
        return len(self._since)

    def address_of(self, descriptor: int) -> str:
        """Where a connection comes from; "" when it is not known."""
        return self._address_of.get(descriptor, "")

    def is_newcomer(self, descriptor: int) -> bool:
        return descriptor in self._since

    def accepted(self, descriptor: int, address: str, now_s: float) -> list[int]:
        """Note a new connection; return the descriptors to shut for it, which may be its own."""
        self.closed(descriptor)  # the monitor tells of its end late sometimes
        self._address_of[descriptor] = address
        self._since[descriptor] = now_s
        same = self._by_address.setdefault(address, OrderedDict())
        same[descriptor] = None
        shut: list[int] = []
        if len(same) > self._per_address:
            shut.append(next(iter(same)))
            self._forget_newcomer(shut[0])
        while self._since and (
            len(self._since) > self.newcomers_max or len(self._address_of) - len(shut) > self.total_max
        ):
            oldest = self._oldest_of_most()
            self._forget_newcomer(oldest)
            shut.append(oldest)
        return shut

    def closed(self, descriptor: int) -> None:
        self._forget_newcomer(descriptor)
        self._address_of.pop(descriptor, None)

    def became_known(self, descriptor: int) -> bool:
        """This connection has said who it is; False: it had before."""
        if descriptor not in self._since:
            return False
        self._forget_newcomer(descriptor)
        return True

    def overdue(self, now_s: float) -> list[int]:
        """The connections whose time to say who they are is up; each is returned once."""
        found = []
        while self._since:
            descriptor, since_s = next(iter(self._since.items()))
            if now_s - since_s <= self._nobody_s:
                break
            self._forget_newcomer(descriptor)
            found.append(descriptor)
        return found

    def _oldest_of_most(self) -> int:
        most = max(self._by_address.values(), key=len)
        return next(iter(most))

    def _forget_newcomer(self, descriptor: int) -> None:
        if self._since.pop(descriptor, None) is None:
            return
        address = self._address_of[descriptor]
        same = self._by_address[address]
        del same[descriptor]
        if not same:
            del self._by_address[address]
