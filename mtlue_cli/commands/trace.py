"""``mtlue trace``: evidence that a model was trained on a release."""

from collections.abc import Callable

from mtlue_cli.commands.from_config import Given, PhotoOptions, command_of
from mtlue_cli.workflows.trace.config import JudgeConfig, ProbesConfig

HELP = "Find out whether a model was trained on a release."


@command_of("trace-probes", ProbesConfig, PhotoOptions)
def probes(given: Given) -> None:
    """Make probe images from clean photos, with which to ask a model.

    [bold]Example:[/bold] mtlue trace probes clean --release photos-protected --out probes
    """
    raise NotImplementedError


@command_of("trace-judge", JudgeConfig, PhotoOptions)
def judge(given: Given) -> None:
    """Judge from a model's answers whether it was trained on the release.

    [bold]Example:[/bold] mtlue trace judge probes --answers predictions.csv
    """
    raise NotImplementedError


COMMANDS: dict[str, Callable[..., None]] = {"probes": probes, "judge": judge}
"""The commands of ``mtlue trace``, by name; each has the table ``[trace-NAME]`` in a config file."""
