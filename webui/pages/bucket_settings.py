"""The page /buckets/NAME/settings."""

from __future__ import annotations

from quart import Blueprint

bp = Blueprint("bucket_settings", __name__)
