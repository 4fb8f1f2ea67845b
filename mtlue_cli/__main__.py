"""``mtlue`` and ``python -m mtlue_cli``."""

import os
import sys


def main() -> None:
    """Run the program; Ctrl-C ends it in order, also while it is still loading."""
    try:
        from mtlue_cli.commands.app import main as run

        run()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        os._exit(130)  # Python ends by the signal itself where it interrupted an exec, as those of dataclasses


if __name__ == "__main__":
    main()
