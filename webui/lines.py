"""Lines of a list of objects: the texts that a template prints, worked out before.  Pure."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import NamedTuple

from warehouse.conf.formatting import format_size
from warehouse.webui.listing import Row, View
from warehouse.webui.names import last_part, object_url, visible
from warehouse.webui.selection import item


class Line(NamedTuple):
    """One line; all but the first three are empty for a folder.

    Attributes:
        id: of the element: ASCII letters and digits, whatever the key says.
        item: what its checkbox says; see `selection.py`.
        path: without the root, of the object's page, or of the folder.
        where: the folders between that of the list and the object, if the list shows what is in folders.
    """

    id: str
    item: str
    name: str
    path: str
    is_folder: bool = True
    where: str = ""
    size: str = ""
    exact_size: str = ""
    content_type: str = ""
    at: str = ""  # ISO
    exact_at: str = ""
    shown_at: str = ""


def line_of(row: Row, view: View) -> Line:
    """What is shown of an object or a folder."""
    key, info = row
    name = last_part(key)
    element = "r" + hashlib.sha256(key.encode()).hexdigest()[:20]
    if info is None:
        path = view.path(prefix=key, find="", cursor="")
        return Line(element, item(key, None), visible(name), path)
    where = key[len(view.prefix) : len(key) - len(name)] if view.is_flat else ""
    moment = datetime.fromtimestamp(info.created_ms / 1000, UTC)
    shown = moment.isoformat(" ", timespec="seconds")[:19]
    return Line(
        id=element,
        item=item(key, info.size),
        name=visible(name),
        path=object_url(view.bucket, key),
        is_folder=False,
        where=visible(where),
        size=format_size(info.size),
        exact_size=f"{info.size:,} bytes",
        content_type=info.content_type or "",
        at=moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        exact_at=f"{shown} UTC",
        shown_at=shown[:16],
    )
