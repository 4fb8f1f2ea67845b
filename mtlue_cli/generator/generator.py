"""``Generator``: the one owner of what is added to an image."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mtlue_cli.choices import GPU_CALL_SIZE, MAX_EPSILON
from mtlue_cli.errors import CheckpointError, ImageError, InputError
from mtlue_cli.generator.checkpoint import CheckpointCard, LoadedGenerator, load_checkpoint, read_card
from mtlue_cli.generator.closed_form import ClosedForm, KeyedComponent, Labels, closed_form
from mtlue_cli.generator.code_patterns import shares_for_codes
from mtlue_cli.generator.shipped import DEFAULT, find_weights
from mtlue_cli.images.decode import ARRAY, DecodedImage
from mtlue_cli.images.square import to_square
from mtlue_cli.keys import Key
from mtlue_cli.perturbation.bound import Pixels, protect_pixels
from mtlue_cli.perturbation.effect import Shortfall, measure
from mtlue_cli.tasks.classes import class_faults, make_task
from mtlue_cli.tasks.spec import LabelTable, TaskSet
from mtlue_cli.tasks.wording import listed, quoted

if TYPE_CHECKING:
    import torch

    from mtlue_cli.generator.arguments import GivenImages
    from mtlue_cli.generator.inference import BatchedPerturbation

LEAST_LABEL_EFFECT = 0.1
"""Least share of the perturbation that depends on the labels. The shipped generators have 0.85 to 0.95, one that was
trained for CelebA's forty columns 0.78."""

_LABELLINGS = 8
_SHOWN = 5

Delta = npt.NDArray[np.float32]
"""A perturbation, ``(3, S, S)`` in 255ths; ``S`` is the side that the network sees."""


