"""`python -m warehouse.gateway`, and from a checkout `python -m gateway`."""

from warehouse.gateway.main import main

if __name__ == "__main__":
    raise SystemExit(main())
