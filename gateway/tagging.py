"""Tagging: the tags of objects."""

from __future__ import annotations

from collections.abc import Mapping

from warehouse.gateway.ask import Answer, Ask, Handler, document
from warehouse.gateway.versions import require_null_version
from warehouse.s3 import xml_out
from warehouse.s3.names import check_bucket
from warehouse.transport.messages.attributes import decode_attributes


class Tagging:
    def handlers(self) -> Mapping[str, Handler]:
        return {
            "GetObjectTagging": self.get,
        }

    async def get(self, ask: Ask) -> Answer:
        _check(ask)
        info = await ask.bucket.stat(ask.target.key)
        return document(xml_out.tagging(decode_attributes(info.attributes).tags))


def _check(ask: Ask) -> None:
    check_bucket(ask.target.bucket)
    require_null_version(ask.query.get("versionId"))
