"""``mtlue verify``: train victims, and say whether the protection holds."""

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from mtlue_cli.budget import Budget
from mtlue_cli.choices import ExitCode
from mtlue_cli.commands.console import check_target
from mtlue_cli.commands.decoders import reading_photos
from mtlue_cli.commands.from_config import Given, command_of
from mtlue_cli.commands.verify_tables import show_dry_run, show_verification
from mtlue_cli.errors import MtlueError
from mtlue_cli.options import OUTPUT, Option, launched_as
from mtlue_cli.workflows.verify.config import VerifyConfig, check_options


@dataclass(frozen=True)
class ReportOptions:
    """What ``verify`` writes.

    Attributes:
        dry_run: Print the conditions and an estimate of the time, then exit. Trains nothing.
        junit: Write a JUnit report to FILE, with one case per task and condition.
        markdown: Write a summary in Markdown to FILE.
        report: Write a self-contained HTML page to FILE.
        no_cache: Train every victim again; neither read nor write the cache.
    """

    dry_run: Annotated[bool, Option(panel=OUTPUT)] = False
    junit: Annotated[Path | None, Option(panel=OUTPUT, metavar="FILE", takes="file", result=True)] = None
    markdown: Annotated[Path | None, Option(panel=OUTPUT, metavar="FILE", takes="file", result=True)] = None
    report: Annotated[Path | None, Option(panel=OUTPUT, metavar="FILE.html", takes="file", result=True)] = None
    no_cache: Annotated[bool, Option(panel=OUTPUT)] = False


@command_of("verify", VerifyConfig, ReportOptions, Budget, without=("split",))
def verify(given: Given) -> None:
    """Audit a release, train victims on it, and measure what they learn.

    A victim is a network that learns from the release as an attacker would. The release passes if no condition that is
    run (a victim and what it does to the images) learns more than --max-learned. Finished victims are cached, so an
    interrupted run continues.

    Exit code 0: the protection holds; 4: it does not; 5: nothing can be concluded.

    [bold]Example:[/bold] mtlue verify photos --labels labels.csv --protected photos-protected
    """
    given = given.of_main_process()
    terminal, reports = given.terminal, given.build(ReportOptions)
    for option, target in (("--junit", reports.junit), ("--markdown", reports.markdown), ("--report", reports.report)):
        if target is not None:
            check_target(option, target)
    command_line = shlex.join(["mtlue", *sys.argv[1:]])
    config = given.build(VerifyConfig, labels=given.labels(given.values["clean"]), command_line=command_line)

    from mtlue_cli.generator.shipped import resolve_weights
    from mtlue_cli.images.labelled import read_folder_labels
    from mtlue_cli.verification.result_cache import default_cache_folder
    from mtlue_cli.workflows.shards import unpacked_images, unpacked_release

    config = config.with_test_labels()
    config = replace(config, cache=None if reports.no_cache else config.cache or default_cache_folder())
    check_options(config)
    engine = None
    if launched_as()[1] > 1:
        from mtlue_cli.devices import launched_processes
        from mtlue_cli.engines.launched import LaunchedEngine, follow

        processes = given.within(launched_processes(config.device))
        if not processes.is_main:
            follow(processes)
            return
        engine = given.within(LaunchedEngine(processes))
    images, table, reading = given.within(unpacked_images(config.clean, config.labels, config.reading))
    released = given.within(unpacked_release(config.protected))
    config = replace(config, clean=images, labels=table, reading=reading, protected=released)
    with reading_photos():  # what may be wrong is looked at before torch is loaded
        labels = read_folder_labels(config.clean, config.labels, config.reading, for_learning=False)
    if config.weights is not None:
        resolve_weights(config.weights, labels.table.tasks)
    if reports.dry_run:
        from mtlue_cli.workflows.verify.dry_run import dry_run

        with reading_photos():
            planned = dry_run(config, terminal.progress, labels)
        show_dry_run(terminal, planned)
        terminal.write_json(planned.to_json())
        return

    from mtlue_cli.verification.reports.junit import write_junit
    from mtlue_cli.verification.reports.markdown import write_markdown
    from mtlue_cli.workflows.verify.run import verify_release

    with reading_photos():
        result = verify_release(config, terminal.progress, labels, engine)
    show_verification(terminal, result)
    writers: list[Callable[[], None]] = [lambda: terminal.write_json(result.to_json())]
    if (junit := reports.junit) is not None:
        writers.append(lambda: terminal.write_file("--junit", junit, write_junit(result)))
    if (markdown := reports.markdown) is not None:
        writers.append(lambda: terminal.write_file("--markdown", markdown, write_markdown(result).encode()))
    if (report := reports.report) is not None:
        writers.append(lambda: terminal.write_file("--report", report, result.html().encode()))
    faults: list[str] = []
    for write in writers:  # also after one that fails
        try:
            write()
        except MtlueError as error:
            faults.append(str(error))
    if faults:
        raise MtlueError("; ".join(faults))
    if result.exit_code is not ExitCode.SUCCESS:
        raise typer.Exit(result.exit_code)
