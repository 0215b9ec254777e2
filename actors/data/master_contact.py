"""Master contact: a volume actor that has not heard from its master for long honours no token.

The master tells its volume actors at once when an API key loses rights.  An actor that cannot hear it goes on
as it was for `http.unheard_s`, because clients go on reading while a master restarts.  After that it refuses
every token until it has registered again, and so knows what was revoked meanwhile.
"""

from __future__ import annotations

import logging

import trio

from warehouse.actors.data.authorization import RequestAuthorizer
from warehouse.transport.zeromq.link import Link

log = logging.getLogger(__name__)

LOOK_S = 0.5


class MasterContact:
    """Watches for how long the master of one volume actor has been silent."""

    def __init__(self, authorizer: RequestAuthorizer, limit_s: float) -> None:
        self._authorizer = authorizer
        self._limit_s = limit_s
        self.unheard_s = 0.0  # since the connection to the master was last up

    async def watch_forever(self, link: Link) -> None:
        heard = trio.current_time()
        while True:
            # A link that is up hears from its master every second, or ends.
            if link.is_up:
                heard = trio.current_time()
            self.unheard_s = trio.current_time() - heard
            self._judge(self.unheard_s > self._limit_s)
            await trio.sleep(LOOK_S)

    def _judge(self, is_unheard: bool) -> None:
        if is_unheard == (self._authorizer.unheard_s is not None):
            return
        self._authorizer.unheard_s = self._limit_s if is_unheard else None
        if is_unheard:
            log.error(
                "no token is honoured: the master is silent, and may have revoked keys",
                extra={"silent_s": round(self.unheard_s)},
            )
        else:
            log.warning("tokens are honoured again: the master is back")
