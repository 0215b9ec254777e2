"""Versions: each object has one, and S3 calls it `null`.  Pure"""

from __future__ import annotations

from warehouse.s3.failures import Failure


def require_null_version(version_id: str | None) -> None:
    """
    Raises:
        Failure: NoSuchVersion.
    """
    if version_id not in (None, "", "null"):
        raise Failure(
            "NoSuchVersion",
            "The specified version does not exist.",
            {"VersionId": version_id[:100]},
        )
