"""Print a page that is generated from the settings: `python -m warehouse.conf sample` (or `reference`)."""

from __future__ import annotations

import sys

from warehouse.conf.settings import reference, sample_file

PAGES = {"sample": sample_file, "reference": reference}


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in PAGES:
        print("usage: python -m warehouse.conf sample|reference", file=sys.stderr)
        return 2
    print(PAGES[arguments[0]](), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
