"""The command line: Typer and rich only; one file per command."""
