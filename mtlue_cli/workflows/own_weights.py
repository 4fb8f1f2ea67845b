"""The weights of the plain ``protect`` command: trained on the user's own images, kept in private, found again."""

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from platformdirs import user_data_path

from mtlue_cli.choices import TRAIN_MINUTES
from mtlue_cli.errors import CheckpointError, InputError, MtlueError
from mtlue_cli.files import unwritable
from mtlue_cli.generator.checkpoint import CheckpointCard, read_card
from mtlue_cli.generator.shipped import DEFAULT, SUFFIX, shipped_weights
from mtlue_cli.manifest import is_release, read_run
from mtlue_cli.tasks.spec import LabelTable, TaskSet
from mtlue_cli.tasks.wording import quoted
from mtlue_cli.training.runtime import choose_device, describe_device
from mtlue_cli.workflows.keyed import codable
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.protect_plan import ProtectConfig, read_inputs, select_tasks
from mtlue_cli.workflows.train_generator import TrainConfig, train_generator

FEWEST_IMAGES = 500
"""With fewer images the closed form protects better than training (docs/research/few-images.md)."""

MOST_IMAGES = 50_000
"""Training takes at most so many images, spread evenly over the rows: it keeps them in memory."""

USEFUL_STEPS = 800
"""Generator steps from which training was measured to protect (docs/research/luminance.md)."""

MOST_STEPS = 6000
"""Steps after which training ends even if there is time left, as on a GPU."""

QUICK_WARNING = (
    "the closed form stops plain training only: turning the images grey undoes it, and so does orthogonal projection "
    "(learned 0.97 and 0.69 of what clean images teach)"
)


def weights_store() -> Path:
    """Where trained weights are kept: ``mtlue/weights`` in the user's data folder (``XDG_DATA_HOME``)."""
    return user_data_path("mtlue", appauthor=False) / "weights"


def with_weights(config: ProtectConfig, progress: Progress) -> ProtectConfig:
    """The configuration with its weights named: those of ``--weights``, the closed form, or trained ones.

    Trained weights lie in :func:`weights_store`, named after the folder and its tasks. The next run finds them, goes on
    with an unfinished training, and protects new images with the same weights. A release that exists decides first.

    Raises:
        InputError: Options, labels, files and output folder do not go together; nothing was written.
        MtlueError: The weights cannot be kept.
    """
    if config.weights is not None:
        return config
    inputs = read_inputs(config)
    if config.quick:
        progress.note(f"--quick: {QUICK_WARNING}")
        return replace(config, weights=DEFAULT, quick=False)
    columns = inputs.labels.table.tasks
    tasks = select_tasks(codable(columns, config.tasks).tasks, config.tasks, config.exclude, columns)
    wanted = _Wanted(config, tasks, columns, labelled_images(inputs.labels.table, tasks), progress)
    return replace(config, weights=wanted.named_by_release() or wanted.kept() or wanted.made(), train_minutes=None)


def labelled_images(table: LabelTable, tasks: TaskSet) -> int:
    """Number of rows that have a label of any of ``tasks``."""
    known = np.zeros(len(table), dtype=bool)
    for task in tasks:
        if task.is_dense:
            known |= np.array([name is not None for name in table.maps[task.name]])
        else:
            known |= table.columns[task.name] >= 0
    return int(known.sum())


