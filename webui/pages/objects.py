"""Objects: objects."""

from __future__ import annotations

from quart import Blueprint

bp = Blueprint("objects", __name__)
