"""The support bundle: what somebody who helps needs to know of a store, and no secret of it.

It holds settings, versions, figures, troubles, jobs and events, asked with the rights of the key that wants
it.  Numbers are shown, and those texts that stand in a list here: what a later release adds is left out until
somebody has looked at it.  Names of buckets, objects and API keys are not in the list.  What looks like a
secret all the same is taken out.
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
from warehouse.conf.setting_types import Choice, Count, Seconds, Size
from warehouse.conf.settings import SettingDoc, Settings, describe
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
# Fields of messages and of events whose texts are shown.
SHOWN_TEXTS = frozenset(
    {
        *("name", "message", "code", "state", "cause", "problem", "trouble", "subject", "decision"),
        *("version", "health", "url", "host", "uuid", "set_aside", "sealed_cause"),
        *("disk", "disk_id", "disk_name", "next_disk", "compactors", "gateways", "node", "role", "whose"),
        *("work", "origin"),
    }
)
# Settings that are free text and no secret; numbers and words out of a few are shown without.
SHOWN_SETTINGS = frozenset(
    {
        *("cluster.data", "cluster.host", "http.cors_origins", "console.url", "s3.region", "s3.domains"),
        "s3.access_log",
        "s3.trusted_proxies",
        *("tls.certificate", "tls.key", "tls.authority"),  # paths of files
        *("monitoring.host", "monitoring.token_file"),
    }
)
HARMLESS_TYPES = (Choice, Count, Seconds, Size)
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
        "status.json": _json(shown(status)),
        "troubles.txt": "".join(
            f"{concern.kind}: {concern.title}. {concern.advice}\n" for concern in standing(status)
        ),
        "figures.json": _json(shown(await store.figures())),
        "history.json": _json(shown(await store.history(since=timedelta(days=1)))),
        "jobs.json": _json(shown(await store.jobs())),
    }
    if can.see_events:
        events = await remembered(store)
        files["events.jsonl"] = "".join(json.dumps(shown(event)) + "\n" for event in events)
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
    """The settings as the console has them, as a TOML file, without those that nobody has called harmless."""
    lines: list[str] = []
    section = ""
    for doc in describe():
        if doc.section != section:
            section = doc.section
            lines.append(f"\n[{section}]")
        lines.append(_setting_line(doc, getattr(getattr(settings, doc.section), doc.key)))
    return "\n".join(lines).lstrip() + "\n"


def _setting_line(doc: SettingDoc, value: object) -> str:
    if not isinstance(doc.type, HARMLESS_TYPES) and doc.name not in SHOWN_SETTINGS:
        return f"# {doc.key} is left out"
    return f"{doc.key} = {doc.type.write(value)}" if value is not None else f"# {doc.key} is not set"


def shown(value: object, name: str = "") -> Any:
    """What of a message may be handed on, as JSON has it.

    Args:
        name: of the field whose value it is.
    """
    match value:
        case msgspec.Struct():
            return {field: shown(getattr(value, field), field) for field in value.__struct_fields__}
        case dict() if name == "fields":  # of an event; in any other, people may have named the fields
            return {field: shown(inner, field) for field, inner in value.items()}
        case list() | tuple():
            return [shown(inner, name) for inner in value]
        case None | bool() | int() | float():
            return value
        case str() if name in SHOWN_TEXTS:
            return value
    return LEFT_OUT
