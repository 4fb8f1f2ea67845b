"""Pretrained backbones for victims that do not start from scratch."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version

import torch

from mtlue_cli import __version__
from mtlue_cli.choices import BackboneName
from mtlue_cli.errors import InputError
from mtlue_cli.images.dataset import load_labels
from mtlue_cli.images.folder import match_labels
from mtlue_cli.images.labelled import read_folder_labels
from mtlue_cli.networks.multitask import MultiTaskNetwork
from mtlue_cli.tasks.label_tensors import with_spans
from mtlue_cli.training.multitask_loop import EpochRecord, LearningSettings, train_multitask
from mtlue_cli.training.named_settings import combined
from mtlue_cli.training.pretrained import TIMM_PREFIX, PretrainedStart, load_start, read_start, save_start
from mtlue_cli.training.runtime import choose_precision, data_digest
from mtlue_cli.verification.experiment import PACKAGES
from mtlue_cli.verification.result_cache import ResultCache, document_digest
from mtlue_cli.verification.split import Side
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.verify.config import VerifyConfig
from mtlue_cli.workflows.verify.images import load_images, refuse_judged
from mtlue_cli.workflows.verify.plan import VerifyPlan


def backbones_to_start(plan: VerifyPlan) -> tuple[BackboneName, ...]:
    """The backbones of the plan that some victim does not train from scratch, each once."""
    return tuple(dict.fromkeys(victim.backbone for victim in plan.victims if victim.method.needs_start))


def read_starts(config: VerifyConfig, plan: VerifyPlan, *, fetch: bool = True) -> dict[BackboneName, PretrainedStart]:
    """Open what ``--start`` names, for every backbone of the plan that needs it.

    Without it, packaged backbones start from their packaged weights, and the others have no start. Weights of timm,
    which it may have to download, are left out unless ``fetch``.

    Raises:
        InputError: It cannot be read, or is of another architecture than one of the backbones; lists all.
    """
    if config.pretrain_images is not None or ((config.start or "").startswith(TIMM_PREFIX) and not fetch):
        return {}
    starts: dict[BackboneName, PretrainedStart] = {}
    faults: list[InputError] = []
    for backbone in backbones_to_start(plan):
        try:
            starts[backbone] = read_start(config.start or backbone, backbone)
        except InputError as error:
            faults.append(error)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        given = "their own start" if config.start is None else f"--start {config.start}"
        raise combined(f"not every backbone can begin with {given}", faults)
    return starts


def train_starts(
    config: VerifyConfig,
    plan: VerifyPlan,
    settings: LearningSettings,
    judged: Sequence[Side],
    device: torch.device,
    cache: ResultCache,
    progress: Progress,
) -> dict[BackboneName, PretrainedStart]:
    """Train each backbone that some victim starts from on the other clean images that the user named, if any.

    Starts are kept in ``cache``, with finished victims. None may have seen ``judged``, the images of the verification.

    Raises:
        InputError: The training images of a start are the judged ones, or cannot be read.
    """
    backbones, folder, labels = backbones_to_start(plan), config.pretrain_images, config.pretrain_labels
    if folder is None or labels is None:
        return {}
    given = read_folder_labels(folder, labels, config.whole_reading)
    table = given.table.recoded(given.usual_tasks)
    match_labels(folder, table)
    refuse_judged(folder, table.file_names, judged, config.protected)
    images = load_images(folder, table.file_names, "images for the start", config, progress)
    columns = load_labels(table, config.side, workers=config.workers)
    tasks = with_spans(table.tasks, columns)
    starts: dict[BackboneName, PretrainedStart] = {}
    for backbone in backbones:
        own = replace(settings, backbone=backbone)
        settled = {
            "data": data_digest(images, columns),
            "settings": asdict(own),
            "device": device.type,
            "arithmetic": str(choose_precision(own.precision, device)),
            "versions": {"mtlue": __version__, **{package: version(package) for package in PACKAGES}},
        }
        kept = cache.file(f"start-{document_digest(settled)}.safetensors")
        if kept is not None and cache.is_vouched(kept):
            starts[backbone] = load_start(kept, backbone)
            progress.note(f"start for {backbone.value}: trained earlier, taken from the cache")
            continue
        progress.start(f"start for {backbone.value}", settings.epochs * len(images))

        def on_epoch(record: EpochRecord, _: MultiTaskNetwork) -> None:
            progress.advance(0, {"loss": record.loss})

        trained = train_multitask(images, columns, tasks, own, device, progress.advance, on_epoch)
        source = f"a {backbone.value} trained on {len(images)} other images"
        starts[backbone] = PretrainedStart(backbone, trained.backbone.state_dict(), source)
        progress.finish()
        if kept is not None:
            save_start(kept, starts[backbone])
            cache.vouch(kept)
    return starts
