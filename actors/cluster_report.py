"""Cluster report: what `warehouse up` tells whoever started it."""

from __future__ import annotations

from pathlib import Path

from warehouse.actors.cluster_processes import Child
from warehouse.actors.control.first_start import Initialized
from warehouse.actors.process import Announcer
from warehouse.auth.keys import ApiKey


def root_key_line(root: ApiKey, data: Path, profile: Path, *, is_old: bool) -> str:
    """Where the root key is.  Logs keep what a service prints, so its secret is never printed.

    Args:
        is_old: the catalog of the store was rebuilt without its API keys.
    """
    made = f"A new root key for the warehouse in {data}" if is_old else f"A new warehouse in {data}"
    return f"{made}. The root key {root.key_id} and its secret are in {profile}"


class StartReport:
    """Tells whoever started the store that it is ready, or why it takes no puts yet."""

    def __init__(
        self,
        announcer: Announcer,
        initialized: Initialized,
        *,
        endpoint: str,
        master_http: str,
        profile: Path,
        console: str,
        s3: str,
    ) -> None:
        """
        Args:
            console: where the console is, if one is started.
            s3: where the gateways are, if some are started.
        """
        self._announcer = announcer
        self._console = console
        self._s3 = s3
        self._root_key = initialized.root_key
        self._endpoint = endpoint
        self._master_http = master_http
        self._profile = profile

    def ready_as_json(self, children: list[Child]) -> None:
        root = self._root_key
        self._announcer.ready(
            master=self._endpoint,
            master_http=self._master_http,
            volumes=[child.announced.get("url", "") for child in _disks(children)],
            profile=str(self._profile),
            **({"console": url} if (url := self._console_url(children)) else {}),
            **({"s3": url} if (url := self._s3_url(children)) else {}),
            pids={child.name: child.process.pid for child in children if child.process},
            **({"root_key": {"key_id": root.key_id}} if root else {}),  # its secret is in the profile
        )

    def ready_as_text(self, children: list[Child]) -> None:
        print(f"master   {self._endpoint}   health and metrics {self._master_http}/metrics")
        for child in _disks(children):
            print(f"{child.name:8} {child.announced.get('url', '')}")
        if url := self._console_url(children):
            print(f"console  {url}   (sign in: warehouse console --open)")
        if url := self._s3_url(children):
            print(f"s3       {url}   (keys: warehouse keys create NAME)")
        print(f"profile  {self._profile}   (in another terminal: warehouse --help)")
        self._announcer.ready()

    def _console_url(self, children: list[Child]) -> str:
        """Where the console is, or will be in a moment; "" without one, or if it cannot start."""
        return self._console if _has_one(children, "console") else ""

    def _s3_url(self, children: list[Child]) -> str:
        """The same for the gateways, which share one port."""
        return self._s3 if _has_one(children, "gateway-") else ""

    def unwritable_as_json(self, cause: str) -> None:
        self._announcer.say("started", is_writable=False, cause=cause)

    def unwritable_as_text(self, cause: str) -> None:
        print(f"started, but not writable: {cause}", flush=True)


def _has_one(children: list[Child], beginning: str) -> bool:
    return any(one.name.startswith(beginning) and not one.is_failed for one in children)


def _disks(children: list[Child]) -> list[Child]:
    return [child for child in children if child.name.startswith("disk-")]
