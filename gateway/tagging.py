"""Tagging: the tags of objects, read and changed.

Tags are attributes of one version.  A change replaces them in one transaction, if that version is still the
present one, and leaves bytes, ETag and time as they are.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from warehouse.errors import PreconditionFailed
from warehouse.gateway.ask import Answer, Ask, Handler, document
from warehouse.gateway.bodies import Body
from warehouse.gateway.versions import require_null_version
from warehouse.s3 import xml_in, xml_out
from warehouse.s3.names import check_bucket
from warehouse.s3.tags import Tags
from warehouse.transport.messages.attributes import decode_attributes

DOCUMENT_MAX = 64 * 1024  # ten tags of the longest kind take some 20 KiB
TRIES = 4  # of an object that others replace


class Tagging:
    def handlers(self) -> Mapping[str, Handler]:
        return {
            "GetObjectTagging": self.get,
            "PutObjectTagging": self.put,
            "DeleteObjectTagging": self.delete,
        }

    async def get(self, ask: Ask) -> Answer:
        _check(ask)
        info = await ask.bucket.stat(ask.target.key)
        return document(xml_out.tagging(decode_attributes(info.attributes).tags))

    async def put(self, ask: Ask) -> Answer:
        _check(ask)
        tags = xml_in.read_tagging(await Body(ask).read(DOCUMENT_MAX))
        await _replace(ask, tags)
        return Answer(200)

    async def delete(self, ask: Ask) -> Answer:
        _check(ask)
        await _replace(ask, ())
        return Answer(204)


def _check(ask: Ask) -> None:
    check_bucket(ask.target.bucket)
    require_null_version(ask.query.get("versionId"))


async def _replace(ask: Ask, tags: Tags) -> None:
    """Give the present version these tags and no others.

    A version that is replaced before its tags are changed takes them with it: it is as if the change had come
    just before.  So it would be no error to stop there, but whoever asks rather means the new version.
    """
    for _ in range(TRIES):
        info = await ask.bucket.chunks(ask.target.key)
        present = decode_attributes(info.attributes)
        if present.tags == tags:
            return
        try:
            await ask.bucket.amend(info, msgspec.structs.replace(present, tags=tags))
        except PreconditionFailed:
            continue
        return
