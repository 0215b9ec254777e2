"""Lists of uploads in parts that are not completed, and of the parts of one."""

from __future__ import annotations

from collections.abc import Mapping

from warehouse.gateway.ask import Answer, Ask, Handler, document
from warehouse.gateway.multipart import require_upload, upload_id_of
from warehouse.gateway.parts import facts_of, listed_part, listed_upload
from warehouse.s3 import xml_out
from warehouse.s3.listing import read_list_parts, read_list_uploads
from warehouse.s3.names import check_bucket
from warehouse.s3.paging import UploadPage
from warehouse.s3.ranges import PART_NUMBER_MAX
from warehouse.s3.upload_ids import make_upload_id, read_upload_marker


class UploadLists:
    def handlers(self) -> Mapping[str, Handler]:
        return {"ListMultipartUploads": self.uploads, "ListParts": self.parts}

    async def uploads(self, ask: Ask) -> Answer:
        bucket = ask.target.bucket
        check_bucket(bucket)
        request = read_list_uploads(bucket, ask.query)
        owner_id = (await ask.bucket.info()).owner_id
        if not request.limit:
            return document(xml_out.list_uploads(request, UploadPage((), (), "", "")))
        marker, after_upload = request.upload_id_marker, 0
        if marker:
            after_upload = read_upload_marker(bucket, request.key_marker, marker)
        found = await ask.bucket.multipart.uploads(
            request.prefix,
            request.delimiter,
            after=request.key_marker,
            after_upload=after_upload,
            limit=request.limit,
        )
        rows = [listed_upload(bucket, upload, owner_id) for upload in found.uploads]
        next_key, next_id = found.next_after or "", ""
        if next_key and found.next_after_upload:
            next_id = make_upload_id(bucket, next_key, found.next_after_upload)
        return document(xml_out.list_uploads(request, UploadPage(rows, found.prefixes, next_key, next_id)))

    async def parts(self, ask: Ask) -> Answer:
        upload_id = upload_id_of(ask)
        bucket, key = ask.target.bucket, ask.target.key
        request = read_list_parts(bucket, key, ask.query.get("uploadId") or "", ask.query)
        found = await ask.bucket.multipart.parts(
            upload_id, min(request.after, PART_NUMBER_MAX), max(1, request.limit)
        )
        upload = require_upload(ask, found.upload)
        facts = facts_of(upload, "" if upload.owner_id else (await ask.bucket.info()).owner_id)
        parts = [listed_part(part) for part in found.parts[: request.limit]]
        is_truncated = bool(request.limit and found.next_after)
        return document(xml_out.list_parts(request, parts, is_truncated, facts))
