"""The weights of the plain ``protect`` command: trained on the user's own images, kept in private, found again."""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_data_path

from mtlue_cli.choices import FEW_TASKS, FEWEST_IMAGES, TRAIN_MINUTES, USEFUL_STEPS, Visibility
from mtlue_cli.errors import CheckpointError, InputError, MtlueError
from mtlue_cli.files import shown, unwritable
from mtlue_cli.generator.checkpoint import CheckpointCard, read_card
from mtlue_cli.generator.shipped import DEFAULT, SUFFIX, shipped_weights
from mtlue_cli.tasks.classes import unfit
from mtlue_cli.tasks.overview import ColumnUse, column_uses
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.tasks.wording import counted, quoted
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.keyed import without
from mtlue_cli.workflows.protect.plan import (
    ProtectInputs,
    Weights,
    named_weights,
    reasons_against,
    refuse_spellings,
    select_tasks,
)
from mtlue_cli.workflows.train.config import (
    SURROGATE_BATCH,
    SURROGATE_EPOCHS,
    TrainConfig,
    state_folder,
    trained_through_grey,
)

MOST_IMAGES = 50_000
"""Training takes at most so many images, spread evenly over the rows: it keeps them in memory."""

LEAST_STEPS = 500
"""Weights of fewer generator steps are not used: victims learned 0.92 of 500 faces after 265, 0.05 of 800 X-rays
(docs/results.md)."""

MOST_STEPS = 6000
"""Steps after which training ends even if there is time left, as on a GPU."""

SURROGATE_STEPS = 192
"""Least steps of a surrogate, in at most :data:`MOST_SURROGATE_EPOCHS`."""

MOST_SURROGATE_EPOCHS = 24
"""Most passes over few images: what was measured with 500 faces, against ``small`` alone and without a companion
(docs/results.md)."""

QUICK_WARNING = (
    "the ready-made patterns of --quick stop plain training only: turning the images grey undoes them, and so does "
    "orthogonal projection; JPEG at quality 10 weakens them (victims learned 0.97, 0.78 and 0.37 of what clean images "
    "teach)"
)

COLOUR_WARNING = (
    f"weights for more than {FEW_TASKS} columns, or for labels of every pixel, are trained without the distortions "
    "that attackers apply: turning the images grey removes the protection (victims learned 0.91 of what clean images "
    "teach for 40 columns, 0.95 for masks). Check the release with mtlue verify"
)


def weights_store() -> Path:
    """Where trained weights are kept: ``mtlue/weights`` in the user's data folder (``XDG_DATA_HOME``)."""
    return user_data_path("mtlue", appauthor=False) / "weights"


@contextmanager
def _store_faults() -> Iterator[None]:
    """Within it a store that cannot be used is reported with what to do."""
    try:
        yield
    except OSError as error:
        raise MtlueError(unwritable(Path(error.filename or weights_store()), error)) from error


def find_weights(config: ProtectConfig, inputs: ProtectInputs, progress: Progress) -> "Weights | OwnWeights":
    """The weights of a run: those of ``--weights``, ready-made patterns, or trained ones; trains and writes nothing.

    Trained weights lie in :func:`weights_store`, named after the folder and its tasks; none are ever replaced. The next
    run finds the latest, continues an unfinished training, and protects new images with the same weights. A release
    that exists decides first.

    Returns:
        The weights, or what trains them where there are none.

    Raises:
        InputError: Labels, weights and output folder do not go together.
        MtlueError: The store cannot be read.
    """
    if config.weights is not None:
        named = named_weights(config, inputs, config.weights)
        longer = "train them for longer with mtlue train-generator"
        return replace(named, warnings=_short_training(named.card, longer)) if _steps(named.card) else named
    if config.quick:
        return _ready_made(config, inputs)
    columns = inputs.labels.table.tasks
    left_out = inputs.left_out_columns(overwrite=config.overwrite)
    # Several spellings of a class are for training to refuse.
    reasons = {task.name: reason for task in columns if (reason := unfit(task)) is not None}
    fit = without(columns, reasons, config.tasks, left_out)
    tasks = select_tasks(fit.tasks, config.tasks, config.exclude, columns)
    refuse_spellings(tasks, inputs, overwrite=config.overwrite)
    uses = column_uses(inputs.labels, tasks.names, reasons_against(config, columns, fit.unfit))
    wanted = OwnWeights(config, inputs, tasks, int(inputs.labels.table.labelled(tasks).sum()), uses, progress)
    with _store_faults():
        return wanted.of_release() or wanted.kept() or wanted.too_few() or wanted


