"""Sessions: who is signed in, kept here and not in the browser.

A browser holds a random cookie and nothing else.  A session has one or several API keys, one of which is the
current one.  It loses a key when that key ends.  It ends itself when its person signs out, when nobody has
used it for long, and some weeks after it began however much it is used.  What pages do of themselves, as a
live update does, is no use.  Sessions do not outlive the console: a restart signs everybody out.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from warehouse.webui.stores import OpenStore

SESSIONS_MAX = 10_000
SESSIONS_OF_KEY_MAX = 1_000
KEYS_MAX = 10  # in one session
TOASTS_MAX = 5
ONCE_MAX = 5
COOKIE_RENEWED_S = 300.0  # a browser is told again how long it keeps the cookie, but not with every answer


@dataclass(kw_only=True)
class Session:
    """One browser.

    Attributes:
        secret: of this session alone; `csrf_secret` is made of it.
        keys: by key id, in the order of signing in.
        toasts: what the next page tells, as (kind, text); kind is "good", "warn" or "bad".
        page_count: pages of it that are open, with a WebSocket each.
        began_s: when somebody signed in, on the clock of `Sessions`.
        used_s: when somebody used it last.
        told_s: when the browser was last told how long it keeps the cookie.
        changed: it has another current key, or none; each change has an event of its own.
        once: secrets that the next page shows, this once.
    """

    began_s: float
    used_s: float
    told_s: float
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    keys: dict[str, OpenStore] = field(default_factory=dict)
    current_id: str = ""
    toasts: list[tuple[str, str]] = field(default_factory=list)
    once: dict[str, object] = field(default_factory=dict, repr=False)
    page_count: int = 0
    changed: trio.Event = field(default_factory=trio.Event)

    @property
    def csrf_secret(self) -> bytes:
        """What a form shows that it knows: no other site can send it, nor a page made with another key.

        A page stays as it was when another tab switches keys.  What a person asks for there is not done with
        a key that they do not see.
        """
        return hmac.digest(self.secret, self.current_id.encode(), "sha256")

    def _change(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    @property
    def current(self) -> OpenStore | None:
        """The connection of the current key; None: it has ended, or there is none."""
        opened = self.keys.get(self.current_id)
        if opened is not None and not opened.ended.is_set():
            return opened
        return None

    def add(self, opened: OpenStore) -> None:
        before = self.keys.pop(opened.key_id, None)
        if before is not None:
            before.leave()
        self.keys[opened.key_id] = opened
        self.switch(opened.key_id)
        while len(self.keys) > KEYS_MAX:
            self.keys.pop(next(iter(self.keys))).leave()

    def switch(self, key_id: str) -> None:
        """Make another of its keys the current one."""
        self.current_id = key_id
        self._change()

    def drop(self, key_id: str) -> None:
        """Sign one key out."""
        opened = self.keys.pop(key_id, None)
        if opened is not None:
            opened.leave()
        if self.current_id == key_id:
            self.switch(next(reversed(self.keys), ""))

    def end(self) -> None:
        for key_id in [*self.keys]:
            self.drop(key_id)

    def tell(self, kind: str, text: str) -> None:
        self.toasts = [*self.toasts, (kind, text)][-TOASTS_MAX:]

    def keep_once(self, name: str, secret: object) -> None:
        """Hand a secret to the page that the browser opens next; no URL and no form carries it."""
        self.once[name] = secret
        while len(self.once) > ONCE_MAX:
            del self.once[next(iter(self.once))]

    def take_once(self, name: str) -> object | None:
        return self.once.pop(name, None)

    def take_toasts(self) -> list[tuple[str, str]]:
        taken, self.toasts = self.toasts, []
        return taken


class Sessions:
    """All sessions, by the digest of their cookies; the one that was used longest ago ends first.

    Args:
        idle_s: a session that was not used for so long ends.
        most_s: a session ends so long after it began.
        clock: seconds that only grow.
    """

    def __init__(self, *, idle_s: float, most_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._idle_s = idle_s
        self._most_s = most_s
        self._clock = clock
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(self, *, began_s: float | None = None) -> tuple[str, Session]:
        """A new session, and its cookie.

        Args:
            began_s: that of the session whose keys it takes over; None: somebody has just signed in.
        """
        self.end_old()
        while len(self._sessions) >= SESSIONS_MAX:
            self._sessions.popitem(last=False)[1].end()
        cookie = secrets.token_urlsafe(32)
        now_s = self._clock()
        session = Session(began_s=now_s if began_s is None else began_s, used_s=now_s, told_s=now_s)
        self._sessions[_digest(cookie)] = session
        return cookie, session

    def end_surplus(self, key_id: str) -> None:
        """End the oldest sessions of a key that has too many: nobody pushes out those of other keys."""
        of_key = [name for name, session in self._sessions.items() if key_id in session.keys]
        for name in of_key[:-SESSIONS_OF_KEY_MAX]:
            self._sessions.pop(name).end()

    def find(self, cookie: str | None, *, is_use: bool = True) -> Session | None:
        """
        Args:
            is_use: a person asks; otherwise the session becomes no younger.
        """
        if not cookie:
            return None
        name = _digest(cookie)
        session = self._sessions.get(name)
        if session is None:
            return None
        if self.left_s(session) <= 0:
            self.end(cookie)
            return None
        if is_use:
            session.used_s = self._clock()
            self._sessions.move_to_end(name)
        return session

    def left_s(self, session: Session) -> float:
        """For how long it lasts if nobody uses it any more."""
        return min(session.used_s + self._idle_s, session.began_s + self._most_s) - self._clock()

    def renew(self, cookie: str) -> float | None:
        """For how long a browser is to keep its cookie; None: there is no need to tell it."""
        session, now_s = self._sessions.get(_digest(cookie)), self._clock()
        if session is None or now_s - session.told_s < COOKIE_RENEWED_S:
            return None
        session.told_s = now_s
        return self.left_s(session)

    def end(self, cookie: str) -> None:
        session = self._sessions.pop(_digest(cookie), None)
        if session is not None:
            session.end()

    def end_old(self) -> None:
        """End what was not used for too long, or began too long ago; the console calls this now and then."""
        old = [name for name, session in self._sessions.items() if self.left_s(session) <= 0]
        for name in old:
            self._sessions.pop(name).end()


def _digest(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode()).digest()
