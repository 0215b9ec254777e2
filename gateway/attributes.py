"""Attributes: GetObjectAttributes, what is known of an object without its bytes."""

from __future__ import annotations

from collections.abc import Mapping

from warehouse.gateway.ask import Answer, Ask, Handler, document
from warehouse.gateway.kept import checksum_of, storage_class_of
from warehouse.gateway.parts import listed_part
from warehouse.gateway.versions import require_null_version
from warehouse.s3 import xml_out
from warehouse.s3.attributes import attributes_of, read_attributes_request
from warehouse.s3.headers import http_date
from warehouse.s3.names import check_bucket
from warehouse.s3.xml_out import ListedPart
from warehouse.transport.messages.attributes import decode_attributes


class Attributes:
    def handlers(self) -> Mapping[str, Handler]:
        return {"GetObjectAttributes": self.get}

    async def get(self, ask: Ask) -> Answer:
        check_bucket(ask.target.bucket)
        require_null_version(ask.query.get("versionId"))
        request = read_attributes_request(ask.headers)
        info = await ask.bucket.stat(ask.target.key)
        found = decode_attributes(info.attributes)
        parts: list[ListedPart] = []
        if found.part_count is not None and "ObjectParts" in request.names:
            stored = await ask.bucket.multipart.parts_of_object(info.key, info.etag)
            parts = [listed_part(part) for part in stored]
        shown = attributes_of(
            request, info.etag, info.size, storage_class_of(found), checksum_of(found), parts
        )
        modified = http_date(info.created_ms // 1000)
        return document(xml_out.object_attributes(shown), [(b"Last-Modified", modified)])
