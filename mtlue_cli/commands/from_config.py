"""Commands made from config classes: signature, help, environment variables and config file from one description."""

import inspect
import os
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import MISSING, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from mtlue_cli.budget import Budget, limited_to
from mtlue_cli.choices import ExitCode
from mtlue_cli.commands.config_file import values_of_files
from mtlue_cli.commands.console import Terminal
from mtlue_cli.commands.targets import refuse_overwriting, results_of
from mtlue_cli.errors import InputError
from mtlue_cli.options import OUTPUT, Option, OptionField, built, launched_as, option_fields
from mtlue_cli.storage.urls import checked_url, url_of
from mtlue_cli.tasks.label_options import LabelOptions

ConfigT = TypeVar("ConfigT")

ORIGINS = "mtlue_cli.origins"
"""Key of a context's ``meta``: field name to the config file and the key that its value comes from."""


@dataclass(frozen=True)
class ResultOptions:
    """What every command says and where.

    Attributes:
        config: TOML file with options, in one table per command. Options of the command line and the environment
            override it; it overrides pyproject.toml.
        quiet: Print errors only.
        json_target: Write the result as JSON to FILE; without FILE, or with -, to stdout in place of the table.
    """

    config: Annotated[Path | None, Option(panel=OUTPUT, metavar="FILE", takes="file", exists=True, shared=True)] = None
    quiet: Annotated[bool, Option(flags="--quiet -q", panel=OUTPUT, shared=True)] = False
    json_target: Annotated[
        Path | None,
        Option(flags="--json", panel=OUTPUT, metavar="[FILE]", dash=True, bare="-", shared=True, result=True),
    ] = None


@dataclass(frozen=True)
class Given:
    """What was given to a command.

    Attributes:
        values: Field name to what was typed, in the environment, or in a config file; None if nothing was.
        terminal: Where the command's output goes.
        within: Enters a context that is left when the command ends.
        results: Option to the file that the command writes with its result.
    """

    values: Mapping[str, Any]
    terminal: Terminal
    within: Callable[[AbstractContextManager[Any]], Any]
    results: Mapping[str, Path]

    def build(self, config: type[ConfigT], **more: Any) -> ConfigT:  # noqa: ANN401 - fields of the config
        """The config that was asked for; ``more`` are fields that come from elsewhere.

        Raises:
            InputError: A value is not understood.
        """
        return built(config, self.values, **more)

    def of_main_process(self) -> "Given":
        """The same, silent in all processes of a launcher but the main one, which speaks for them."""
        return replace(self, terminal=Terminal(quiet=True)) if launched_as()[0] > 0 else self

    def finish(self, result: Any) -> None:  # noqa: ANN401 - of any command
        """Write the JSON document of a result where it was asked for, and end with its exit code."""
        self.terminal.write_json(result.to_json())
        if result.exit_code != ExitCode.SUCCESS:
            raise typer.Exit(result.exit_code)

    def labels(self, images: Path) -> Path:
        """The label file: the one that is named, or the one among ``images``.

        Raises:
            InputError: None is named, and there is none, or more than one.
        """
        from mtlue_cli.layouts.find import described, find_labels

        named: Path | None = self.values["labels"]
        if named is not None:
            return named
        reading = built(LabelOptions, self.values)
        wanted = reading.format
        found = find_labels(images, wanted, reading.preset.labels if reading.preset is not None else ())
        refuse_overwriting(self.results, "--labels", found)
        self.terminal.say(described(found, wanted))
        return found


