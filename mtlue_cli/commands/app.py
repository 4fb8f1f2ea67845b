"""The program: its commands and the one boundary where errors become text and exit codes."""

import contextlib
import functools
import importlib
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from mtlue_cli import __version__
from mtlue_cli.choices import ExitCode
from mtlue_cli.commands.console import PlainConsole, grouped, stop_drawing, visible
from mtlue_cli.errors import InputError, MtlueError
from mtlue_cli.files import shown
from mtlue_cli.options import Option, option_fields
from mtlue_cli.storage.urls import without_secrets

COMMANDS = {
    "demo": "Draw a small image set, train a generator for it, protect it and verify the protection.",
    "protect": "Write a protected copy of every labelled image, and labels.csv with it.",
    "train-generator": "Train a perturbation generator on a folder of labelled images.",
    "verify": "Audit a release, train victims on it, and measure what they learn.",
    "inspect": "Describe a checkpoint or a release, and check its files against their recorded hashes.",
    "trace probes": "Make probe images from clean photos, to ask a model about.",
    "trace judge": "Judge from a model's answers to probes whether it was trained on the release.",
    "trace copy": "Measure how much of the perturbation is left in copies of released photos.",
}
"""Every command, and how its help begins: a command is imported, and its options are made, once it is asked for."""

DEBUG_VARIABLE = "MTLUE_DEBUG"
SHOW_CURSOR = b"\x1b[?25h"


@contextlib.contextmanager
def _visible_faults() -> Iterator[None]:
    """Within it what Typer says of wrong usage, which it prints itself, has visible characters and no passwords.

    An interruption ends with the exit code for it, from the first option that is read.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise _interrupted() from None
    except Exception as error:
        if isinstance(message := getattr(error, "message", None), str):
            error.message = visible(without_secrets(message, {}))  # type: ignore[attr-defined]  # just found
        raise


class Program(TyperGroup):
    """The commands; words that are none of their options are repeated with visible characters alone."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - typer's own context, vendored or click's
        """The command that is asked for, with its options."""
        name, command, rest = super().resolve_command(ctx, args)
        path = f"trace {name}" if self.name == "trace" else str(name)
        return name, loaded(path) if path in COMMANDS else command, rest

    def make_context(self, *words: Any, **options: Any) -> Any:  # noqa: ANN401 - typer's own context, vendored or click's
        """Read the options of the program itself."""
        with _visible_faults():
            return super().make_context(*words, **options)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - as above
        """Read the options of a command, and run it."""
        with _visible_faults():
            return super().invoke(ctx)


