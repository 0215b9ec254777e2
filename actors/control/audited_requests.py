"""Audited requests: stands between the hub and the routes, and writes down what requests led to.

The rules are in `audit_rules`.  A request that they do not name costs a look into a dict here, and nothing is
written of it unless it is refused for want of rights.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from warehouse.actors.control.audit import AuditLog
from warehouse.actors.control.audit_rules import RULES, Details, Rule
from warehouse.actors.control.fleet_state import DiskState
from warehouse.actors.control.sessions import ClientSession
from warehouse.auth.rights import BucketLike
from warehouse.errors import NotAuthenticated, OutcomeUnknown, PermissionDenied, StoreError
from warehouse.transport.messages import Answer, Request
from warehouse.transport.zeromq.peers import Peer

log = logging.getLogger(__name__)

NO_KEY_ID = "?"  # in place of an id that is none
_KEY_ID = re.compile("[A-Z0-9]{3,32}")
WANT_OF_RIGHTS = (PermissionDenied, NotAuthenticated)  # worth a line whatever was asked


class AuditedRequests:
    """
    Args:
        answer_now, answer: as `Hub` has them.
        account_of: the account of an API key; "": it has none; None: there is no such key.
        bucket_named: the bucket of a name, as `sight.bucket_named`.
    """

    def __init__(
        self,
        audit: AuditLog,
        *,
        answer_now: Callable[[Peer, Request], Answer | None],
        answer: Callable[[Peer, Request], Awaitable[Answer]],
        account_of: Callable[[str], str | None],
        bucket_named: Callable[[str], BucketLike],
    ) -> None:
        self._audit = audit
        self._answer_now = answer_now
        self._answer = answer
        self._account_of = account_of
        self._bucket_named = bucket_named

    def answer_now(self, peer: Peer, request: Request) -> Answer | None:
        rule = RULES.get(type(request))
        key_id = "" if rule is None else _key_of(peer)  # a session may end during the request, or begin
        try:
            answer = self._answer_now(peer, request)
        except StoreError as error:
            self._refused(rule, peer, request, error.code, error, key_id)
            raise
        if rule is not None and answer is not None:
            self._answered(rule, peer, request, answer, key_id)
        return answer

    async def answer(self, peer: Peer, request: Request) -> Answer:
        rule = RULES.get(type(request))
        key_id = "" if rule is None else _key_of(peer)
        try:
            answer = await self._answer(peer, request)
        except StoreError as error:
            self._refused(rule, peer, request, error.code, error, key_id)
            raise
        except BaseException as error:  # cut off, or a bug: nobody knows what took effect
            self._refused(rule, peer, request, OutcomeUnknown.code, error, key_id)
            raise
        if rule is not None:
            self._answered(rule, peer, request, answer, key_id)
        return answer

    # --- lines ------------------------------------------------------------------------------------

    def _answered(self, rule: Rule, peer: Peer, request: Request, answer: Answer, key_id: str) -> None:
        if rule.is_failure_only:
            return
        try:
            if rule.lines is not None:
                self._note_lines(rule, rule.lines(request), peer)
                return
            note = self._audit.note
            if rule.repeats is not None and not rule.changed(answer):
                note = partial(self._audit.note_repeated, allowance=rule.repeats)
            note(
                rule.action_of(request),
                address=peer.address,
                target=rule.target(request),
                **self._who(rule, peer, request, key_id),
                **rule.details(request, answer),
            )
        except Exception as error:  # our mistake, and no reason to fail a request
            log.error("audit rule failed", exc_info=error)

    def _note_lines(self, rule: Rule, lines: Sequence[Details], peer: Peer) -> None:
        if lines:
            disk = peer.session.name if isinstance(peer.session, DiskState) else ""
            for fields in lines:
                self._audit.note(str(rule.action), target=disk, request=peer.request_name, **fields)

    def _refused(
        self,
        rule: Rule | None,
        peer: Peer,
        request: Request,
        code: str,
        error: BaseException,
        key_id: str,
    ) -> None:
        try:
            if rule is not None and rule.lines is None:
                self._audit.note_refusal(
                    rule.action_of(request),
                    result=code,
                    address=peer.address,
                    target=rule.target(request),
                    **self._who(rule, peer, request, key_id),
                    **rule.details(request, None),
                )
            elif isinstance(error, WANT_OF_RIGHTS):
                self._audit.note_refusal(
                    "request_refused",
                    result=code,
                    address=peer.address,
                    target=self._seen_target(peer, request),
                    kind=str(type(request).__struct_config__.tag),
                    **self._who(None, peer, request, _key_of(peer)),
                )
        except Exception as failure:  # our mistake, and no reason to fail a request
            log.error("audit rule failed", exc_info=failure)

    def _seen_target(self, peer: Peer, request: Request) -> str:
        """The bucket that a refused request names, if the asker sees it; "": it names none, or guesses."""
        name = getattr(request, "bucket", None)
        if not isinstance(name, str) or not name or not isinstance(peer.session, ClientSession):
            return ""
        return f"wh://{name}" if peer.session.rights.sees(self._bucket_named(name)) else ""

    def _who(self, rule: Rule | None, peer: Peer, request: Request, key_id: str) -> dict[str, str]:
        """Who asked, and with which request."""
        if rule is not None and rule.key_of is not None:
            key_id = rule.key_of(request)
        account = self._account_of(key_id) if key_id else ""
        if account is None and not _KEY_ID.fullmatch(key_id):
            key_id = NO_KEY_ID  # somebody may have mistaken a secret for the id
        return {
            "key": key_id,
            "account": account or "",
            "node": peer.user_id if rule is not None and rule.is_of_node else "",
            "request": peer.request_name,
        }


def _key_of(peer: Peer) -> str:
    return peer.session.key_id if isinstance(peer.session, ClientSession) else ""