def _ready_made(config: ProtectConfig, inputs: ProtectInputs) -> Weights:
    if config.visibility is not None:
        raise InputError(
            "ready-made patterns, which this run would use, have no --visibility",
            hint="--train MINUTES trains weights, also on few images; without --visibility the patterns are taken",
        )
    return replace(named_weights(config, inputs, DEFAULT), ready_made=True, warnings=(QUICK_WARNING,))


@dataclass(frozen=True)
class OwnWeights:
    """The weights that one run needs, before they are found or trained.

    Attributes:
        config: What the user asks for.
        inputs: Labels, and the release that is in the output folder.
        tasks: What is protected.
        images: Number of images with a label.
        columns: What becomes of each column.
        progress: Shows what happens.
    """

    config: ProtectConfig
    inputs: ProtectInputs
    tasks: TaskSet
    images: int
    columns: tuple[ColumnUse, ...]
    progress: Progress

    @property
    def stem(self) -> str:
        """How the names of all weights for this folder and these tasks begin."""
        folder = self.config.images.resolve()
        identity = b"\0".join((os.fsencode(shown(str(folder))), *(name.encode() for name in sorted(self.tasks.names))))
        stem = re.sub(r"[^\w.-]+", "-", folder.name.encode(errors="replace").decode()).strip(".-")[:40] or "images"
        return f"{stem}-{hashlib.sha256(identity).hexdigest()[:12]}"

    @property
    def retrains(self) -> bool:
        """Whether the user asks for new weights in place of those that are there."""
        return self.config.overwrite and self.config.train_minutes is not None

    def of_release(self) -> Weights | None:
        """The weights that the output folder was made with; None if it holds no release, or one to be replaced.

        A release that an interrupted run left unfinished is continued even by a run that replaces releases.

        Raises:
            InputError: It was made with weights that are not kept here.
        """
        release, run = self.config.release, self.inputs.earlier
        if run is None:
            return None
        if self.config.overwrite and (run.complete or not self.retrains):
            return None
        default = shipped_weights().get(DEFAULT)
        if default is not None and read_card(default).digest == run.weights_sha256:
            if self.config.overwrite:
                return None
            self.progress.note(
                f"{release} was made with ready-made patterns, and this run continues it; "
                "--train MINUTES --overwrite trains weights and protects all images again"
            )
            return _ready_made(self.config, self.inputs)
        unreadable: list[str] = []
        for path in sorted(weights_store().glob(f"*{SUFFIX}")):
            try:
                card = read_card(path)
            except CheckpointError as error:
                unreadable.append(str(error))
                continue
            if card.digest == run.weights_sha256:
                return self._checked(path, card)
        if self.config.overwrite:
            return None
        raise InputError(
            f"{release} was made with the weights {run.weights_name}, which are not in {weights_store()}",
            unreadable,
            "name them with --weights, give another folder with --out, or replace the release with --overwrite",
        )

    def kept(self) -> Weights | None:
        """The latest weights that a run trained for this folder; None if there are none, or new ones are asked for.

        Raises:
            InputError: They cannot be read, or do not know all of the labels.
        """
        found = self._latest()
        if found is None or self.retrains:
            return None
        card = read_card(found)
        if self.config.overwrite and self._unmet(card):
            return None
        return self._checked(found, card)

    def too_few(self) -> Weights | None:
        """Ready-made patterns where there are too few images; None where weights are to be trained.

        Raises:
            InputError: The output cannot be written.
        """
        self._refuse_unwritable()
        if self.images >= FEWEST_IMAGES or self.config.train_minutes is not None or self._unfinished():
            return None
        few = f"{counted(self.images, 'labelled image')}, too few to train weights (fewer than {FEWEST_IMAGES})"
        self.progress.note(f"{few}: using ready-made patterns; --train MINUTES trains anyway")
        return _ready_made(self.config, self.inputs)

    @property
    def minutes(self) -> float:
        """Time limit of the training."""
        return TRAIN_MINUTES if self.config.train_minutes is None else self.config.train_minutes

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user must know of the weights before they are trained."""
        return () if self.tasks.few_labels else (COLOUR_WARNING,)

    @property
    def in_words(self) -> str:
        """How they are trained, unless they are there."""
        default = f"{Visibility.NORMAL}, or high if most are grey" if self.tasks.few_labels else Visibility.HIGH
        return f"trained on these images with --visibility {self.config.visibility or default}"

    @_store_faults()
    def made(self) -> Weights:
        """Train weights.

        Raises:
            InputError: As :func:`~mtlue_cli.workflows.train.generator.train_generator`, or training was far too short.
            MtlueError: The weights cannot be kept.
        """
        from mtlue_cli.devices import choose_device, describe_device  # bring torch
        from mtlue_cli.workflows.train.generator import train_generator

        config, before = self.config, self._latest()
        unfinished = self._unfinished()
        with self._sole_trainer():
            latest = self._latest()
            if latest != before and latest is not None:  # another run has trained them meanwhile
                return self._checked(latest, read_card(latest))
            moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
            out = unfinished[-1].with_suffix("") if unfinished else weights_store() / f"{self.stem}-{moment}{SUFFIX}"
            used = f"{self.images:,} images" + (f" ({MOST_IMAGES:,} of them)" if self.images > MOST_IMAGES else "")
            device = describe_device(choose_device(config.device))
            self.progress.note(
                f"training weights for these {used} on {device}: continuing an interrupted training for as long as it "
                "was planned; --quick skips it"
                if unfinished
                else f"training weights for these {used}: about {self.minutes:g} minutes on {device}; "
                "--train MINUTES changes that, --quick skips it"
            )
            for warning in self.warnings:
                self.progress.note(f"warning: {warning}")
            card = train_generator(self._training(out), self.progress).card
            if _steps(card) < LEAST_STEPS:
                out.unlink()
                out.with_suffix(".png").unlink(missing_ok=True)
                raise InputError(
                    f"training ended after {_steps(card)} steps, and at least {LEAST_STEPS} are needed to protect",
                    hint="give it more time with --train MINUTES, or use ready-made patterns with --quick",
                )
        self.progress.note(
            f"weights saved in {out}; keep a copy to add images to the release later, and keep it secret: "
            "whoever has the weights can undo the protection"
        )
        return Weights(out, read_card(out), own=True, warnings=_warnings(card))

    def _refuse_unwritable(self) -> None:
        """Refuse before training an output folder that could not be written after it."""
        release = self.config.release
        parent = next(folder for folder in (release, *release.resolve().parents) if folder.exists())
        if not os.access(parent, os.W_OK | os.X_OK):
            raise InputError(
                f"the output {release} cannot be written: {parent} is not writable", hint="give another --out"
            )

    @property
    def _surrogate_epochs(self) -> int:
        """As ``train-generator`` takes, and more where there are few images."""
        needed = -(-SURROGATE_STEPS * SURROGATE_BATCH // max(1, self.images))
        return max(SURROGATE_EPOCHS, min(needed, MOST_SURROGATE_EPOCHS))

    def _training(self, out: Path) -> TrainConfig:
        config = self.config
        return TrainConfig(
            images=config.images,
            labels=config.labels,
            out=out,
            reading=config.reading,
            tasks=self.tasks.names,
            epsilon=8 if config.epsilon is None else config.epsilon,
            visibility=config.visibility,
            surrogate_epochs=self._surrogate_epochs,
            max_minutes=self.minutes,
            max_steps=MOST_STEPS,
            least_steps=LEAST_STEPS,
            device=config.device,
            overwrite=True,
            workers=config.workers,
            most_images=MOST_IMAGES,
            private=True,
        )

    def _latest(self) -> Path | None:
        # Names end in the time of training.
        return max(weights_store().glob(f"{self.stem}-*{SUFFIX}"), default=None)

    def _unfinished(self) -> list[Path]:
        """State folders of trainings that were interrupted, the latest last."""
        return sorted(weights_store().glob(state_folder(Path(f"{self.stem}-*{SUFFIX}")).name))

    @contextmanager
    def _sole_trainer(self) -> Iterator[None]:
        """Hold the weights of this folder for one run, in a folder that only its owner can open."""
        store = weights_store()
        store.mkdir(mode=0o700, parents=True, exist_ok=True)
        store.chmod(0o700)
        try:
            with FileLock(store / f"{self.stem}.lock", timeout=0, mode=0o600):
                yield
        except Timeout:
            raise InputError(
                f"another run is training weights for {self.config.images}", hint="wait until it has ended"
            ) from None

    def _unmet(self, card: CheckpointCard) -> list[str]:
        """Labels that the weights do not know, one per line."""
        unmet = card.tasks.subset(name for name in card.tasks.names if name in self.tasks).unmet_by(
            self.inputs.labels.table.tasks
        )
        return unmet + [f"column {quoted(name)} is not known" for name in self.tasks.names if name not in card.tasks]

    def _checked(self, path: Path, card: CheckpointCard) -> Weights:
        """The weights, if they know all labels.

        Raises:
            InputError: They do not.
        """
        unmet = self._unmet(card)
        if unmet:
            raise InputError(
                f"the weights that were trained for {self.config.images} do not know all of the labels",
                unmet,
                "--overwrite trains new weights and protects all images again",
            )
        trained = card.settings.get("visibility", Visibility.HIGH)
        if self.config.visibility not in (None, trained):
            raise InputError(
                f"the weights that an earlier run trained for {self.config.images} have the visibility {trained}",
                hint=f"--train MINUTES --overwrite trains new ones of the visibility {self.config.visibility} and "
                "protects all images again; without --visibility the earlier ones are used",
            )
        self.progress.note(f"weights from an earlier run: {path}")
        if state_folder(path).exists() or self._unfinished():
            self.progress.note("a training of new weights is unfinished; --train MINUTES --overwrite continues it")
        elif self.config.train_minutes is not None and not self.config.overwrite:
            self.progress.note("--train does not change existing weights; add --overwrite to train new ones")
        return Weights(path, card, own=True, warnings=_warnings(card))


def _steps(card: CheckpointCard) -> int:
    steps = card.settings.get("steps")
    return steps if isinstance(steps, int) else 0


def _warnings(card: CheckpointCard) -> tuple[str, ...]:
    """What a user must know of trained weights: how they were trained, and that training was short."""
    found: list[str] = []
    if not card.tasks.few_labels or not trained_through_grey(card):
        found.append(COLOUR_WARNING)
    return *found, *_short_training(card, "train longer with --train MINUTES --overwrite")


def _short_training(card: CheckpointCard, longer: str) -> tuple[str, ...]:
    """That training was short, if it was; ``longer`` says how to train for longer."""
    steps, follows = _steps(card), card.settings.get("follows")
    if steps >= USEFUL_STEPS:
        return ()
    share = f", and its surrogate follows {follows:.0%} of the shifted labels" if isinstance(follows, float) else ""
    return (
        f"training was short: {steps} steps{share}. Runs that were measured to protect took at least {USEFUL_STEPS}. "
        f"Check the release with mtlue verify, or {longer}",
    )
