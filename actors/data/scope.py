"""Scope: which needles, and which keys, a token is for.  Pure."""

from __future__ import annotations

from warehouse.auth.data_tokens import DataClaims, named_upload
from warehouse.errors import TokenScope
from warehouse.storage.format.needle import NeedleMetadata


def require_needle(claims: DataClaims, needle_id: int) -> None:
    if (
        claims.first_needle_id or claims.last_needle_id
    ) and not claims.first_needle_id <= needle_id <= claims.last_needle_id:
        raise TokenScope(
            f"this token opens needles {claims.first_needle_id} to {claims.last_needle_id}, not {needle_id}"
        )


def require_readable(claims: DataClaims, metadata: NeedleMetadata) -> None:
    """
    Raises:
        TokenScope: the needle is of another bucket than the token, or its key of none of its prefixes.
    """
    if metadata.bucket_id != claims.bucket_id:
        raise TokenScope(f"this token reads bucket {claims.bucket!r}, the needle belongs to another")
    if claims.prefixes is not None and not metadata.key.startswith(claims.prefixes):
        raise TokenScope("this token is for other keys of its bucket than the one of this needle")


def require_visible(claims: DataClaims, metadata: NeedleMetadata) -> None:
    """Does a token that names no needles open this one?  It may be part of an upload that is not finished.

    Raises:
        TokenScope: the needle came with an upload that the token does not name.
    """
    upload_id = metadata.upload_id
    if upload_id is None or claims.last_needle_id or not claims.key_id:
        return  # release 0.1.0 signed tokens that name no API key, and no uploads
    if metadata.created_ms <= claims.named_after_ms:
        return
    if claims.upload_ids is None or named_upload(upload_id) not in claims.upload_ids:
        raise TokenScope("this needle came with an upload, and this token does not name it")


def require_writable(claims: DataClaims, key: str) -> None:
    """
    Raises:
        TokenScope: the token is for keys with other prefixes.
    """
    if claims.prefixes is not None and not key.startswith(claims.prefixes):
        raise TokenScope(f"this token is for other keys of bucket {claims.bucket!r} than {key!r:.200}")
