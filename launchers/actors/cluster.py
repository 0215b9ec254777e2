"""`python -m actors.cluster` where Warehouse is installed."""

from warehouse.actors.cluster import main

if __name__ == "__main__":
    raise SystemExit(main())
