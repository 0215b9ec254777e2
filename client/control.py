"""Control: the conversation with the master.

One link, one login.  The client exchanges the API key for an access token, presents the token on every
connection (the link's greeting) and renews it before it expires.  Users of `Control` never see the token.

Which requests are repeated after a broken link:

    repeatable       reads; leases and slots (an unused one expires); ResolveNeedle; FinishUpload;
                     AbortUpload; starting, cancelling and pausing jobs (a volume has one job of a kind)
    not repeatable   creating and deleting buckets, deleting objects, changing keys and accounts: a repeat
                     could undo what somebody else did in between.  When the answer is lost, the request
                     raises `OutcomeUnknown`.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from warehouse.client.nurseries import background
from warehouse.conf.profile import Profile
from warehouse.conf.server_keys import ServerKeys
from warehouse.errors import (
    Busy,
    DeadlineExceeded,
    LinkDown,
    MalformedMessage,
    NotAuthenticated,
    OutcomeUnknown,
    Overloaded,
    StoreError,
    TokenExpired,
    TokenInvalid,
)
from warehouse.transport.http.tls import ClientTls
from warehouse.transport.messages import Attach, Attached, LoggedIn, Login, Request
from warehouse.transport.zeromq.curve import CurveKeys
from warehouse.transport.zeromq.link import Link
from warehouse.transport.zeromq.server_keys import hear_next_key

log = logging.getLogger(__name__)

SMALL_MAX = 1024 * 1024
TIMEOUT_S = 30.0  # of one request, including waiting for the link and repeats
FIRST_ANSWER_S = 8.0  # do not wait half a minute for a store that is not running
GREET_S = 10.0
BACK_OFF_S = 0.05  # doubles with each repeat
BACK_OFF_MAX_S = 1.0
RENEW_MARGIN_S = 60.0  # before expiry, or a quarter of the token's life where that is shorter
RENEW_RETRY_S = 5.0

A = TypeVar("A")

# Buys an access token.  It may use the link, on which nothing else is asked yet.
LogIn = Callable[[Link], Awaitable[LoggedIn]]


def back_off_s(attempt: int) -> float:
    """How long to wait before repeat `attempt` (from 0); random, so that clients do not repeat in step."""
    longest_s = min(BACK_OFF_S * 2.0 ** min(attempt, 16), BACK_OFF_MAX_S)
    return longest_s * random.uniform(0.5, 1.0)  # noqa: S311


class Control:
    """Sends requests to the master on behalf of one API key."""

    def __init__(
        self, profile: Profile, *, timeout_s: float = TIMEOUT_S, log_in: LogIn | None = None
    ) -> None:
        """
        Args:
            log_in: buys each token; None: with the key and the secret of the profile.
        """
        self.profile = profile
        self._buy_token = log_in or self._show_secret
        self.tls = ClientTls(profile.authority)  # whom the pools trust
        self.timeout_s = timeout_s
        self._token: str | None = None
        self._token_expires = 0.0  # Trio's clock, like all times here
        self._renew_at = 0.0
        self._life = trio.CancelScope()
        self._attaching = trio.Lock()
        self._attach_count = 0
        self.chunk_size = 0  # of the store; known when the link is up
        self._server_keys = ServerKeys(profile.server_key, profile.path)
        self._link = Link(
            endpoint=profile.master,
            server_key=profile.server_key.encode(),
            keys=CurveKeys.generate(),
            name="client",
            incarnation=time.time_ns() // 1_000_000,
            greet=self._greet,
            read_server_key=self._server_keys.reader,
        )

    @property
    def small_max(self) -> int:
        """The size in bytes up to which an object is one put on a lease; larger objects are uploads."""
        return min(SMALL_MAX, self.chunk_size)

    @property
    def connection(self) -> int | None:
        """A number that differs from one connection to the next; None while the link is down."""
        return self._link.connect_count if self._link.is_up else None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the link until `stop`; started when the master has accepted the API key.

        From then on no cancellation reaches this task: a cancelled user may have to abort an upload, and
        needs the link for a moment longer.

        Raises:
            BadCredentials: the master does not know this key or secret.
            LinkDown: no master answered at the profile's address within the timeout.
        """
        with self._life:
            async with background() as nursery:
                await nursery.start(self._link.run)
                await self._wait_first_up()
                # The starter may be cancelled at the moment at which the link comes up.  `started` would then
                # keep this task in the starter's nursery, and the shield would block both forever.  So accept
                # that cancellation first.
                await trio.lowlevel.checkpoint_if_cancelled()
                self._life.shield = True
                task_status.started()
                await self._renew_forever()

    def stop(self) -> None:
        self._life.cancel()

    async def ask(self, body: Request, answer_type: type[A], *, is_repeatable: bool = True) -> A:
        """Send one request and wait for its answer.

        Raises:
            OutcomeUnknown: not repeatable, sent, and the answer was lost.
            LinkDown, DeadlineExceeded: no answer in time.
            StoreError: the master refused the request.
        """
        deadline = trio.current_time() + self.timeout_s
        has_attached_again = False
        attempt = 0
        while True:
            if not self._link.is_up:
                await self._wait_up(deadline)
            attach_count = self._attach_count
            try:
                answer = await self._link.request(body, timeout_s=max(deadline - trio.current_time(), 0.001))
                break
            except NotAuthenticated as error:
                if has_attached_again:
                    raise
                has_attached_again = True
                try:
                    with trio.move_on_at(deadline) as scope:  # many tasks may wait for their turn to log in
                        await self._attach_again(attach_count)
                except (LinkDown, DeadlineExceeded) as lost:
                    # The request was refused unread, so it may be repeated, whatever it is.
                    await self._pause(attempt, deadline, lost)
                    has_attached_again = False
                if scope.cancelled_caught:
                    raise DeadlineExceeded(
                        f"no new login within {self.timeout_s:g} s: {error.message}"
                    ) from error
            except (LinkDown, DeadlineExceeded) as error:
                if not is_repeatable:
                    raise OutcomeUnknown(
                        f"the master's answer was lost ({error.message}): it may or may not have been done"
                    ) from error
                await self._pause(attempt, deadline, error)
            except OutcomeUnknown as error:  # from the master: its disk failed during the commit
                if not is_repeatable:
                    raise
                await self._pause(attempt, deadline, error)
            except Overloaded as error:
                await self._pause(attempt, deadline, error)
            attempt += 1
        if not isinstance(answer, answer_type):
            raise _unexpected(answer_type, answer)
        return answer

    async def _wait_first_up(self) -> None:
        """Wait for the first login; the full time only for a master that says it is busy."""
        started_s = trio.current_time()
        try:
            await self._wait_up(started_s + min(self.timeout_s, FIRST_ANSWER_S))
        except Overloaded:
            await self._wait_up(started_s + self.timeout_s)

    async def _wait_up(self, deadline: float) -> None:
        with trio.move_on_at(deadline) as scope:
            await self._link.wait_up()
        if scope.cancelled_caught:
            if isinstance(self._link.trouble, Overloaded):
                raise Overloaded(
                    f"the master at {self.profile.master} accepts no more clients:"
                    f" {self._link.trouble.message}"
                )
            raise LinkDown(
                f"no answer from a master at {self.profile.master}: is the store running (warehouse up), "
                "and is this its profile?"
            )

    async def _pause(self, attempt: int, deadline: float, error: StoreError) -> None:
        pause_s = back_off_s(attempt)
        if isinstance(error, Busy):
            pause_s = max(pause_s, error.retry_after_s)
        if trio.current_time() + pause_s >= deadline:
            raise error
        await trio.sleep(pause_s)

    # --- who we are -------------------------------------------------------------------------------

    async def _greet(self, link: Link) -> None:
        if self._token is not None and trio.current_time() < self._token_expires:
            try:
                await self._attach(link, self._token)
            except (TokenExpired, TokenInvalid, NotAuthenticated):
                pass  # the master's keys were rotated, or its clock is ahead: log in again
            else:
                return
        await self._log_in(link)

    async def _show_secret(self, link: Link) -> LoggedIn:
        login = Login(key_id=self.profile.key_id, secret=self.profile.secret)
        answer = await link.ask_now(login, timeout_s=GREET_S)
        if not isinstance(answer, LoggedIn):
            raise _unexpected(LoggedIn, answer)
        return answer

    async def _log_in(self, link: Link) -> None:
        answer = await self._buy_token(link)
        await self._attach(link, answer.token)
        self._token = answer.token
        now = trio.current_time()
        self._token_expires = now + answer.expires_in_s
        self._renew_at = self._token_expires - min(RENEW_MARGIN_S, answer.expires_in_s / 4)

    async def _attach(self, link: Link, token: str) -> None:
        answer = await link.ask_now(Attach(token=token), timeout_s=GREET_S)
        if not isinstance(answer, Attached):
            raise _unexpected(Attached, answer)
        self.chunk_size = answer.chunk_size
        if answer.authority:  # newer than what the profile says
            self.tls.trust(answer.authority)
        self._attach_count += 1
        # The profile may well be somebody else's: no reason to warn.
        await hear_next_key(link, self._server_keys, answer.next_server_key, unwritten_level=logging.INFO)

    async def _attach_again(self, attach_count_seen: int) -> None:
        """After a NotAuthenticated: many requests may get it at the same time; one of them logs in."""
        async with self._attaching:
            if self._attach_count == attach_count_seen:
                await self._log_in(self._link)

    async def _renew_forever(self) -> None:
        while True:
            if trio.current_time() < self._renew_at:
                await trio.sleep_until(self._renew_at)
                continue  # a new connection may have renewed the token
            try:
                async with self._attaching:
                    await self._log_in(self._link)
            except StoreError as error:
                # The next request reports the error, and the next greeting logs in too: only try again.
                log.info("access token not renewed", extra={"cause": error.message})
                await trio.sleep(RENEW_RETRY_S)


def _unexpected(wanted: type, answer: object) -> MalformedMessage:
    return MalformedMessage(f"expected {wanted.__name__} from the master, not {type(answer).__name__}")
