"""Login rates: how often one API key may log in.  Pure.

A login costs the master a signature and a place in the audit log, and a client needs one in ten minutes.  So
a key has a budget of logins that is far beyond what honest clients need, also when a thousand of them start
at the same moment.  Beyond it, a login is refused with `Busy`, which says when to come back.

Nobody locks others out who have the same key: each address has a small budget of its own, which counts when
that of the key is used up.
"""

from __future__ import annotations

from warehouse.errors import Busy
from warehouse.transport.credits import Credits

KEY_PER_S, KEY_BURST = 100.0, 5000.0
ADDRESS_PER_S, ADDRESS_BURST = 2.0, 60.0  # of one address, when its key has used up its budget


class LoginRates:
    def __init__(self) -> None:
        self._of_key = Credits(per_s=KEY_PER_S, burst=KEY_BURST)
        self._of_address = Credits(per_s=ADDRESS_PER_S, burst=ADDRESS_BURST)

    def admit(self, key_id: str, address: str, now_s: float) -> None:
        """Count a login with the right secret.

        Args:
            now_s: of a clock that only goes on.
        Raises:
            Busy: the key logs in too often.
        """
        if self._of_key.take(key_id, 1, now_s):
            return
        name = f"{key_id} {address}"
        if not self._of_address.take(name, 1, now_s):
            wait_s = (1.0 - self._of_address.balance(name, now_s)) / ADDRESS_PER_S
            raise Busy("this key logs in too often: keep a connection, or its token", retry_after_s=wait_s)
