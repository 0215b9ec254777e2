"""Credits: what an address may cost a server before its clients have shown who they are.

A connection, a handshake and a refusal cost a stranger little and the server a little more.  So each address
(`origin_of`: an IPv6 network of /64) has a credit, which these use up and which grows back with time.  An
address without credit waits, and nobody else does.

Whoever shows a good token or logs in gets the price of its connection back: an address from which many honest
clients come, such as a proxy, never runs out.  Pure: times are arguments.
"""

from __future__ import annotations

from collections import OrderedDict

ADDRESSES_MAX = 10_000  # with less than full credit; the one that was charged longest ago is forgotten first


class Credits:
    """The credit of each address.

    Args:
        per_s: how much grows back in a second.
        burst: a full credit.  A debt is never larger than that.
    """

    def __init__(self, *, per_s: float, burst: float, addresses_max: int = ADDRESSES_MAX) -> None:
        self.per_s = per_s
        self.burst = burst
        self._addresses_max = addresses_max
        self._accounts: OrderedDict[str, tuple[float, float]] = OrderedDict()  # balance, and when it was that

    def balance(self, address: str, now_s: float) -> float:
        balance, at_s = self._accounts.get(address, (self.burst, now_s))
        return min(self.burst, balance + (now_s - at_s) * self.per_s)

    def take(self, address: str, price: float, now_s: float) -> bool:
        """Charge an address that has credit left; False, and charge nothing, if it has none."""
        balance = self.balance(address, now_s)
        if balance <= 0:
            return False
        self._set(address, balance - price, now_s)
        return True

    def fine(self, address: str, price: float, now_s: float) -> None:
        """Charge an address whether it has credit or not."""
        self._set(address, max(-self.burst, self.balance(address, now_s) - price), now_s)

    def give_back(self, address: str, price: float, now_s: float) -> None:
        self._set(address, self.balance(address, now_s) + price, now_s)

    def _set(self, address: str, balance: float, now_s: float) -> None:
        if balance >= self.burst:
            self._accounts.pop(address, None)
            return
        self._accounts[address] = (balance, now_s)
        self._accounts.move_to_end(address)
        if len(self._accounts) > self._addresses_max:
            self._accounts.popitem(last=False)
