"""The `sinkworker` script, also as `python -m sinkworker`: the command line without an installed script."""

import sys


def main() -> int:
    """Carry out the process's command line. Ctrl-C while the imports take their time is no traceback either."""
    try:
        from sinkworker.cli import run

        return run(sys.argv[1:])
    except KeyboardInterrupt:
        return 130  # as a shell counts it


if __name__ == "__main__":
    sys.exit(main())
