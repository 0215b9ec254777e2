"""Stores: one connection to the store for each signed-in API key, shared by its sessions.

The console has no rights of its own.  What a page asks for, it asks with the connection of the key that its
person signed in with, so the master decides about every call.  A connection is closed when the last session
with its key has ended.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

import warehouse
from warehouse.conf.profile import Profile
from warehouse.errors import (
    BadCredentials,
    LinkDown,
    NotAuthenticated,
    Overloaded,
    StoreError,
    TokenRevoked,
    Unavailable,
)
from warehouse.webui.data_origins import DataOrigins
from warehouse.webui.measuring import MeasurementsOfKey
from warehouse.webui.work import WorkOfKey

log = logging.getLogger(__name__)

OPEN_MAX = 1_000  # connections; each is a client of the master
CALL_S = 15.0  # a person waits for the answer of a call
OPEN_S = 20.0
KEY_FAILURES = (NotAuthenticated, BadCredentials, TokenRevoked)  # these say that a key has ended
LOOK_S = 2.0  # between looks whether a key still works


@dataclass
class OpenStore:
    """The connection of one API key.

    Attributes:
        info: of the key, as it was at the last look; see `Stores.look_again`.
        work: long tasks that were asked for with it.
        measurements: what was measured with it.
        ended: the key does not work any more, or nobody uses the connection.
    """

    key_id: str
    store: warehouse.Store
    info: warehouse.KeyInfo
    profile: Profile
    user_count: int = 0
    work: WorkOfKey = field(default_factory=WorkOfKey)
    measurements: MeasurementsOfKey = field(default_factory=MeasurementsOfKey)
    ended: trio.Event = field(default_factory=trio.Event)

    def use(self) -> OpenStore:
        self.user_count += 1
        return self

    def require_open(self) -> None:
        """For long answers, between two pieces.

        Raises:
            TokenRevoked: the key has ended since the answer began.
        """
        if self.ended.is_set():
            raise TokenRevoked("the key was signed out, or does not work any more")

    def leave(self) -> None:
        self.user_count -= 1
        if self.user_count <= 0:
            self.ended.set()


class Stores:
    """The open connections, by key and secret.

    Args:
        profile: loads the address of the store; its key is not used.
        nursery: owns the connections.
    """

    def __init__(self, profile: Callable[[], Profile], nursery: trio.Nursery) -> None:
        self._profile = profile
        self._nursery = nursery
        self._open: dict[bytes, OpenStore] = {}
        self.origins = DataOrigins()

    def __len__(self) -> int:
        return len(self._open)

    async def sign_in(self, key_id: str, secret: str) -> OpenStore:
        """Connect with an API key, or take the connection that is open with it.

        The caller calls `leave` on it in the end.

        Raises:
            BadCredentials: the store does not know this key or secret, or the key is disabled or expired.
            LinkDown: the store does not answer.
        """
        name = hashlib.sha256(f"{key_id}\0{secret}".encode()).digest()
        known = self._open.get(name)
        if known is not None and not known.ended.is_set():
            known.use()  # it must not end while we look
            try:
                await self.look_again(known)
            except BaseException:
                known.leave()
                raise
            return known
        if len(self._open) >= OPEN_MAX:
            raise Overloaded("too many keys are signed in to this console: try again later")
        at = await trio.to_thread.run_sync(self._profile)
        profile = Profile(at.master, at.server_key, key_id, secret, at.authority)
        opened: OpenStore | StoreError = await self._nursery.start(self._keep, name, profile)
        if isinstance(opened, StoreError):
            raise opened
        return opened

    async def _keep(
        self,
        name: bytes,
        profile: Profile,
        *,
        task_status: trio.TaskStatus[OpenStore | StoreError] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        is_open = False
        try:
            async with warehouse.connect(profile, timeout_s=CALL_S) as store:
                with trio.fail_after(OPEN_S):
                    info = await store.key()
                await self.origins.look_again(store)
                opened = OpenStore(profile.key_id, store, info, profile).use()
                self._open[name] = opened
                is_open = True
                task_status.started(opened)
                await self._watch(opened)
        except trio.TooSlowError:
            task_status.started(LinkDown("the store did not answer in time"))
        except StoreError as error:
            if not is_open:
                task_status.started(error)
            else:
                log.info("a connection ended", extra={"key_id": profile.key_id, "cause": error.message})
        except Exception:  # one key's connection is no reason to end the console
            log.exception("a connection broke", extra={"key_id": profile.key_id})
            if not is_open:
                task_status.started(Unavailable("the console could not connect; its log says why"))
        finally:
            if is_open:
                opened.ended.set()
                if self._open.get(name) is opened:
                    del self._open[name]

    async def _watch(self, opened: OpenStore) -> None:
        """Wait until the connection has ended; look now and then whether its key still works."""
        while not opened.ended.is_set():
            with trio.move_on_after(LOOK_S):
                await opened.ended.wait()
                return
            try:
                await self.look_again(opened)
                await self.origins.look_again(opened.store)
            except KEY_FAILURES:
                log.info("a key has ended", extra={"key_id": opened.key_id})
                opened.ended.set()
            except StoreError as error:  # the store is away for a moment
                log.debug("the key was not looked at", extra={"cause": error.message})

    async def look_again(self, opened: OpenStore) -> warehouse.KeyInfo:
        """Ask what the key may do now."""
        opened.info = await opened.store.key()
        return opened.info