app = typer.Typer(
    name="mtlue",
    cls=Program,
    help=(
        "Protect labelled images before you publish them.\n\n"
        "Add a bounded perturbation that depends on the labels, and verify that a model trained on the release learns "
        "little, for every label column at once.\n\n"
        "Options can also come from the environment: MTLUE_DEVICE for an option that commands share, MTLUE_PROTECT_OUT "
        "for an option of one command. The help of each command names them. The rest can come from a config file: "
        "--config FILE, or \\[tool.mtlue] in pyproject.toml.\n\n"
        "Start with: [bold]mtlue demo[/bold]"
    ),
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


class Command(TyperCommand):
    """A command in which a bare ``--json`` means ``--json -``, and likewise of other options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - typer's own context, vendored or click's
        """Parse ``args`` after filling in such values; a config file that is not understood is wrong usage.

        A value that does not fit, such as the path of a file that is not there, is said with its config file and key.
        """
        from mtlue_cli.commands.from_config import origin_of

        try:
            parsed: list[str] = super().parse_args(ctx, with_bare_options(args))
        except typer.BadParameter as error:
            origin = None if error.param is None else origin_of(ctx, str(error.param.name))
            if origin is not None:
                error.message = f"{origin}: {error.message}"
            raise
        except InputError as error:
            _complain(*_described(error))
            raise typer.Exit(ExitCode.INPUT) from None
        return parsed


@functools.cache
def _bare_options() -> dict[str, Option]:
    """Flag to option, of those that need no value."""
    from mtlue_cli.commands.from_config import ResultOptions
    from mtlue_cli.workflows.protect.config import ProtectConfig

    fields = (found for config in (ProtectConfig, ResultOptions) for found in option_fields(config))
    return {found.option.flag: found.option for found in fields if found.option.bare is not None}


def with_bare_options(words: Sequence[str]) -> list[str]:
    """``words`` with a value put after each option that needs none and has none: ``-`` after a bare ``--json``."""
    filled: list[str] = []
    for position, word in enumerate(words):
        filled.append(word)
        if word == "--":
            return [*filled, *words[position + 1 :]]
        following = words[position + 1] if position + 1 < len(words) else None
        option = _bare_options().get(word)
        if option is not None and option.bare is not None and not _is_value(following, option):
            filled.append(option.bare)
    return filled


def _is_value(word: str | None, option: Option) -> bool:
    if word is None or (word.startswith("-") and word != "-"):
        return False
    if option.minimum is not None:
        return word.isdecimal()
    known = option.completions
    return known is None or any(part.strip() in list(known) for part in word.split(","))


def bounded(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` within the error boundary; its signature, which Typer reads, stays."""

    @functools.wraps(command)
    def within_boundary(*args: Any, **options: Any) -> None:  # noqa: ANN401 - whatever the command takes
        try:
            command(*args, **options)
            sys.stdout.flush()
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except BrokenPipeError:
            stop_drawing()
            # Whoever read our output has left: what is still in the buffer must not fail again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(ExitCode.UNEXPECTED) from None
        except KeyboardInterrupt:
            raise _interrupted() from None
        except Exception as error:
            stop_drawing()
            if os.environ.get(DEBUG_VARIABLE):
                _complain(*"".join(traceback.format_exception(error)).rstrip().split("\n"))
            _complain(*_described(error))
            known = isinstance(error, InputError | PermissionError)
            raise typer.Exit(ExitCode.INPUT if known else ExitCode.UNEXPECTED) from None

    return within_boundary


def _interrupted() -> typer.Exit:
    stop_drawing()
    _complain("interrupted, run the same command again to continue")
    return typer.Exit(ExitCode.INTERRUPTED)


def _described(error: Exception) -> list[str]:
    """The lines that tell a user about ``error``."""
    if isinstance(error, InputError):
        complete = bool(os.environ.get(DEBUG_VARIABLE))
        faults = error.faults if complete else grouped(error.faults, f"{DEBUG_VARIABLE}=1 lists all")
        lines = [f"error: {error}", *(f"  {fault}" for fault in faults)]
        return [*lines, f"hint: {error.hint}"] if error.hint else lines
    if isinstance(error, MtlueError):
        return [f"error: {error}"]
    if isinstance(error, PermissionError):  # what cannot be written in a run is an MtlueError that says how it goes on
        what = f"no access to {error.filename or 'a file'}: {error.strerror or error}"
        return [f"error: {what}", "hint: give yourself access to it and to the folders above it"]
    summary = str(error).strip().splitlines()
    what = f"{type(error).__name__}: {summary[0]}" if summary else type(error).__name__
    return [f"unexpected failure: {what}", f"hint: set {DEBUG_VARIABLE}=1 and run again to see the traceback"]


def _complain(*lines: str) -> None:
    console = PlainConsole(stderr=True)
    for line in lines:
        console.print(shown(without_secrets(line, {})), soft_wrap=True)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mtlue {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Carry the options of the program itself."""


trace = typer.Typer(
    cls=Program,
    help="Find out whether a model was trained on a release, and whether copies of it still protect.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
for _path, _help in COMMANDS.items():
    (trace if " " in _path else app).command(_path.removeprefix("trace "), help=_help)(lambda: None)
app.add_typer(trace, name="trace")


@functools.cache
def loaded(path: str) -> Any:  # noqa: ANN401 - typer's own command, vendored or click's
    """A command of :data:`COMMANDS` with its options."""
    group, _, name = path.replace("-", "_").rpartition(" ")
    module = importlib.import_module(f"mtlue_cli.commands.{group or name}")
    alone = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
    alone.command(path.removeprefix("trace "), cls=Command)(bounded(getattr(module, name)))
    return typer.main.get_command(alone)


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a signal handler
    """End in order; when asked once more, at once: whatever is written is whole, so nothing is lost by it."""
    for request in (signal.SIGINT, signal.SIGTERM):
        signal.signal(request, _end_at_once)
    raise KeyboardInterrupt


def _end_at_once(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a signal handler
    if sys.stderr.isatty():
        os.write(sys.stderr.fileno(), SHOW_CURSOR)  # a progress bar has hidden it
    os._exit(ExitCode.INTERRUPTED)


def main() -> None:
    """Run the program; a polite request to end is treated like Ctrl-C, so that work can be resumed.

    Characters that the terminal or the file behind a stream cannot show are spelled out, once the work is done.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # a shell's background job ignores Ctrl-C
        signal.signal(signal.SIGINT, _interrupt)
    app(prog_name="mtlue")
