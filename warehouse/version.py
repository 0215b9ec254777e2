"""Version: which Warehouse this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def package_version() -> str:
    """The version of the installed distribution, such as "0.1.0"."""
    try:
        return version("warehouse-store")
    except PackageNotFoundError:  # run from a checkout
        return "0+checkout"
