"""Cors: what browsers are told whose pages come from elsewhere, by the rules of the bucket.

Browsers ask before anything is signed, so the gateway itself reads the rules, on its own connection.  It
remembers them for a second: whoever changes them waits no longer than that, and strangers who ask again and
again cost the master one question a second and bucket.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping

import trio

from warehouse.errors import NoSuchBucket, Overloaded, StoreError
from warehouse.gateway.ask import Answer, Headers
from warehouse.s3 import xml_in
from warehouse.s3.cors import CorsRule, answer_of, asked_of, not_allowed, require_preflight
from warehouse.s3.names import check_bucket

KEPT_S = 1.0
KEPT_MAX = 256  # buckets; a document has 60 KiB at most
QUESTIONS_MAX = 32  # on their way to the master


class Cors:
    """
    Args:
        find: the document with the rules of a bucket; empty: it has none.
    """

    def __init__(self, find: Callable[[str], Awaitable[bytes]]) -> None:
        self._find = find
        self._kept: OrderedDict[str, tuple[float, tuple[CorsRule, ...]]] = OrderedDict()
        self._asking = 0

    def forget(self, bucket: str) -> None:
        """The rules of this bucket have changed."""
        self._kept.pop(bucket, None)

    async def preflight(self, bucket: str, method: bytes, headers: Mapping[bytes, bytes]) -> Answer:
        """
        Raises:
            Failure: BadRequest, AccessForbidden.
            StoreError: the rules cannot be read.
        """
        asked = require_preflight(method, headers)
        check_bucket(bucket)
        rules = await self._rules(bucket)
        found = answer_of(rules, asked, is_preflight=True)
        if found is None:
            raise not_allowed(has_rules=bool(rules))
        return Answer(200, found)

    async def headers(self, bucket: str, method: bytes, headers: Mapping[bytes, bytes]) -> Headers:
        """What the answer to any other request says to a browser; nothing, where the rules cannot be read."""
        asked = asked_of(method, headers)
        if asked is None or not bucket:
            return ()
        try:
            rules = await self._rules(bucket)
        except StoreError:  # the request itself will hear of it, if it is worth an answer
            return ()
        return answer_of(rules, asked, is_preflight=False) or ()

    async def _rules(self, bucket: str) -> tuple[CorsRule, ...]:
        known = self._kept.get(bucket)
        if known is not None and trio.current_time() < known[0]:
            return known[1]
        if self._asking >= QUESTIONS_MAX:
            raise Overloaded("many browsers ask at this moment: try again")
        self._asking += 1
        begun_s = trio.current_time()
        try:
            document = await self._find(bucket)
            rules = xml_in.read_cors(document) if document else ()
        except NoSuchBucket:
            self._kept.pop(bucket, None)
            raise
        finally:
            self._asking -= 1
        self._kept[bucket] = begun_s + KEPT_S, rules
        self._kept.move_to_end(bucket)
        if len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return rules
