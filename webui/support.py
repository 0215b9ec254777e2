"""The support bundle: what somebody who helps needs to know of a store, and no secret of it.

It holds settings, versions, figures, troubles, jobs and events, asked with the rights of the key that wants
it.  Names of buckets and objects are left out.  What looks like a secret all the same is taken out.
"""

from __future__ import annotations

import io
import json
import platform
import time
import zipfile
from collections.abc import Mapping
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec
import trio

import warehouse
from warehouse.conf.logging import redact_text
from warehouse.conf.settings import Settings, describe
from warehouse.version import package_version
from warehouse.webui.abilities import Abilities
from warehouse.webui.event_memory import remembered
from warehouse.webui.standing import standing

PACKAGES = (
    "trio",
    "pyzmq",
    "msgspec",
    "cryptography",
    "httptools",
    "quart",
    "quart-trio",
    "hypercorn",
    "jinja2",
)
LEFT_OUT = "(left out)"
_NAMES = frozenset({"bucket", "key", "keys", "key_id", "account_id", "token_id", "address"})
_README = """\
What this is: settings, versions, figures, troubles, jobs and events of a Warehouse store, for somebody who
helps its operator. Made by the console on {at} UTC.

It holds no secret of the store, and no names of buckets, objects or API keys. It does hold names and
addresses of disks and machines, and sizes and counts. Look into the files before you hand them on.
"""


async def support_bundle(store: warehouse.Store, settings: Settings, can: Abilities) -> bytes:
    """A ZIP file; its size is bounded by what the master remembers.

    Raises:
        PermissionDenied: the key may not see the cluster.
    """
    status = await store.status()
    files = {
        "README.txt": _README.format(at=time.strftime("%Y-%m-%d %H:%M", time.gmtime())),
        "versions.json": _json(versions(status)),
        "settings.toml": settings_text(settings),
        "status.json": _json(without_names(msgspec.to_builtins(status))),
        "troubles.txt": "".join(
            f"{concern.kind}: {concern.title}. {concern.advice}\n" for concern in standing(status)
        ),
        "figures.json": _json(msgspec.to_builtins(await store.figures())),
        "history.json": _json(msgspec.to_builtins(await store.history(since=timedelta(days=1)))),
        "jobs.json": _json(msgspec.to_builtins(await store.jobs())),
    }
    if can.see_events:
        events = [without_names(msgspec.to_builtins(event)) for event in await remembered(store)]
        files["events.jsonl"] = "".join(json.dumps(event) + "\n" for event in events)
    return await trio.to_thread.run_sync(_zip, files)


def _zip(files: Mapping[str, str]) -> bytes:
    out = io.BytesIO()
    folder = "warehouse-support"
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(f"{folder}/{name}", redact_text(text))
    return out.getvalue()


def _json(value: object) -> str:
    return json.dumps(value, indent=1) + "\n"


def versions(status: warehouse.Status | None = None) -> dict[str, str]:
    """Of the console, the master, and what they stand on."""
    found = {"console": package_version()}
    if status is not None:
        found["master"] = status.version
    found |= {"python": platform.python_version(), "system": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "?"
    return found


def settings_text(settings: Settings) -> str:
    """All settings as the console has them, as a TOML file; settings hold no secret, only paths of files."""
    lines: list[str] = []
    section = ""
    for doc in describe():
        if doc.section != section:
            section = doc.section
            lines.append(f"\n[{section}]")
        value = getattr(getattr(settings, doc.section), doc.key)
        lines.append(
            f"{doc.key} = {doc.type.write(value)}" if value is not None else f"# {doc.key} is not set"
        )
    return "\n".join(lines).lstrip() + "\n"


def without_names(value: Any) -> Any:
    """The same without what people have named: a problem can be looked into without it."""
    if isinstance(value, dict):
        return {
            name: LEFT_OUT if name in _NAMES and isinstance(inner, str | list) else without_names(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [without_names(inner) for inner in value]
    return value
