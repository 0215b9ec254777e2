"""`python -m actors.volume` where Warehouse is installed."""

from warehouse.actors.volume import main

if __name__ == "__main__":
    raise SystemExit(main())
