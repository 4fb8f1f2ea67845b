"""``mtlue verify``: train victims, and say whether the protection holds."""

import shlex
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import typer

from mtlue_cli.choices import MAX_PIXELS, ExitCode, MetricName
from mtlue_cli.commands.console import Terminal, check_target
from mtlue_cli.commands.label_options import (
    BinsOption,
    FileColumnOption,
    KindsOption,
    LabelFormatOption,
    LabelsOption,
    MissingValuesOption,
    SplitFileOption,
    label_options,
)
from mtlue_cli.commands.options import (
    DeviceOption,
    ImagesArgument,
    JsonOption,
    KeyOption,
    LearningRateOption,
    LimitOption,
    MaxPixelsOption,
    QuietOption,
    SeedOption,
    WorkersOption,
    threads,
)
from mtlue_cli.commands.verify_options import (
    BackbonesOption,
    CacheOption,
    ControlOption,
    CountermeasuresOption,
    DryRunOption,
    EpochsOption,
    FractionsOption,
    GeneratorOption,
    JunitOption,
    LearnersOption,
    MarkdownOption,
    MaxLearnedOption,
    MethodsOption,
    MetricOption,
    NoCacheOption,
    PretrainImagesOption,
    PretrainLabelsOption,
    ProbesOption,
    ProtectedOption,
    ReportOption,
    SeedsOption,
    SizeOption,
    StartOption,
    TestFractionOption,
    TestLabelsOption,
    TestOption,
    TierOption,
    VictimBatchOption,
    WeightingsOption,
)
from mtlue_cli.commands.verify_tables import show_dry_run, show_verification
from mtlue_cli.errors import MtlueError

OptionT = TypeVar("OptionT")


def verify(
    images: ImagesArgument,
    labels: LabelsOption = None,
    protected: ProtectedOption = None,
    weights: GeneratorOption = None,
    key: KeyOption = None,
    test: TestOption = None,
    test_labels: TestLabelsOption = None,
    test_fraction: TestFractionOption = 0.2,
    label_format: LabelFormatOption = None,
    file_column: FileColumnOption = None,
    missing_value: MissingValuesOption = None,
    bins: BinsOption = None,
    kinds: KindsOption = None,
    split_file: SplitFileOption = None,
    limit: LimitOption = None,
    tier: TierOption = None,
    backbone: BackbonesOption = None,
    learner: LearnersOption = None,
    weighting: WeightingsOption = None,
    method: MethodsOption = None,
    countermeasure: CountermeasuresOption = None,
    protected_fraction: FractionsOption = None,
    start: StartOption = None,
    pretrain_images: PretrainImagesOption = None,
    pretrain_labels: PretrainLabelsOption = None,
    control: ControlOption = True,
    probes: ProbesOption = True,
    epochs: EpochsOption = None,
    size: SizeOption = 64,
    batch_size: VictimBatchOption = None,
    learning_rate: LearningRateOption = 1e-3,
    seeds: SeedsOption = 1,
    metric: MetricOption = MetricName.ACCURACY,
    max_learned: MaxLearnedOption = 0.25,
    dry_run: DryRunOption = False,
    junit: JunitOption = None,
    markdown: MarkdownOption = None,
    report: ReportOption = None,
    cache: CacheOption = None,
    no_cache: NoCacheOption = False,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    max_pixels: MaxPixelsOption = MAX_PIXELS,
    quiet: QuietOption = False,
    json_target: JsonOption = None,
) -> None:
    """Show that a model trained on a release learns nothing: audit it, train victims, compare.

    The gate is the worst of all conditions that are run. Exit code 0: the protection holds; 4: it does not; 5: the
    measurement tells nothing. Finished victims are kept, so that an interrupted run goes on.

    [bold]Example:[/bold] mtlue verify photos --labels labels.csv --protected photos-protected
    """
    terminal = Terminal(quiet, json_target)
    for option, target in (("--junit", junit), ("--markdown", markdown), ("--report", report)):
        if target is not None:
            check_target(option, target)

    from mtlue_cli.images.labelled import find_labels
    from mtlue_cli.verification.result_cache import default_cache_folder
    from mtlue_cli.workflows.verify_settings import VerifyConfig

    config = VerifyConfig(
        clean=images,
        labels=labels or find_labels(images, label_format),
        protected=protected,
        weights=weights,
        key=key,
        test=test,
        test_labels=test_labels,
        test_fraction=test_fraction,
        reading=label_options(label_format, file_column, missing_value, bins, split_file, kinds=kinds),
        tier=tier,
        backbones=_given(backbone),
        learners=_given(learner),
        weightings=_given(weighting),
        methods=_given(method),
        countermeasures=_given(countermeasure),
        fractions=_given(protected_fraction),
        start=start,
        pretrain_images=pretrain_images,
        pretrain_labels=pretrain_labels,
        epochs=epochs,
        size=size,
        batch_size=batch_size,
        learning_rate=learning_rate,
        metric=metric,
        max_learned=max_learned,
        control=control,
        probes=probes,
        seeds=seeds,
        cache=None if no_cache else cache or default_cache_folder(),
        limit=limit,
        seed=seed,
        device=device,
        workers=threads(workers),
        command_line=shlex.join(["mtlue", *sys.argv[1:]]),
    )
    from mtlue_cli.images.reading import photos_up_to

    if dry_run:
        from mtlue_cli.workflows.verify_dry_run import dry_run as plan_only

        with photos_up_to(max_pixels):
            planned = plan_only(config, terminal.progress)
        show_dry_run(terminal, planned)
        terminal.write_json(planned.to_json())
        return

    from mtlue_cli.verification.reports.html import draw_samples, write_html
    from mtlue_cli.verification.reports.junit import write_junit
    from mtlue_cli.verification.reports.markdown import write_markdown
    from mtlue_cli.workflows.verify import verify_release

    with photos_up_to(max_pixels):
        result = verify_release(config, terminal.progress)
    show_verification(terminal, result)
    document = result.to_json()
    writers: dict[str, Callable[[], None]] = {"--json": lambda: terminal.write_json(document)}
    if junit is not None:
        writers["--junit"] = lambda: terminal.write_file("--junit", junit, write_junit(document))
    if markdown is not None:
        writers["--markdown"] = lambda: terminal.write_file("--markdown", markdown, write_markdown(document).encode())
    if report is not None:
        page = write_html(document, draw_samples(*result.samples, maps=result.sample_maps))
        writers["--report"] = lambda: terminal.write_file("--report", report, page.encode())
    write_all(list(writers.values()))
    if result.exit_code is not ExitCode.SUCCESS:
        raise typer.Exit(result.exit_code)


def write_all(writers: Sequence[Callable[[], None]]) -> None:
    """Write every result file, also after one that fails.

    Raises:
        MtlueError: Names all that could not be written.
    """
    faults: list[str] = []
    for write in writers:
        try:
            write()
        except MtlueError as error:
            faults.append(str(error))
    if faults:
        raise MtlueError("; ".join(faults))


def _given(values: Sequence[OptionT] | None) -> tuple[OptionT, ...] | None:
    """An option that may be repeated: None unless it was given."""
    return tuple(values) if values else None
