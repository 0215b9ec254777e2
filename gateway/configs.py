"""Configs: the documents that say how a bucket behaves: its tags and its rules of CORS.

The store keeps a document as it is written here, whatever way its client has written it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from warehouse.errors import BadRequest
from warehouse.gateway.ask import Answer, Ask, Handler, document
from warehouse.gateway.bodies import read_document
from warehouse.gateway.cors import Cors
from warehouse.s3 import xml_in, xml_out
from warehouse.s3.failures import Failure
from warehouse.s3.names import check_bucket
from warehouse.s3.tags import BUCKET_TAGS_MAX

DOCUMENT_MAX = 64 * 1024


class Configs:
    """
    Args:
        cors: is told of rules that change.
    """

    def __init__(self, cors: Cors) -> None:
        self._cors = cors

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "GetBucketTagging": self.tags,
            "PutBucketTagging": self.put_tags,
            "DeleteBucketTagging": self.delete_tags,
            "GetBucketCors": self.rules,
            "PutBucketCors": self.put_rules,
            "DeleteBucketCors": self.delete_rules,
        }

    async def tags(self, ask: Ask) -> Answer:
        return await _read(ask, "tagging", "NoSuchTagSet", "The TagSet does not exist")

    async def put_tags(self, ask: Ask) -> Answer:
        tags = xml_in.read_tagging(await read_document(ask, DOCUMENT_MAX), BUCKET_TAGS_MAX)
        await _write(ask, "tagging", xml_out.tagging(tags) if tags else b"")
        return Answer(204)

    async def delete_tags(self, ask: Ask) -> Answer:
        await _write(ask, "tagging", b"")
        return Answer(204)

    async def rules(self, ask: Ask) -> Answer:
        return await _read(ask, "cors", "NoSuchCORSConfiguration", "The CORS configuration does not exist")

    async def put_rules(self, ask: Ask) -> Answer:
        rules = xml_in.read_cors(await read_document(ask, DOCUMENT_MAX))
        await _write(ask, "cors", xml_out.cors(rules))
        self._cors.forget(ask.target.bucket)
        return Answer(200)

    async def delete_rules(self, ask: Ask) -> Answer:
        await _write(ask, "cors", b"")
        self._cors.forget(ask.target.bucket)
        return Answer(204)


Kind = Literal["cors", "tagging"]


async def _read(ask: Ask, kind: Kind, code: str, message: str) -> Answer:
    check_bucket(ask.target.bucket)
    found = await ask.bucket.config(kind)
    if not found:
        raise Failure(code, message, {"BucketName": ask.target.bucket})
    return document(found)


async def _write(ask: Ask, kind: Kind, text: bytes) -> None:
    check_bucket(ask.target.bucket)
    try:
        await ask.bucket.set_config(kind, text)
    except BadRequest as error:
        raise Failure("InvalidRequest", error.message) from None
