"""``mtlue`` and ``python -m mtlue_cli``."""

import sys


def main() -> None:
    """Run the program; Ctrl-C ends it in order, also while it is still loading."""
    try:
        from mtlue_cli.commands.app import main as run

        run()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
