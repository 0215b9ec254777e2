"""Console: what the process holds, for the pages to use."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import trio

from warehouse.conf.console_codes import Codes
from warehouse.conf.profile import Profile
from warehouse.conf.settings import Settings
from warehouse.webui.attempts import Attempts
from warehouse.webui.feeds import Feeds
from warehouse.webui.measuring import Measuring
from warehouse.webui.sessions import Sessions
from warehouse.webui.shares import Shares
from warehouse.webui.stores import Stores
from warehouse.webui.turns import Turns
from warehouse.webui.work import Works

log = logging.getLogger(__name__)

SWEEP_S = 60.0
ARCHIVES_OF_KEY_MAX, ARCHIVES_MAX = 3, 8  # at once; each keeps the names of all that is in it
CHUNKS_OF_KEY_MAX, CHUNKS_MAX = 16, 32  # of uploads, at once; each is a connection to a volume actor


@dataclass(frozen=True)
class ConsoleOptions:
    """What the operator decided.

    Attributes:
        profile: a file that says where the store is; its key is used for one-time codes alone.
        folder: of this console, for its owner alone: one-time codes, its certificate, where it listens.
        public_url: under which browsers reach the console, if a proxy stands in front; "" otherwise.
        is_tls: browsers reach it by https.
        session_s: how long a session lasts that nobody uses.
        session_most_s: how long a session lasts.
        settings: all of them, for the support bundle.
    """

    profile: Path
    folder: Path
    public_url: str = ""
    is_tls: bool = False
    session_s: float = 12 * 3600.0
    session_most_s: float = 30 * 86400.0
    settings: Settings = field(default_factory=Settings)

    @property
    def root(self) -> str:
        """The path in front of all pages, without a slash at its end; "" mostly."""
        return urlsplit(self.public_url).path.rstrip("/")

    @property
    def is_secure(self) -> bool:
        """May the cookie be sent by https alone?"""
        return self.is_tls or self.public_url.startswith("https://")


@dataclass
class Console:
    """The parts that pages share."""

    options: ConsoleOptions
    stores: Stores
    sessions: Sessions
    codes: Codes
    attempts: Attempts
    feeds: Feeds
    works: Works
    measuring: Measuring
    archives: Turns
    chunks: Turns
    shares: Shares
    nursery: trio.Nursery
    stopping: trio.Event = field(default_factory=trio.Event)  # WebSockets and streams end

    @property
    def data_origins(self) -> frozenset[str]:
        """Of the volume actors, for the Content-Security-Policy."""
        return self.stores.origins.current

    @classmethod
    def make(cls, options: ConsoleOptions, nursery: trio.Nursery) -> Console:
        return cls(
            options=options,
            stores=Stores(lambda: Profile.load(options.profile), nursery),
            sessions=Sessions(idle_s=options.session_s, most_s=options.session_most_s),
            codes=Codes(options.folder),
            attempts=Attempts(),
            feeds=Feeds(nursery),
            works=Works(nursery),
            measuring=Measuring(options.folder, nursery),
            archives=Turns("archives in the making", of_key_max=ARCHIVES_OF_KEY_MAX, all_max=ARCHIVES_MAX),
            chunks=Turns("chunks on their way", of_key_max=CHUNKS_OF_KEY_MAX, all_max=CHUNKS_MAX),
            shares=Shares(),
            nursery=nursery,
        )

    async def run(self) -> None:
        """End old sessions, until cancelled."""
        while True:
            await trio.sleep(SWEEP_S)
            self.sessions.end_old()
