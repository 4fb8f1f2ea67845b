"""The command line: Typer and rich only; one file a command."""