class Generator:
    """Weights that are ready to protect: loaded, bound to a key if they take one, on their device.

    >>> generator = Generator.load("default", key=Key.read("my.key"), labels={"age": ages, "gender": genders})
    >>> protected = generator.protect(images, {"age": ages, "gender": genders}, epsilon=8)

    Attributes:
        loaded: What it was made of.
        card: Metadata of the checkpoint.
        tasks: Those that are protected.
        device: Where its network runs; None for a closed form, which is computed with NumPy.
        keyed: Codes of a key that are added too, so that victims of trained weights can be traced; or None.
    """

    def __init__(
        self,
        loaded: LoadedGenerator | ClosedForm,
        device: "torch.device | None" = None,
        tasks: TaskSet | None = None,
        call_size: int = GPU_CALL_SIZE,
        keyed: KeyedComponent | None = None,
    ) -> None:
        self.loaded = loaded
        self.keyed = keyed
        self.card: CheckpointCard = loaded.card
        self.tasks = self.card.tasks if tasks is None else tasks
        self.device = None if isinstance(loaded, ClosedForm) else device
        self._batched: BatchedPerturbation | ClosedForm
        if isinstance(loaded, ClosedForm):
            self._batched = loaded
        else:
            from mtlue_cli.devices import on_device  # bring torch
            from mtlue_cli.generator import inference

            assert device is not None
            network = on_device(loaded.generator, device).eval()
            self._batched = inference.BatchedPerturbation(inference.for_inference(network, device), device, call_size)

    @classmethod
    def load(
        cls,
        weights: str | Path,
        *,
        key: Key | None = None,
        labels: LabelTable | Mapping[str, Sequence[str | None]] | None = None,
        tasks: TaskSet | Sequence[str] | None = None,
        shares: Mapping[str, Sequence[float]] | None = None,
        cells: int = 0,
        traceable: int = 0,
        device: "str | torch.device" = "auto",
        call_size: int = GPU_CALL_SIZE,
    ) -> "Generator":
        """Load weights and bind them to a key if they take one.

        Args:
            weights: Name of shipped weights, or a file.
            key: For universal weights, such as ``default``, and for ``traceable``; others take none.
            labels: Of all images that will be protected: task name to class names, None where unlabelled, or a label
                table. Universal weights learn from them the classes and how frequent each is; for others it is checked
                that they know all classes.
            tasks: What is protected: names, or for universal weights without ``labels`` the tasks with their classes
                in the order of the codes. None: all.
            shares: Of each class, by task, for universal weights; None: counted in ``labels``.
            cells: Side of the patterns of codes; 0: as many as the tasks ask for.
            traceable: Strength, in 255ths, of codes of ``key`` that are added within the bound, so that victims of
                trained weights can be traced; 0: none. Victims of universal weights always can.
            device: ``auto``, ``cpu``, ``cuda`` and so on.
            call_size: Images per call of the network, on a GPU; a CPU has its own.

        Raises:
            InputError: No such weights, key, labels and weights do not go together, or the device is not there.
            CheckpointError: The file cannot be used.
        """
        if key is not None and not isinstance(key, Key):
            raise InputError(f"key is {key!r}, expected a Key", hint="read it with Key.read(FILE)")
        if labels is not None and not isinstance(labels, LabelTable | Mapping):
            raise InputError(f"labels is a {type(labels).__name__}, expected columns of class names by task")
        path = find_weights(weights)
        card = read_card(path)
        if card.universal and key is None:
            raise InputError(f"the weights {card.name} need a key", hint="give key=Key.read(FILE)")
        if key is not None and not card.universal and not traceable:
            raise InputError(f"the weights {card.name} take no key", hint="leave out key")
        table = _table(labels) if isinstance(labels, Mapping) else labels
        known = card.tasks if not card.universal else TaskSet(()) if table is None else table.tasks
        if tasks is not None and not isinstance(tasks, TaskSet) and (unknown := [n for n in tasks if n not in known]):
            raise InputError(f"there is no task {listed(unknown)}", hint=f"there are {listed(list(known.names))}")
        wanted = tasks if isinstance(tasks, TaskSet) else known if tasks is None else known.subset(tasks)
        if not len(wanted):
            raise InputError(
                "there is no task to protect", hint="give labels, or tasks with their classes, to universal weights"
            )
        if not card.universal and table is not None and (differences := wanted.unmet_by(table.tasks)):
            raise InputError(f"the weights {card.name} do not fit the labels", differences)
        for task in wanted:
            own = (shares or {}).get(task.name, task.equal_shares)
            if len(own) != task.num_classes or not all(share > 0 for share in own):
                raise InputError(
                    f"shares of {quoted(task.name)} are {list(own)}, expected a positive number for each of its "
                    f"{task.num_classes} classes"
                )
        if (card.universal or traceable) and shares is None and table is not None:
            shares = shares_for_codes(table.recoded(wanted), wanted, card.image_size)
        if card.universal:
            form = closed_form(path, key, wanted, shares, cells)
            if form is not None:
                if device not in ("auto", "cpu"):
                    from mtlue_cli.devices import choose_device

                    choose_device(str(device))  # one that is not there is refused all the same
                return cls(form, None, wanted)
        from mtlue_cli.devices import choose_device

        loaded = load_checkpoint(path).bound(key, wanted, shares, cells)
        keyed = None
        if traceable and not card.universal:
            keyed = KeyedComponent(_codes_beside(card, key, wanted, shares, cells), traceable)
        return cls(loaded, choose_device(device) if isinstance(device, str) else device, wanted, call_size, keyed)

    @property
    def call_size(self) -> int:
        """Images per call of the network, now."""
        return self._batched.call_size

    @property
    def sees_images(self) -> bool:
        """Whether what is added depends on the image, and not on its labels alone."""
        return self.device is not None

    @property
    def described_device(self) -> str:
        """Where it runs, in words."""
        if self.device is None:
            return "cpu"
        from mtlue_cli.devices import describe_device

        return describe_device(self.device)

    def square(self, pixels: Pixels) -> npt.NDArray[np.uint8]:
        """``(H, W)`` or ``(H, W, 3)`` pixels, uint8, uint16, or floating point in [0, 1], as the network sees them."""
        return to_square(DecodedImage(pixels, None, ARRAY), self.card.image_size)

    def perturb(
        self, squares: Sequence[npt.NDArray[np.uint8]], labels: Labels, epsilon: int | None = None
    ) -> list[Delta]:
        """Perturbations of images as the network sees them; safe to call from several threads.

        Args:
            squares: ``(3, S, S)`` each; of any content unless :attr:`sees_images`.
            labels: Task name to class indices, or maps of side ``S`` in the layout of a loop, one per image; a task
                that is absent is not protected.
            epsilon: Bound in 255ths, to which the perturbation is scaled; None: that of the weights.

        Raises:
            InputError: The codes of :attr:`keyed` alone are beyond the bound.
            MtlueError: Not even one image fits into memory.
        """
        bound = self.card.epsilon if epsilon is None else epsilon
        own = self._batched(squares, labels, bound / self.card.epsilon)
        if self.keyed is None:
            return own
        form, levels = self.keyed.form, self.keyed.levels
        if levels > bound:
            raise InputError(f"codes of {levels} levels are beyond the bound of {bound}", hint="give fewer levels")
        drawn = form(squares, labels, levels / form.card.epsilon)
        return [np.clip(one + other, -bound, bound) for one, other in zip(own, drawn, strict=True)]

    def added(
        self,
        pixels: Pixels,
        delta: Delta,
        epsilon: int | None = None,
        alpha: npt.NDArray[np.uint8] | None = None,
        *,
        labelled: bool = True,
    ) -> tuple[Pixels, Shortfall | None]:
        """An image with its perturbation within the bound, and why it does not count as protected, if it does not.

        Pixels are those of :meth:`square`; other arguments as :func:`~mtlue_cli.perturbation.effect.measure`.
        """
        bound = self.card.epsilon if epsilon is None else epsilon
        changed = protect_pixels(pixels, delta, bound)
        return changed, measure(pixels, changed, delta, bound, alpha, labelled=labelled).lacking

    def delta(self, images: Any, labels: Mapping[str, Any], epsilon: int | None = None) -> Any:  # noqa: ANN401 - many kinds
        """Perturbations before they are scaled to the images and cut off; arguments as :meth:`protect`.

        Returns:
            ``(3, S, S)`` float32 in 255ths, in a list for several images; ``S`` is the side that the network sees.

        Raises:
            InputError: Images, labels and epsilon do not go together.
        """
        from mtlue_cli.generator.arguments import read_images

        given = read_images(images)
        found = self._deltas(given.pixels, self._labels(given, labels), epsilon)
        return found[0] if given.one else found

    def protect(
        self,
        images: Any,  # noqa: ANN401 - many kinds
        labels: Mapping[str, Any],
        epsilon: int | None = None,
        *,
        lacking: dict[int, Shortfall] | None = None,
    ) -> Any:  # noqa: ANN401 - the kind of the images
        """Images with what is added to them: each value within ``epsilon`` 255ths of the original, exactly.

        Args:
            images: One image or a list: ``(H, W)`` or ``(H, W, 3)`` arrays of uint8, uint16, or floating point in
                [0, 1]; PIL images of the modes L, LA, RGB, RGBA or I;16; ``(3, H, W)``, ``(1, H, W)`` or
                ``(B, 3, H, W)`` tensors. Transparency is not changed.
            labels: Task name to a label per image: a class name, a class index, or for a dense task the label map as
                its file would hold it; None where there is none. For one image a label may stand alone.
            epsilon: Bound in 255ths; None: that of the weights. Another one scales the perturbation.
            lacking: Takes the index of each image that lacks the least effect, and why; None: they are refused.

        Returns:
            The same kind, of the same sizes and types. Images in ``lacking`` do not count as protected.

        Raises:
            InputError: Images, labels and epsilon do not go together.
            ImageError: Images lack the least effect: nobody would be kept from learning from them.
        """
        from mtlue_cli.generator.arguments import labelled_images, read_images

        given = read_images(images)
        numbers = self._labels(given, labels)
        deltas = self._deltas(given.pixels, numbers, epsilon)
        each = zip(given.pixels, deltas, given.alphas, labelled_images(numbers, self.tasks), strict=True)
        done = [self.added(own, delta, epsilon, alpha, labelled=known) for own, delta, alpha, known in each]
        found = {index: missing for index, (_, missing) in enumerate(done) if missing is not None}
        if lacking is not None:
            lacking.update(found)
        elif found:
            raise ImageError(_not_protected(found, len(done)))
        return given.like([changed for changed, _ in done])

    def label_effect(self, epsilon: int | None = None) -> float | None:
        """The share of the perturbation that changes with the classes of one flat grey image.

        Returns:
            Root mean square deviation of the perturbations of eight drawn labellings from their mean, divided by the
            root mean square of all: 0 if labels do not matter, near 1 if nothing else does. None without image-level
            tasks of two classes or more, or if nothing is added at all.
        """
        columns = {task.name: task.num_classes for task in self.tasks.image_level}
        if max(columns.values(), default=0) < 2 or len(self.tasks.dense):
            return None
        rng = np.random.default_rng(0)
        labels: dict[str, Any] = {
            # Every class once if there are so many, and never one class alone.
            name: [int(number) % count for number in rng.permutation(_LABELLINGS)]
            for name, count in columns.items()
        }
        size = self.card.image_size
        image: npt.NDArray[np.uint8] = np.full((3, size, size), 128, np.uint8)
        deltas = np.stack(self.perturb([image] * _LABELLINGS, labels, epsilon))
        power = float(np.square(deltas).mean())
        return float(np.square(deltas - deltas.mean(axis=0)).mean() / power) ** 0.5 if power > 0 else None

    def check_label_effect(self, epsilon: int | None = None, hint: str | None = None) -> None:
        """Refuse weights whose perturbation hardly depends on the labels: they teach a victim nothing wrong.

        Raises:
            CheckpointError: Less than :data:`LEAST_LABEL_EFFECT` does.
        """
        effect = self.label_effect(epsilon)
        if effect is not None and effect < LEAST_LABEL_EFFECT:
            raise CheckpointError(
                f"the weights {self.card.name} add nearly the same to every class: {effect:.0%} of what they add "
                f"depends on the labels, at least {LEAST_LABEL_EFFECT:.0%} is needed",
                hint=hint,
            )

    def _labels(self, given: "GivenImages", labels: Mapping[str, Any]) -> Labels:
        from mtlue_cli.generator.arguments import read_labels

        return read_labels(labels, self.tasks, len(given.pixels), self.card.image_size, one=given.one)

    def _deltas(self, pixels: Sequence[Pixels], labels: Labels, epsilon: int | None) -> list[Delta]:
        if epsilon is not None and not (type(epsilon) is int and 1 <= epsilon <= MAX_EPSILON):
            raise InputError(f"epsilon is {epsilon!r}, expected a whole number of 255ths from 1 to {MAX_EPSILON}")
        return self.perturb([self.square(own) for own in pixels], labels, epsilon)


