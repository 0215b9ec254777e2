"""Form parsing: how many fields a form may have, and where it is taken apart.

A megabyte of `a&a&a&...` is half a million fields, and a second's work.  In the event loop everybody would
wait for it, and who sends it need not even be signed in.  So a stranger's form is short, nobody's form has
more fields than the longest selection, and what is long is taken apart in a thread.
"""

from __future__ import annotations

from urllib.parse import parse_qsl

import trio
from quart.formparser import FormDataParser, ParserFunc
from quart.wrappers.request import Body
from quart_trio.formparser import TrioFormDataParser
from quart_trio.wrappers import TrioRequest
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import RequestEntityTooLarge

from warehouse.webui import here
from warehouse.webui.selection import ITEMS_MAX

STRANGERS_MAX = 16 * 1024  # bytes: a key id, a secret, and where to go on
FIELDS_MAX = ITEMS_MAX + 100  # a form without script has one for each selected line
AT_ONCE_MAX = 16 * 1024  # bytes that are taken apart in the event loop, within a few milliseconds

URL_ENCODED = ("application/x-www-form-urlencoded", "application/x-url-encoded")

Parsed = tuple[MultiDict[str, str], MultiDict[str, str]]


class FormParser(TrioFormDataParser):
    """Quart's parser, with bounds."""

    def get_parse_func(self, mimetype: str, options: dict[str, str]) -> ParserFunc | None:
        is_multipart = mimetype == "multipart/form-data"  # `MAX_FORM_PARTS` bounds it
        return super().get_parse_func(mimetype, options) if is_multipart else _parse


async def _parse(
    parser: FormDataParser, body: Body, mimetype: str, content_length: int | None, options: dict[str, str]
) -> Parsed:
    """The fields of `application/x-www-form-urlencoded`; other types have none."""
    if mimetype not in URL_ENCODED:
        return MultiDict(), MultiDict()
    data = await body
    if (len(data) > STRANGERS_MAX and here.session() is None) or data.count(b"&") >= FIELDS_MAX:
        body.clear()  # the error keeps what it leaves behind until garbage is collected
        del data
        raise RequestEntityTooLarge
    fields = _fields(data) if len(data) <= AT_ONCE_MAX else await trio.to_thread.run_sync(_fields, data)
    return MultiDict(fields), MultiDict()


class FormRequest(TrioRequest):
    """A request whose forms are bounded."""

    form_data_parser_class = FormParser


def _fields(data: bytes) -> list[tuple[str, str]]:
    return parse_qsl(data.decode(), keep_blank_values=True)
