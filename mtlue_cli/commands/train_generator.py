"""``mtlue train-generator``: learn a perturbation generator for the label columns of a folder."""

import shlex
from dataclasses import replace

from rich.table import Table

from mtlue_cli.budget import Budget
from mtlue_cli.choices import TRAIN_MINUTES, USEFUL_STEPS, ObjectiveName
from mtlue_cli.commands.console import duration
from mtlue_cli.commands.decoders import reading_photos
from mtlue_cli.commands.from_config import Given, command_of
from mtlue_cli.workflows.train.config import TrainConfig, check_usage, trained_through_grey


@command_of("train-generator", TrainConfig, Budget)
def train_generator(given: Given) -> None:
    """Train a perturbation generator on a folder of labelled images.

    protect takes the result as --weights. After Ctrl-C, the same command continues where it stopped.

    [bold]Example:[/bold] mtlue train-generator photos --labels labels.csv --out photos.safetensors
    """
    given = given.of_main_process()
    config = given.build(TrainConfig, labels=given.labels(given.values["images"]))
    config.reading.refuse_lone_split()
    if config.epochs is None and config.max_minutes is None:
        config = replace(config, max_minutes=TRAIN_MINUTES)

    check_usage(config)

    from mtlue_cli.generator.shipped import find_weights
    from mtlue_cli.images.labelled import read_folder_labels
    from mtlue_cli.workflows.shards import unpacked_images

    given_images, given_labels, reading_given = config.images, config.labels, config.reading
    images, table, reading = given.within(unpacked_images(config.images, config.labels, config.reading))
    config = replace(config, images=images, labels=table, reading=reading)
    with reading_photos():  # what may be wrong is looked at before torch is loaded
        labels = read_folder_labels(config.images, config.labels, config.reading, learned=config.named_columns)
    if config.start is not None:
        find_weights(config.start)

    from mtlue_cli.devices import launched_processes
    from mtlue_cli.workflows.train.generator import train_generator as run

    processes = given.within(launched_processes(config.device))
    with reading_photos():
        result = run(config, given.terminal.progress, labels, processes)
    table = Table("generator", str(result.checkpoint))
    for name, value in (result.rows() | {"steps": f"{result.steps} in {duration(result.seconds)}"}).items():
        table.add_row(name, value)
    given.terminal.show(table)
    measured = config.objective is ObjectiveName.TAP and trained_through_grey(result.card)
    if measured and result.steps < USEFUL_STEPS:
        given.terminal.say(
            f"warning: training was short: {result.steps} steps. Runs that were measured to protect took at least "
            f"{USEFUL_STEPS}. Train longer with --max-minutes or --epochs"
        )
    words = [str(given_images), *reading_given.arguments(given_labels), "--weights", str(config.out)]
    given.terminal.say(f"next: {shlex.join(['mtlue', 'protect', *words])}")
    given.terminal.write_json(result.to_json())
