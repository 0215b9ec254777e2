"""`python -m actors.master` where Warehouse is installed."""

from warehouse.actors.master import main

if __name__ == "__main__":
    raise SystemExit(main())
