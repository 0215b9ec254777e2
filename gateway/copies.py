"""Copies: an object from another one, with its headers, tags and checksum, or with others.

The bytes pass through here in bounded pieces.  All of them are digested on the way, unless the source has
both digests of exactly these bytes: an object that came in parts, or by the library, has not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing

import msgspec

from warehouse.client.reading.streams import ObjectStream
from warehouse.client.writing.sources import OnceSource
from warehouse.errors import ObjectReplaced, PreconditionFailed
from warehouse.gateway.ask import Answer, Ask, Handler, document
from warehouse.gateway.bodies import WHOLE_MAX
from warehouse.gateway.digesting import digested
from warehouse.gateway.kept import Kept, checksum_of, kept_of, stored_of
from warehouse.gateway.versions import require_null_version
from warehouse.gateway.writes import condition_of, require_object, tags_of
from warehouse.s3 import xml_out
from warehouse.s3.checksums import DEFAULT, Algorithm, algorithm_named
from warehouse.s3.conditions import Facts, check_copy, copy_conditions, write_conditions
from warehouse.s3.copying import (
    CopySource,
    Directives,
    check_copy_size,
    check_onto_itself,
    parse_copy_source,
    read_directives,
    target_headers,
)
from warehouse.s3.headers import read_stored
from warehouse.s3.integrity import Integrity, Promises
from warehouse.s3.names import check_bucket
from warehouse.transport.messages import ObjectInfo
from warehouse.transport.messages.attributes import ObjectAttributes, decode_attributes

TRIES = 8  # of an object that others replace
_ALGORITHM = b"x-amz-checksum-algorithm"


class Copies:
    def handlers(self) -> Mapping[str, Handler]:
        return {"CopyObject": self.copy}

    async def copy(self, ask: Ask) -> Answer:
        """Copy an object that the key may read."""
        source, directives = source_of(ask), read_directives(ask.headers)
        check_onto_itself(source, ask.target.bucket, ask.target.key, directives, ask.headers)
        for _ in range(TRIES):
            try:
                return await self._copy(ask, source, directives)
            except ObjectReplaced:  # while it was read
                continue
        raise ObjectReplaced(f"{source.key} is replaced faster than it can be copied")

    async def _copy(self, ask: Ask, source: CopySource, directives: Directives) -> Answer:
        """Copy one version: all that is said of it, and its bytes."""
        conditions = write_conditions(ask.headers)
        async with ask.store.bucket(source.bucket).open(source.key) as stream:
            info = stream.info
            check_copy(copy_conditions(ask.headers), Facts(info.etag, info.created_ms, info.size))
            check_copy_size(info.size)
            kept = _kept(ask, info, directives)
            digested = _Digested(stream, kept, _known(ask, info))
            is_small = info.size <= WHOLE_MAX
            try:
                written = await ask.bucket.put(
                    ask.target.key,
                    await digested.read() if is_small else OnceSource(digested.pieces(), info.size),
                    kept.content_type,
                    kept.metadata,
                    if_match=condition_of(conditions.if_match),
                    if_none_match=condition_of(conditions.if_none_match),
                    attributes=digested.attributes,
                )
            except PreconditionFailed:
                await require_object(ask, conditions.if_match)
                raise
        checksum = checksum_of(digested.attributes())
        return document(xml_out.copy_object(written.etag, written.created_ms, checksum))


def source_of(ask: Ask) -> CopySource:
    """The object that a copy is made of, or a part.

    Raises:
        Failure: InvalidArgument, InvalidBucketName, NoSuchVersion.
    """
    check_bucket(ask.target.bucket)
    source = parse_copy_source(ask.headers[b"x-amz-copy-source"])
    check_bucket(source.bucket)
    require_null_version(source.version_id)
    return source


def _kept(ask: Ask, info: ObjectInfo, directives: Directives) -> Kept:
    """Headers, metadata, tags and owner of the copy."""
    stored = target_headers(stored_of(info), read_stored(ask.headers), directives)
    tags = tags_of(ask.headers) if directives.replaces_tags else decode_attributes(info.attributes).tags
    return kept_of(stored, tags, ask.asker.account_id)


def _known(ask: Ask, info: ObjectInfo) -> ObjectAttributes | Algorithm:
    """The digests of the copy, or the algorithm of the checksum that has to be made with its MD5."""
    found = decode_attributes(info.attributes)
    asked = ask.headers.get(_ALGORITHM)
    checksum = found.checksum
    algorithm = DEFAULT if checksum is None else algorithm_named(checksum.algorithm)
    if asked:
        algorithm = algorithm_named(asked.decode("latin-1"))
    is_whole = checksum is not None and not checksum.is_composite and checksum.algorithm == algorithm.name
    if is_whole and found.md5 is not None and found.part_count is None:
        return ObjectAttributes(md5=found.md5, checksum=checksum)
    return algorithm


class _Digested:
    """The bytes of the source, digested as they pass where that is needed."""

    def __init__(self, stream: ObjectStream, kept: Kept, known: ObjectAttributes | Algorithm) -> None:
        self._stream = stream
        self._kept = kept
        self._attributes: ObjectAttributes | None = None
        self._integrity: Integrity | None = None
        if isinstance(known, Algorithm):
            self._integrity = Integrity(Promises(), known)
        else:
            self._attributes = msgspec.structs.replace(
                kept.attributes, md5=known.md5, checksum=known.checksum
            )

    def attributes(self) -> ObjectAttributes:
        """Those of the copy, when all bytes have passed."""
        if self._attributes is None:
            assert self._integrity is not None
            self._attributes = self._kept.with_digests(self._integrity.finish())
        return self._attributes

    async def read(self) -> bytes:
        return b"".join([piece async for piece in self.pieces()])

    async def pieces(self) -> AsyncIterator[bytes]:
        if self._integrity is None:
            async for piece in self._stream:
                yield piece
            return
        async with aclosing(digested(self._stream, self._integrity)) as pieces:
            async for piece in pieces:
                yield piece
