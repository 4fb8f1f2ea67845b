"""``mtlue.trace``: the commands of ``mtlue trace`` as functions. Importing this module loads no torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlue_cli import api
from mtlue_cli.commands.from_config import PhotoOptions
from mtlue_cli.workflows.trace.config import CopyConfig

if TYPE_CHECKING:
    from mtlue_cli.workflows.trace.copy import CopyResult

COPY = api.Arguments("trace.copy", CopyConfig, PhotoOptions)


@COPY.shown_by
def copy(
    copies: str | Path,
    *,
    release: str | Path,
    progress: bool = False,
    **options: Any,  # noqa: ANN401 - fields of the config
) -> "CopyResult":
    """Measure what of the perturbation of a release is left in copies of its photos.

    Args:
        copies: A photo, or a folder of photos.
        release: The release that they were copied from.
        progress: Whether to show progress on standard error.
        options: Fields of :class:`~mtlue_cli.workflows.trace.config.CopyConfig`, such as ``against``, ``key``,
            ``least_share``; ``max_pixels``.

    Returns:
        The share of every copy and of all; ``result.exit_code`` says whether ``least_share`` is reached.

    Raises:
        InputError: There are no copies, it is no release, or originals, weights or key are missing.
        TypeError: An argument is unknown.
    """
    with COPY.boundary():
        values = COPY.values({**options, "copies": copies, "release": release})
        config = api.checked(api.config_of(CopyConfig, values))
        with api.photos(values):
            from mtlue_cli.workflows.shards import unpacked_release
            from mtlue_cli.workflows.trace.copy import trace_copy

            with unpacked_release(config.release) as plain:
                return trace_copy(config, api.progress_of(progress), plain)
