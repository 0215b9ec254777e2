"""Objects: details."""

from __future__ import annotations

from quart import Blueprint

bp = Blueprint("details", __name__)
