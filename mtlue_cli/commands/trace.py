"""``mtlue trace``: evidence that a model was trained on a release, and what of it is left in copies."""

from collections.abc import Callable

from mtlue_cli.commands.from_config import Given, PhotoOptions, command_of
from mtlue_cli.commands.trace_copy import CopyReport, show_copies
from mtlue_cli.workflows.trace.config import CopyConfig, JudgeConfig, ProbesConfig

HELP = "Find out whether a model was trained on a release, and whether copies of it still protect."


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


@command_of("trace-copy", CopyConfig, CopyReport, PhotoOptions)
def copy(given: Given) -> None:
    """Measure what of the perturbation is left in copies of released photos.

    Copies are matched by their bytes, their names or their pictures, and may be scaled, cropped, turned, mirrored and
    recompressed. Exit code 3: some copies could not be measured; 4: less than --least-share is left; 5: none could be
    measured.

    [bold]Example:[/bold] mtlue trace copy downloaded --release photos-protected --against photos
    """
    show_copies(given)


COMMANDS: dict[str, Callable[..., None]] = {"probes": probes, "judge": judge, "copy": copy}
"""The commands of ``mtlue trace``, by name; each has the table ``[trace-NAME]`` in a config file."""
