"""Objects: uploads."""

from __future__ import annotations

from quart import Blueprint

bp = Blueprint("uploads", __name__)
