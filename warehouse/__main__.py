"""The `warehouse` command, also as `python -m warehouse`."""

import sys


def main() -> int:
    """Run the command line.  Ctrl-C while it is still being loaded ends it without a traceback."""
    try:
        from warehouse.cli.main import main as run
    except KeyboardInterrupt:
        return 130
    return run(sys.argv[1:])


if __name__ == "__main__":
    raise SystemExit(main())
