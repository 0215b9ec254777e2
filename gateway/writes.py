"""Writes: what putting and copying an object have in common."""

from __future__ import annotations

from collections.abc import Mapping

from warehouse.client.headers import Condition
from warehouse.errors import NoSuchObject
from warehouse.gateway.ask import Ask
from warehouse.s3.conditions import as_field
from warehouse.s3.etags import Tags as ETags
from warehouse.s3.failures import Failure
from warehouse.s3.tags import Tags, read_tagging_header

_TAGGING = b"x-amz-tagging"


def tags_of(headers: Mapping[bytes, bytes]) -> Tags:
    """The tags that a request brings.

    Raises:
        Failure: InvalidArgument, InvalidTag.
    """
    value = headers.get(_TAGGING)
    return read_tagging_header(value) if value else ()


def condition_of(etags: ETags | None) -> Condition | None:
    """A condition for the client library, which takes one ETag of its users: requests may name several."""
    field = as_field(etags)
    return None if field is None else Condition(field)


async def require_object(ask: Ask, if_match: ETags | None) -> None:
    """After a condition has failed: S3 says by another code that there was nothing to compare with.

    Raises:
        Failure: NoSuchKey.
    """
    if if_match is None:
        return
    try:
        await ask.bucket.stat(ask.target.key)
    except NoSuchObject:
        raise Failure("NoSuchKey", "The specified key does not exist.") from None
