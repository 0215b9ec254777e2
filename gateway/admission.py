"""Admission: who asks, and for what?

A request is read from its head alone: which way of signing it uses, which bucket and object it is about,
which operation it is.  Only then is the signature checked, and only a good one makes an `Ask`.  The order is
that of S3: what is wrong with the signature is told before anything about buckets is.

A form of a browser is signed in its fields.  So these are read before it is known who asks; nothing else is.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice

from msgspec import Struct
from msgspec.structs import replace

from warehouse.errors import SignatureMismatch
from warehouse.gateway.ask import Ask, Headers
from warehouse.gateway.askers import Asker, Askers
from warehouse.gateway.bodies import OBJECT_MAX
from warehouse.gateway.form_body import FormBody
from warehouse.gateway.journal import record_of
from warehouse.gateway.proxies import Proxies
from warehouse.s3 import post_policy, sigv2, sigv4
from warehouse.s3.chunked import chain_of
from warehouse.s3.credentials import Anonymous, Claim, claim_of, headers_meant
from warehouse.s3.dates import check_skew
from warehouse.s3.failures import Failure
from warehouse.s3.operations import Operation
from warehouse.s3.post_policy import FormClaim
from warehouse.s3.query import EMPTY, parse_query
from warehouse.s3.request import Request
from warehouse.s3.route import GET_OBJECT, POST_OBJECT, route
from warehouse.s3.target import Target, target_of
from warehouse.transport.http.exchange import Exchange
from warehouse.transport.messages import CheckSignature

_FROM_PROXIES = frozenset((b"x-forwarded-host", b"x-forwarded-for"))
READINGS_MAX = 12  # of one signature that are shown to the master, which answers late to wrong ones


@dataclass(frozen=True)
class Terms:
    """What an operator has set about S3.

    Attributes:
        region: what buckets say where they are, unless they were made with another word.
        domains: below which each bucket has a host of its own, in small letters.
        takes_v2: whether signatures of version 2 are taken.
        proxies: whose headers are believed.
        is_tls: whether clients reach the gateway by https.
    """

    region: str = "us-east-1"
    domains: Sequence[str] = ()
    takes_v2: bool = False
    proxies: Proxies = field(default_factory=Proxies)
    is_tls: bool = False


class Seen(Struct, frozen=True, gc=False):
    """What the head of a request says, of which nothing is proven yet.

    Attributes:
        headers: as the client means them: with those that a presigned request has in its query.
        other_host: what a trusted proxy says that the client's Host header was.
        host: that, or the Host header.
    """

    request: Request
    claim: Claim
    headers: Mapping[bytes, bytes]
    other_host: bytes | None
    host: bytes
    target: Target
    operation: Operation


class Admission:
    def __init__(self, askers: Askers, terms: Terms) -> None:
        self._askers = askers
        self.terms = terms

    def look(self, exchange: Exchange) -> Seen:
        """Read the head of a request, before anything is known of who asks.

        Raises:
            Failure: what is wrong with the request.
        """
        request = Request(
            exchange.method,
            exchange.path,
            parse_query(exchange.query),
            exchange.headers,
            bool(exchange.repeated_count),
        )
        claim, record = claim_of(request), record_of(exchange)
        if not isinstance(claim, Anonymous):
            record.key_id = claim.access_key
        headers = headers_meant(request, claim)
        other_host = self.terms.proxies.forwarded_host(exchange.peer, exchange.headers)
        record.address = self.terms.proxies.client(exchange.peer, exchange.headers)
        host = other_host or headers.get(b"host", b"")
        target = target_of(request.path, host, self.terms.domains)
        record.bucket, record.key = target.bucket, target.key
        operation = route(request.method, target, request.query, headers)
        record.operation = operation.name
        return Seen(request, claim, headers, other_host, host, target, operation)

    def ask_of_known(self, exchange: Exchange, seen: Seen, ids: Headers = ()) -> Ask | None:
        """What nearly all requests are: signed by version 4, as they came, by a key that is known here.

        None: `admitted` has to look closer.

        Raises:
            Failure: what is wrong with the claim.
        """
        claim = seen.claim
        if type(claim) is not sigv4.V4Claim or seen.operation is POST_OBJECT:
            return None
        sigv4.check_claim(claim, seen.request, time.time())
        reading = sigv4.first_reading(claim, seen.request)
        if reading.host != seen.host:
            return None
        asker = self._askers.known(_shown(claim, reading))
        if asker is None:
            return None
        exchange.vouch()
        fields = exchange.fields
        if fields is not None and claim.expires_s is None and _FROM_PROXIES.isdisjoint(exchange.headers):
            fields.note = sigv4.pattern_of(claim, seen.request)
        return _ask_v4(exchange, seen, ids, claim, asker)

    def ask_again(self, exchange: Exchange, ids: Headers = ()) -> Ask | None:
        """A plain GET of an object whose head differs in path and signature alone from one that was known.

        All that `look` and `ask_of_known` find in the other headers has been found.  None: they have to look.

        Raises:
            Failure: what is wrong with path or time.
        """
        fields = exchange.fields
        if fields is None or fields.note is None:
            return None
        pattern: sigv4.Pattern = fields.note
        claim, headers, record = pattern.claim, exchange.headers, record_of(exchange)
        record.key_id, record.address = claim.access_key, exchange.peer
        target = target_of(exchange.path, headers[b"host"], self.terms.domains)
        if not target.key:
            return None
        record.bucket, record.key, record.operation = target.bucket, target.key, GET_OBJECT.name
        check_skew(claim.signed_at_s, time.time())
        scope = claim.scope
        shown = CheckSignature(
            claim.access_key,
            "v4",
            sigv4.string_to_sign(pattern, exchange.method, exchange.path),
            headers[b"authorization"][-sigv4.SIGNATURE_SIZE :].decode(),
            scope.date,
            scope.region,
        )
        asker = self._askers.known(shown)
        if asker is None:
            return None
        exchange.vouch()
        return Ask(exchange, asker, GET_OBJECT, target, EMPTY, headers, ids, claim.payload)

    @asynccontextmanager
    async def admitted(self, exchange: Exchange, seen: Seen, ids: Headers = ()) -> AsyncIterator[Ask]:
        """The request, if somebody may ask here at all; what the store lets them do is its own affair.

        Raises:
            Failure: what is wrong with the request or its signature.
            StoreError: the signature could not be checked.
        """
        request, claim, headers = seen.request, seen.claim, seen.headers
        if seen.operation is POST_OBJECT:
            _require_no_other(claim)
            form = FormBody(exchange, headers[b"content-type"], OBJECT_MAX)
            async with self._form_signer(exchange, form) as asker:
                exchange.vouch()
                yield Ask(
                    exchange, asker, seen.operation, seen.target, request.query, headers, ids, form=form
                )
            return
        if isinstance(claim, Anonymous):
            raise _anonymous()
        if isinstance(claim, sigv2.V2Claim):
            if not self.terms.takes_v2:
                raise sigv2.not_accepted()
            sigv2.check_claim(claim, request, time.time())
            text = sigv2.string_to_sign(claim, request, seen.target)
            shown = CheckSignature(claim.access_key, "v2", text, claim.signature)
            try:
                async with self._askers.asker(shown) as asker:
                    exchange.vouch()
                    yield Ask(exchange, asker, seen.operation, seen.target, request.query, headers, ids)
            except SignatureMismatch:
                raise sigv2.mismatch(claim, text) from None
            return
        sigv4.check_claim(claim, request, time.time())
        async with self._signer(claim, request, seen.other_host) as (asker, signed_host):
            exchange.vouch()
            if signed_host != seen.host:  # the host that was signed says which bucket is meant
                target = target_of(request.path, signed_host, self.terms.domains)
                record = record_of(exchange)
                record.bucket, record.key = target.bucket, target.key
                operation = route(request.method, target, request.query, headers)
                record.operation = operation.name
                seen = replace(seen, target=target, operation=operation)
            yield _ask_v4(exchange, seen, ids, claim, asker)

    @asynccontextmanager
    async def _signer(
        self, claim: sigv4.V4Claim, request: Request, other_host: bytes | None
    ) -> AsyncIterator[tuple[Asker, bytes]]:
        """Who has signed the request, as it came or as it was before a proxy changed it, and for which host.

        Raises:
            Failure: SignatureDoesNotMatch, with all that people need to compare.
        """
        other_hosts = () if other_host is None else (other_host,)
        readings = list(islice(sigv4.readings(claim, request, other_hosts), READINGS_MAX))
        known = [one for one in readings if self._askers.known(_shown(claim, one)) is not None]
        try:
            async with AsyncExitStack() as entered:
                for reading in known[:1] or readings:
                    with suppress(SignatureMismatch):
                        asker = await entered.enter_async_context(self._askers.asker(_shown(claim, reading)))
                        break
                else:
                    raise SignatureMismatch("nobody has signed this")
                yield asker, reading.host
        except SignatureMismatch:
            raise sigv4.mismatch(claim, readings[0]) from None

    @asynccontextmanager
    async def _form_signer(self, exchange: Exchange, body: FormBody) -> AsyncIterator[Asker]:
        """Who has signed the policy of a form, of which only the fields are read.

        Raises:
            Failure: AccessDenied: nobody has; SignatureDoesNotMatch; what is wrong with the fields.
        """
        form = await body.read_fields()
        claim = post_policy.claim_of(form.fields)
        if claim is None:
            raise _anonymous()
        record_of(exchange).key_id = claim.access_key
        if claim.scope is None and not self.terms.takes_v2:
            raise sigv2.not_accepted()
        try:
            async with self._askers.asker(_shown_of_form(claim)) as asker:
                yield asker
        except SignatureMismatch:
            raise post_policy.does_not_match(claim) from None


def _ask_v4(exchange: Exchange, seen: Seen, ids: Headers, claim: sigv4.V4Claim, asker: Asker) -> Ask:
    key = asker.signing_key(claim.scope.date, claim.scope.region)
    return Ask(
        exchange,
        asker,
        seen.operation,
        seen.target,
        seen.request.query,
        seen.headers,
        ids,
        claim.payload,
        chain_of(claim, key),
    )


def _anonymous() -> Failure:
    return Failure("AccessDenied", "Anonymous access is forbidden for this operation")


def _require_no_other(claim: Claim) -> None:
    """
    Raises:
        Failure: the request of a form is signed as well: two readers could take it for two people's.
    """
    if not isinstance(claim, Anonymous):
        raise Failure(
            "InvalidArgument",
            "Only one auth mechanism allowed: a form is signed in its fields, not in a header or the query.",
            {"ArgumentName": "Authorization"},
        )


def _shown_of_form(claim: FormClaim) -> CheckSignature:
    scope = claim.scope
    if scope is None:
        return CheckSignature(claim.access_key, "v2", claim.string_to_sign, claim.signature)
    return CheckSignature(
        claim.access_key, "v4", claim.string_to_sign, claim.signature, scope.date, scope.region
    )


def _shown(claim: sigv4.V4Claim, reading: sigv4.Reading) -> CheckSignature:
    scope = claim.scope
    return CheckSignature(
        claim.access_key, "v4", reading.string_to_sign, claim.signature, scope.date, scope.region
    )
