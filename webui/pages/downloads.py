"""Objects: downloads."""

from __future__ import annotations

from quart import Blueprint

bp = Blueprint("downloads", __name__)
