"""Head memo: what header fields mean that came before.  Pure.

A client sends the same fields again and again, so nobody reads the same fields twice: equal bytes mean the
same, also after another plain request line.  That holds for heads, too, that differ only in

    the digits of a signature    where heads are signed: digits begin and end no field
    a range or a condition       whole lines that say it in the one way that nearly every client writes
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from warehouse.transport.http.heads import (
    NEEDLE_RULES,
    VARYING,
    HeadRules,
    PlainFields,
    RequestHead,
    parse_request_head,
)

MEMO_COUNT = 512
MEMO_SIZE_MAX = 1024
FIELDS_MAX = 50  # so that no head has too many because of lines that vary

# Nearly all reads of the data plane begin like this; the parser reads whatever looks different.
_PLAIN = re.compile(rb"(GET|HEAD) (/[\w/.-]*)(?:\?([\w.=&~-]+))? HTTP/1\.1\r\n").match
_PLAIN_SIGNED = re.compile(rb"(GET) (/[\w/.-]*)() HTTP/1\.1\r\n").match
_SIGNATURE = b"Signature="
_FIND_SIGNATURE = re.compile(rb"Signature=([\da-f]{64})\r\n").search
_VARYING_LINES = re.compile(rb"\r\n([IiRr][A-Za-z-]+): ([!-~]+(?: [!-~]+)*)(?=\r\n)").finditer  # perhaps

# Method, path, query, what is remembered, and all headers.  A plain tuple: one is made for each request.
Recalled = tuple[bytes, bytes, bytes, PlainFields, Mapping[bytes, bytes]]


class HeadMemo:
    """Remembers the header fields of plain GETs and HEADs; of signed heads, of GETs without a query."""

    def __init__(self, rules: HeadRules = NEEDLE_RULES) -> None:
        self._rules = rules
        self._plain = _PLAIN_SIGNED if rules.are_signed else _PLAIN
        self._known: dict[bytes, PlainFields] = {}

    def recall(self, head: bytes) -> Recalled | None:
        """What a plain request says, if the same fields came before."""
        line = self._plain(head)
        if line is None:
            return None
        method, path, query = line.groups(b"")
        end = line.end()
        if self._rules.are_signed:
            parts = _split_at_signature(head, end)
            if parts is None or (fields := self._known.get(parts[0])) is None:
                return None
            headers = {**fields.headers, b"authorization": fields.unsigned + parts[1]}
            return method, path, query, fields, headers
        known = self._known.get(head[end:])
        if known is not None:
            return method, path, query, known, known.headers
        cut = _without_varying(head, end)
        if cut is None or (known := self._known.get(cut[0])) is None or not known.is_whole:
            return None
        return method, path, query, known, {**known.headers, **cut[1]}

    def learn(self, head: bytes, request: RequestHead) -> None:
        """Call `parse_request_head`, and remember the fields of a plain request."""
        parse_request_head(head, request, self._rules)
        line = self._plain(head)
        if line is None or request.content_length or request.is_chunked:
            return
        end = line.end()
        if len(head) - end > MEMO_SIZE_MAX or len(request.headers) > FIELDS_MAX:
            return
        if self._rules.are_signed:
            self._learn_signed(head, end, request)
            return
        cut = _without_varying(head, end)
        if cut is None or request.repeated_count:
            request.fields = self._remember(head[end:], request, request.headers)
            return
        rest, varying = cut
        headers = {name: value for name, value in request.headers.items() if name not in varying}
        if {**headers, **varying} == request.headers:
            request.fields = self._remember(rest, request, headers)

    def _learn_signed(self, head: bytes, start: int, request: RequestHead) -> None:
        parts = _split_at_signature(head, start)
        authorization = request.headers.get(b"authorization", b"")
        # One place alone, at the end of this one header; and whether a field was repeated is not kept.
        if parts is None or head.count(_SIGNATURE, start) != 1 or request.repeated_count:
            return
        rest, signature = parts
        if authorization.endswith(_SIGNATURE + signature):
            unsigned = authorization[: -len(signature)]
            request.fields = self._remember(rest, request, request.headers, unsigned)

    def _remember(
        self, rest: bytes, request: RequestHead, headers: Mapping[bytes, bytes], unsigned: bytes = b""
    ) -> PlainFields:
        if len(self._known) >= MEMO_COUNT:
            self._known.clear()
        fields = self._known[rest] = PlainFields(headers, request.is_keep_alive, unsigned)
        return fields


def _split_at_signature(head: bytes, start: int) -> tuple[bytes, bytes] | None:
    """Return what comes from `start` on without the digits of the first signature, and these digits."""
    found = _FIND_SIGNATURE(head, start)
    if found is None:
        return None
    return head[start : found.start(1)] + head[found.end(1) :], found[1]


def _without_varying(head: bytes, start: int) -> tuple[bytes, dict[bytes, bytes]] | None:
    """What comes from `start` on without the lines that vary, and what these say.

    None: there are none, or one field comes twice.
    """
    varying: dict[bytes, bytes] = {}
    rest, kept = b"", start
    for found in _VARYING_LINES(head, start - 2):  # from the end of the request line on
        name = found[1].lower()
        if name not in VARYING:
            continue
        if name in varying:
            return None
        varying[name] = found[2]
        rest += head[kept : max(kept, found.start() + 2)]
        kept = found.end() + 2
    return (rest + head[kept:], varying) if varying else None
