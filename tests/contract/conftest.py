"""Every test of a catalog runs on every engine of `catalog_kit.ENGINES`, through the interface alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from catalog_kit import ENGINES, Kit, OpenCatalog
from warehouse.catalog.interface import Catalog, Transaction


class Narrowed:
    """An object of an engine that shows what its Protocol names, and nothing else."""

    def __init__(self, target: Any, protocol: type) -> None:
        self._target = target
        self._protocol = protocol

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in vars(self._protocol):
            raise AttributeError(f"{self._protocol.__name__} of catalog/interface.py has no {name}")
        return getattr(self._target, name)


class NarrowedCatalog(Narrowed):
    def __init__(self, target: Catalog) -> None:
        super().__init__(target, Catalog)

    @contextmanager
    def transaction(self) -> Iterator[Narrowed]:
        with self._target.transaction() as transaction:
            yield Narrowed(transaction, Transaction)


@pytest.fixture(params=ENGINES, scope="session")
def open_catalog(request: pytest.FixtureRequest) -> OpenCatalog:
    def narrowed(folder: Path, **own: Callable[[], int]) -> Any:
        return NarrowedCatalog(ENGINES[request.param](folder, **own))

    return narrowed


@pytest.fixture
def kit(tmp_path: Path, open_catalog: OpenCatalog) -> Iterator[Kit]:
    """A catalog with one disk and two volumes; whatever a test does, it must stay consistent."""
    kit = Kit(tmp_path, open_catalog=open_catalog)
    yield kit
    kit.assert_consistent()
    kit.close()
