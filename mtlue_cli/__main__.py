"""``python -m mtlue_cli``: the same program as the ``mtlue`` console script."""

from mtlue_cli.commands.app import main

if __name__ == "__main__":
    main()