@dataclass(frozen=True)
class _Wanted:
    """The weights that one run needs.

    Attributes:
        config: What the user asks for.
        tasks: What is protected.
        columns: All label columns.
        images: Number of images with a label.
        progress: Told what happens.
    """

    config: ProtectConfig
    tasks: TaskSet
    columns: TaskSet
    images: int
    progress: Progress

    @property
    def path(self) -> Path:
        """Where the weights for this folder and these tasks are kept."""
        folder = self.config.images.resolve()
        identity = "\0".join((str(folder), *sorted(self.tasks.names)))
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.name).strip(".-")[:40] or "images"
        return weights_store() / f"{stem}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}{SUFFIX}"

    def named_by_release(self) -> str | None:
        """The weights that the output folder was made with; None if it holds no release, or one to be replaced.

        Raises:
            InputError: It was made with weights that are not kept here.
        """
        release = self.config.release
        if self.config.overwrite or not is_release(release):
            return None
        run = read_run(release)
        default = shipped_weights().get(DEFAULT)
        if default is not None and read_card(default).digest == run.weights_sha256:
            self.progress.note(
                f"{release} was made with the closed form, which this run continues; {QUICK_WARNING}; "
                "--overwrite trains weights and protects all images again"
            )
            return DEFAULT
        for path in sorted(weights_store().glob(f"*{SUFFIX}")):
            card = _card(path)
            if card is not None and card.digest == run.weights_sha256:
                return self._checked(path, card)
        raise InputError(
            f"{release} was made with the weights {run.weights_name}, which are not in {weights_store()}",
            hint="name them with --weights, give another folder with --out, or replace the release with --overwrite",
        )

    def kept(self) -> str | None:
        """The weights that an earlier run trained for this folder; None if there are none, or they are to be replaced.

        Raises:
            InputError: They do not know all labels.
        """
        card = _card(self.path)
        if card is None or (self.config.overwrite and self.config.train_minutes is not None):
            return None
        if self.config.overwrite and card.tasks.unmet_by(self.columns):
            return None
        return self._checked(self.path, card)

    def made(self) -> str:
        """Train weights, or take the closed form where there are too few images.

        Raises:
            InputError: As :func:`~mtlue_cli.workflows.train_generator.train_generator`.
            MtlueError: The weights cannot be kept.
        """
        config, path, note = self.config, self.path, self.progress.note
        if self.images < FEWEST_IMAGES and config.train_minutes is None:
            note(
                f"{self.images} labelled images are too few to train weights (fewer than {FEWEST_IMAGES}): taking the "
                f"closed form; {QUICK_WARNING}; --train MINUTES trains all the same"
            )
            return DEFAULT
        minutes = TRAIN_MINUTES if config.train_minutes is None else config.train_minutes
        device = choose_device(config.device)
        used = f"{self.images:,} images" + (f" ({MOST_IMAGES:,} of them)" if self.images > MOST_IMAGES else "")
        note(
            f"training weights for these {used}: about {minutes:g} minutes on {describe_device(device)}; "
            "--train MINUTES changes that, --quick skips it"
        )
        training = TrainConfig(
            images=config.images,
            labels=config.labels,
            out=path,
            reading=config.reading,
            tasks=self.tasks.names,
            epsilon=8 if config.epsilon is None else config.epsilon,
            max_minutes=minutes,
            max_steps=MOST_STEPS,
            device=config.device,
            overwrite=True,
            workers=config.workers,
            most_images=MOST_IMAGES,
            private=True,
        )
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with FileLock(path.with_name(f"{path.name}.lock"), timeout=0):
                result = train_generator(training, self.progress)
        except Timeout:
            raise InputError(f"another run is training {path}", hint="wait until it has ended") from None
        except OSError as error:
            raise MtlueError(unwritable(Path(error.filename or path), error)) from error
        note(f"weights kept in {path}: keep them to yourself, whoever has them can undo the protection")
        self._warn_if_short(result.card)
        return str(path)

    def _checked(self, path: Path, card: CheckpointCard) -> str:
        """The weights, if they know all labels."""
        unmet = card.tasks.subset(name for name in card.tasks.names if name in self.tasks).unmet_by(self.columns)
        unmet += [f"column {quoted(name)} is not known" for name in self.tasks.names if name not in card.tasks]
        if unmet:
            raise InputError(
                f"the weights that were trained for {self.config.images} do not know all labels",
                unmet,
                "--overwrite trains new weights and protects all images again",
            )
        self.progress.note(f"weights from an earlier run: {path}")
        if self.config.train_minutes is not None:
            self.progress.note("--train has no effect on weights that are there; with --overwrite it trains new ones")
        self._warn_if_short(card)
        return str(path)

    def _warn_if_short(self, card: CheckpointCard) -> None:
        steps, follows = card.settings.get("steps"), card.settings.get("follows")
        if isinstance(steps, int) and steps < USEFUL_STEPS:
            share = f", its surrogate follows {follows:.0%} of the shifted labels" if isinstance(follows, float) else ""
            self.progress.note(
                f"training was short: {steps} steps{share}. Runs that protected took at least {USEFUL_STEPS} steps. "
                "Check the release with mtlue verify, or train longer with --train MINUTES --overwrite"
            )


def _card(path: Path) -> CheckpointCard | None:
    try:
        return read_card(path) if path.is_file() else None
    except CheckpointError:
        return None