def command_of(
    name: str, *configs: type[Any], without: tuple[str, ...] = ()
) -> Callable[[Callable[[Given], None]], Callable[..., None]]:
    """Make a command of a function that takes what was given; its docstring is the help.

    It runs within the limits that were given, if it has their options.

    Args:
        name: The command, which is also its table in a config file. Its first word is in its variables.
        configs: Classes whose options it has, in order.
        without: Fields of these that it does not offer.
    """
    found = {
        option.name: option
        for config in (*configs, ResultOptions)
        for option in option_fields(config)
        if option.name not in without
    }
    word = name.split("-")[0]

    def read_files(context: typer.Context, config: Path | None) -> Path | None:
        """Take what config files say as defaults, before any other option is looked at."""
        if not context.resilient_parsing:
            options = [option for key, option in found.items() if key != "config"]
            values, context.meta[ORIGINS] = values_of_files(name, options, config)
            context.default_map = {key: [value] if found[key].listed else value for key, value in values.items()}
        return config

    def decorate(run: Callable[[Given], None]) -> Callable[..., None]:
        def command(context: typer.Context, **values: Any) -> None:  # noqa: ANN401 - whatever the options hold
            for key, field in found.items():
                if field.listed and (text := _in_environment(context, field, word)) is not None:
                    values[key] = [text]  # Typer splits it at blanks
            urls = [found[key].option for key, value in values.items() if isinstance(value, Path) and url_of(value)]
            for option in urls:
                if option.url is None:
                    raise InputError(f"{option.flag} takes no URL", hint="give a path of this machine")
            if urls:
                from mtlue_cli.storage.mount import located

                values = context.with_resource(located(found.values(), values))
            written = results_of(found.values(), values)
            results = built(ResultOptions, values)
            terminal = Terminal(results.quiet, results.json_target)
            used = [key for key in context.default_map or {} if origin_of(context, key) is not None]
            if used:
                terminal.say(f"from a config file: {', '.join(found[key].option.flag for key in used)}")
            if Budget in configs:
                context.with_resource(limited_to(built(Budget, values)))
            run(Given(dict.fromkeys(without) | values, terminal, context.with_resource, written))

        command.__name__ = run.__name__
        # A line end within a paragraph would be one in the help.
        command.__doc__ = re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.getdoc(run) or "")
        context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        options = [_parameter(option, word, read_files if key == "config" else None) for key, option in found.items()]
        command.__signature__ = inspect.Signature([context, *options])  # type: ignore[attr-defined]  # Typer reads it
        return command

    return decorate


def origin_of(context: Any, key: str) -> str | None:  # noqa: ANN401 - typer's own context, vendored or click's
    """The config file and the key there that the value of a field comes from; None if it comes from elsewhere."""
    return context.meta[ORIGINS][key] if _comes_from(context, key, "DEFAULT_MAP") else None


def _in_environment(context: Any, found: OptionField, word: str) -> str | None:  # noqa: ANN401 - as above
    """The value of a field if it comes from its environment variable."""
    variable = found.option.variable(word)
    return os.environ[variable] if variable and _comes_from(context, found.name, "ENVIRONMENT") else None


def _comes_from(context: Any, key: str, source: str) -> bool:  # noqa: ANN401 - as above
    """Whether the value of a field comes from a source that has this name in click."""
    found = context.get_parameter_source(key)
    return found is not None and found.name == source


def _parameter(found: OptionField, word: str, callback: Callable[..., Any] | None) -> inspect.Parameter:
    """One parameter as Typer wants it; ``word`` is the command's part of a variable's name."""
    option, default = found.option, found.default
    details: dict[str, Any] = {
        "help": option.help.replace("[", r"\["),
        "metavar": option.metavar,
        "rich_help_panel": option.panel,
    }
    if found.value_type is Path:
        details |= {
            "exists": option.exists and option.url is None,
            "file_okay": option.takes != "folder",
            "dir_okay": option.takes != "file",
            "allow_dash": option.dash,
        }
    if found.value_type in (int, float):
        details |= {"min": option.minimum, "max": option.maximum}
    if option.explain is not None:
        details["parser"] = _explaining(found)
    if option.completions is not None:
        names = [str(name) for name in option.completions]
        details["autocompletion"] = lambda: names
    if option.url is not None:
        details["callback"] = _checking(option)
    if callback is not None:
        details |= {"callback": callback, "is_eager": True}
    single: Any = found.value_type
    value_type: Any = list[single] if found.repeated or found.listed else single
    marker = (
        typer.Option(*option.flags.split(), envvar=option.variable(word), **details)
        if option.flags
        else typer.Argument(**details)
    )
    return inspect.Parameter(
        found.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is MISSING else default,
        annotation=Annotated[value_type if default is not None else value_type | None, marker],
    )


def _checking(option: Option) -> Callable[..., Path | None]:
    """Refuses a URL that is not taken, and a path to nothing where something must be there."""

    def check(context: typer.Context, parameter: typer.CallbackParam, value: Path | None) -> Path | None:
        fault = None
        try:
            is_url = value is not None and checked_url(value, written=option.url == "written") is not None
            if value is not None and option.exists and not is_url and not os.path.exists(value):
                kind = {"folder": "Directory", "file": "File", "any": "Path"}[option.takes]
                fault = f"{kind} {str(value)!r} does not exist."
        except InputError as error:
            fault = f"{error}; {error.hint}" if error.hint else str(error)
        if fault is not None:
            raise typer.BadParameter(fault, context, parameter)  # type: ignore[arg-type]  # it is one at run time
        return value

    return check


def _explaining(found: OptionField) -> Callable[[str], int]:
    """Reads a whole number, and says more of what is none than Typer does."""

    def read(text: str) -> int:
        try:
            value: int | str = int(text)
        except ValueError:
            value = text
        fault = found.number_fault(value, f"{found.option.flag} ")
        if isinstance(value, str) or fault is not None:
            raise typer.BadParameter(f"{text}, {fault}")
        return value

    return read
