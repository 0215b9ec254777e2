"""`python -m client` is the command line, also where the `warehouse` command is not installed."""

from warehouse.client.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
