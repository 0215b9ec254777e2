"""Presign terms: what a request for a URL may fix, checked.  Pure.

    GET (also good for HEAD)   content_type, disposition, file_name, cache_control, is_once
    PUT                        content_type, size_min, size_max, if_none_match; a PUT works once by its nature

A term that means nothing for the method is refused, or somebody would rely on it.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, cast

from warehouse.catalog.names import check_key
from warehouse.conf.formatting import format_span
from warehouse.errors import BadRequest
from warehouse.transport.http.header_text import check_content_type
from warehouse.transport.messages import Presign

PRESIGN_S_MAX = 7 * 24 * 3600.0  # as S3 has it
FILE_NAME_MAX = 255  # characters
CACHE_CONTROL_MAX = 200  # characters
_IS_HEADER_TEXT = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?").fullmatch

Disposition = Literal["inline", "attachment"]


class GetTerms(NamedTuple):
    """What the token of a GET says of its answers."""

    disposition: Disposition | None
    file_name: str | None
    cache_control: str | None


def check_terms(request: Presign, sign_s_max: float | None) -> None:
    """
    Args:
        sign_s_max: the longest life that the API key may give, in seconds; None: as long as any.
    Raises:
        BadRequest: the request fixes something that cannot be.
        BadKey, BadMetadata: the key or the content type is none.
    """
    longest_s = PRESIGN_S_MAX if sign_s_max is None else min(PRESIGN_S_MAX, sign_s_max)
    if not 0 < request.expires_in_s <= longest_s:
        whose = "" if longest_s == PRESIGN_S_MAX else " signed for this API key"
        raise BadRequest(
            f"a URL{whose} works for more than 0 s and at most {format_span(longest_s)},"
            f" not for {request.expires_in_s:g} s"
        )
    check_key(request.key)
    check_content_type(request.content_type)
    if request.method == "GET":
        _check_get(request)
    elif request.method == "PUT":
        _check_put(request)
    else:
        raise BadRequest(f"GET and PUT can be presigned, not {request.method!r}; HEAD works where GET does")


def get_terms(request: Presign) -> GetTerms:
    """The terms of a request that `check_terms` has checked."""
    disposition = cast("Disposition | None", request.disposition)
    return GetTerms(disposition, request.file_name, request.cache_control)


def _check_get(request: Presign) -> None:
    if request.size_min or request.if_none_match is not None:
        raise BadRequest("the least size and If-None-Match are terms of a PUT, not of a GET")
    if request.disposition not in (None, "inline", "attachment"):
        raise BadRequest(f"a browser shows an object inline or as attachment, not {request.disposition!r}")
    name = request.file_name
    if name is not None and (not 1 <= len(name) <= FILE_NAME_MAX or "/" in name or not name.isprintable()):
        raise BadRequest(f"a file name has 1 to {FILE_NAME_MAX} printable characters, and no '/'")
    rule = request.cache_control
    if rule is not None and (len(rule) > CACHE_CONTROL_MAX or _IS_HEADER_TEXT(rule) is None):
        raise BadRequest(f"a cache rule has 1 to {CACHE_CONTROL_MAX} printable characters of ASCII")


def _check_put(request: Presign) -> None:
    fixed = (request.disposition, request.file_name, request.cache_control)
    if fixed != (None, None, None):
        raise BadRequest("how an object is shown, saved and kept are terms of a GET, not of a PUT")
    if request.if_none_match not in (None, "*"):
        raise BadRequest('If-None-Match of a URL is "*": it overwrites nothing')
    if request.size_min < 0 or (request.size_max is not None and request.size_min > request.size_max):
        raise BadRequest(
            f"the least size, {request.size_min:,} bytes, must be from 0 to the greatest,"
            f" {request.size_max or 0:,} bytes"
        )
