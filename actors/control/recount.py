"""Recount: compare the figures that the catalog keeps up to date with a recount, at the start and daily."""

from __future__ import annotations

import logging

import trio

from warehouse.catalog.interface import Catalog
from warehouse.errors import StoreError

log = logging.getLogger(__name__)

RECOUNT_EVERY_S = 24 * 3600


class Recount:
    """
    Attributes:
        difference_count: figures that differed from the last recount.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.difference_count = 0

    async def run(self) -> None:
        while True:
            try:
                differences = await trio.to_thread.run_sync(self._catalog.check_counts)
            except StoreError as error:
                log.error("figures not checked", extra={"cause": str(error)})
            else:
                self.difference_count = len(differences)
                for difference in differences:
                    log.error("figures differ from a recount", extra={"difference": str(difference)})
            await trio.sleep(RECOUNT_EVERY_S)
