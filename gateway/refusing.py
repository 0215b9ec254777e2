"""Refusing: what a client hears whose request fails, as S3 says it.

Every answer has the id of its request, in a header, in the error document and in the log.  Nothing that a
client sends is answered with 500; a bug is, and its cause is told to the log alone.
"""

from __future__ import annotations

import logging
import secrets
import traceback

from warehouse.errors import StoreError
from warehouse.gateway.ask import XML, Headers
from warehouse.gateway.journal import Journal, cors_of
from warehouse.s3.failures import Failure, failure_of
from warehouse.s3.ranges import unsatisfied_range
from warehouse.s3.xml_out import error_document
from warehouse.transport.http.exchange import Exchange
from warehouse.transport.http.refusals import InternalError, Refusals, Rendered

log = logging.getLogger(__name__)

CAUSES_MAX = 20  # errors of one refusal, as far as they are followed

_BROKEN = "We encountered an internal error. Please try again."


class Refusing:
    """
    Args:
        host_id: names this gateway in answers.
        journal: is told of every refusal.
    """

    def __init__(self, host_id: str, journal: Journal) -> None:
        self._host_id = host_id
        self._host_header = (b"x-amz-id-2", host_id.encode())
        self._journal = journal
        self.refusals = Refusals(render=self.render, failures=(Failure,), make_request_id=make_request_id)

    def ids(self, request_id: str) -> Headers:
        return ((b"x-amz-request-id", request_id.encode()), self._host_header)

    def render(self, error: Exception, exchange: Exchange | None) -> Rendered:
        """The error document; `exchange` is None where the head of the request is not known."""
        failure = _failure_of(error)
        request_id = make_request_id() if exchange is None else exchange.request_id
        resource = "" if exchange is None else exchange.path.decode("utf-8", "replace")
        headers = [*XML, *self.ids(request_id), *cors_of(exchange)]
        if failure.code == "InvalidRange" and (size := failure.fields.get("ActualObjectSize")):
            headers.append((b"Content-Range", unsatisfied_range(int(size))))
        if methods := failure.fields.get("AllowedMethods"):
            headers.append((b"Allow", methods.encode()))
        cause = {"cause": error.message} if failure.status >= 500 and isinstance(error, StoreError) else {}
        log.info("refused", extra={"code": failure.code, "request_id": request_id, **cause})
        _let_go(error)
        body = error_document(failure, resource, request_id, self._host_id)
        self._journal.refused(exchange, request_id, failure.status, failure.code, len(body))
        return Rendered(failure.status, headers, body, failure.closes)


def _let_go(error: BaseException) -> None:
    """Forget what the frames held through which an error came: pieces of a body, most of all.

    An error often hangs in a circle with the frames of its traceback.  The collector finds that once a
    minute, and until then each refused body would keep its memory.
    """
    waiting, seen = [error], {id(error)}
    while waiting and len(seen) < CAUSES_MAX:
        found = waiting.pop()
        traceback.clear_frames(found.__traceback__)
        inner = found.exceptions if isinstance(found, BaseExceptionGroup) else ()
        for other in (found.__cause__, found.__context__, *inner):
            if other is not None and id(other) not in seen:
                seen.add(id(other))
                waiting.append(other)


def make_request_id() -> str:
    return secrets.token_hex(8).upper()


def _failure_of(error: Exception) -> Failure:
    if isinstance(error, Failure):
        return error
    if isinstance(error, StoreError) and not isinstance(error, InternalError):
        return failure_of(error)
    return Failure("InternalError", _BROKEN)
