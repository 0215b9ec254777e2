"""Actions on selected objects."""

from __future__ import annotations

from quart import Blueprint

bp = Blueprint("object_actions", __name__)
