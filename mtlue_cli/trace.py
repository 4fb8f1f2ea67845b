"""``mtlue.trace``: the commands of ``mtlue trace`` as functions. Importing this module loads no torch."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import structs

from mtlue_cli.api import Arguments, checked, config_of, is_file, limits, progress_of, table_file
from mtlue_cli.budget import Budget
from mtlue_cli.workflows.trace.config import CopyConfig, JudgeConfig, ProbesConfig

if TYPE_CHECKING:
    from mtlue_cli.workflows.trace.copy import CopyResult
    from mtlue_cli.workflows.trace.judge import JudgeResult
    from mtlue_cli.workflows.trace.probes import ProbesResult

PROBES = Arguments("probes", ProbesConfig, Budget)
JUDGE = Arguments("judge", JudgeConfig, Budget)
COPY = Arguments("copy", CopyConfig, Budget)


@PROBES.shown_by
def probes(
    images: str | Path,
    *,
    release: str | Path,
    out: str | Path,
    progress: bool = False,
    **options: Any,  # noqa: ANN401 - fields of the config
) -> "ProbesResult":
    """Make probe images from clean photos, to ask a model about.

    Args:
        images: Folder of clean images.
        release: A release that holds codes of a key, as those of ``traceable`` and ``quick`` do.
        out: New folder for the probes; the sealed answers are written beside it.
        progress: Whether to show progress on standard error.
        options: Fields of :class:`~mtlue_cli.workflows.trace.config.ProbesConfig`, such as ``queries``, ``key``;
            ``max_pixels``.

    Raises:
        InputError: Something does not fit; nothing was written.
        TypeError: An argument is unknown.
    """
    with PROBES.boundary():
        values = PROBES.values({**options, "images": images, "release": release, "out": out})
        config = checked(config_of(ProbesConfig, values))
        with limits(values):
            from mtlue_cli.workflows.trace.probes import make_probes

            return make_probes(config, progress_of(progress))


@JUDGE.shown_by
def judge(
    probes: str | Path,
    *,
    answers: Any = None,  # noqa: ANN401 - a path or a table
    progress: bool = False,
    **options: Any,  # noqa: ANN401 - fields of the config
) -> "JudgeResult":
    """Judge from a model's answers to probes whether it was trained on the release.

    Args:
        probes: Folder made by :func:`probes`.
        answers: File, mapping of columns, pandas ``DataFrame`` or pyarrow ``Table`` with a file column, and per task a
            column of labels, or a column of scores per class; None: ask ``model``.
        progress: Whether to show progress on standard error.
        options: Fields of :class:`~mtlue_cli.workflows.trace.config.JudgeConfig`, such as ``model``, ``map``;
            ``max_pixels``.

    Returns:
        The result; its ``html()`` is the page of ``--report``.

    Raises:
        InputError: Probes, sealed answers and answers do not go together.
        TypeError: An argument is unknown.
    """
    given = nullcontext(answers) if is_file(answers) else table_file(answers, "answers")
    with JUDGE.boundary(), given as file:
        known = JUDGE.values({**options, "probes": probes} | ({} if file is None else {"answers": file}))
        config = checked(config_of(JudgeConfig, known))
        with limits(known):
            from mtlue_cli.workflows.trace.judge import judge_model

            result = judge_model(config, progress_of(progress))
    if is_file(answers):
        return result
    return structs.replace(result, answers="answers", answers_sha256="")  # the file of a table is gone


@COPY.shown_by
def copy(
    copies: str | Path,
    *,
    release: str | Path,
    progress: bool = False,
    **options: Any,  # noqa: ANN401 - fields of the config
) -> "CopyResult":
    """Measure how much of the perturbation of a release is left in copies of its photos.

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
        config = checked(config_of(CopyConfig, values))
        with limits(values):
            from mtlue_cli.workflows.shards import unpacked_release
            from mtlue_cli.workflows.trace.copy import trace_copy

            with unpacked_release(config.release) as plain:
                return trace_copy(config, progress_of(progress), plain)