def _codes_beside(
    card: CheckpointCard,
    key: Key | None,
    tasks: TaskSet,
    shares: Mapping[str, Sequence[float]] | None,
    cells: int,
) -> ClosedForm:
    """The codes of ``key`` for what trained weights protect, in the size of these.

    Raises:
        InputError: There is no key, or a task labels every pixel.
    """
    if key is None:
        raise InputError("codes with which a release can be traced need a key", hint="give key=Key.read(FILE)")
    if len(tasks.dense):
        raise InputError(
            f"{listed(list(tasks.dense.names))}: codes with which a release can be traced are for labels of whole "
            "images",
            hint="protect the other columns alone, or do not make the release traceable",
        )
    form = closed_form(find_weights(DEFAULT), key, tasks, shares, cells, card.image_size)
    if form is None:
        raise InputError(f"the weights {DEFAULT} that come with the program are damaged", hint="install mtlue again")
    return form


def _table(labels: Mapping[str, Sequence[str | None]]) -> LabelTable:
    """Columns of class names as a label table; InputError if a column does not fit."""
    from mtlue_cli.generator.arguments import is_missing

    counts = {len(cells) for cells in labels.values()}
    faults = [f"the columns have {', '.join(map(str, sorted(counts)))} rows"] if len(counts) > 1 else []
    tasks, columns = [], {}
    for name, cells in labels.items():
        cells = [None if is_missing(cell) else cell for cell in cells]
        odd = next((cell for cell in cells if cell is not None and not isinstance(cell, str)), None)
        if odd is not None:
            faults.append(f"column {quoted(name)} holds {odd!r}, expected class names as text, None where unlabelled")
            continue
        task, columns[name] = make_task(name, cells, [f"row {row}" for row in range(len(cells))])
        faults += class_faults(task)
        tasks.append(task)
    if faults:
        raise InputError("the labels cannot be protected", faults)
    return LabelTable(tuple(f"row {row}" for row in range(max(counts, default=0))), columns, TaskSet(tuple(tasks)))


def _not_protected(found: Mapping[int, Shortfall], count: int) -> str:
    """A message that groups images by reason."""
    reasons: dict[Shortfall, list[int]] = {}
    for index, reason in found.items():
        reasons.setdefault(reason, []).append(index)
    parts = [
        f"{reason.value} (image {', '.join(map(str, indices[:_SHOWN]))}{', ...' if len(indices) > _SHOWN else ''})"
        for reason, indices in reasons.items()
    ]
    return f"{len(found)} of {count} images cannot be protected: {'; '.join(parts)}"
