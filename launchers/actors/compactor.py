"""`python -m actors.compactor` where Warehouse is installed."""

from warehouse.actors.compactor import main

if __name__ == "__main__":
    raise SystemExit(main())
