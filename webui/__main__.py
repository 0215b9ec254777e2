"""`python -m warehouse.webui`, and from a checkout `python -m webui`."""

from warehouse.webui.main import main

if __name__ == "__main__":
    raise SystemExit(main())
