"""Protection on the fly: a transform of torchvision and a data set that wraps another one."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils.data import Dataset
from torchvision.transforms import v2

from mtlue_cli.errors import ImageError
from mtlue_cli.generator.generator import Generator
from mtlue_cli.perturbation.effect import Shortfall


class ProtectTransform(v2.Transform):  # type: ignore[misc]  # torchvision is untyped
    """Protects an image by the label beside it; a transform of ``torchvision.transforms.v2``.

    It takes and gives pairs ``(image, target)``, the target unchanged. It must be first in a ``v2.Compose``, before the
    size or the range of an image changes, and goes into ``transforms=`` of a torchvision data set.

    Args:
        generator: What protects.
        epsilon: Bound in 255ths; None: that of the weights.

    >>> transform = v2.Compose([ProtectTransform(generator), v2.RandomCrop(64)])
    >>> image, target = transform(image, {"age": "3-9", "gender": None})
    """

    def __init__(self, generator: Generator, epsilon: int | None = None) -> None:
        super().__init__()
        self.generator = generator
        self.epsilon = epsilon

    def forward(self, *inputs: Any) -> tuple[Any, Any]:  # noqa: ANN401 - the kinds of the images and targets
        """The protected image and its target.

        Args:
            inputs: An image, as :meth:`Generator.protect` takes it, and a target, in two arguments or as a pair. A
                target maps task names to labels; with a generator of one task it may be the label itself.

        Raises:
            InputError: Image and target do not fit the generator.
            ImageError: The image lacks the least effect.
        """
        image, target = inputs if len(inputs) > 1 else inputs[0]
        return self.generator.protect(image, _labels_of(target, self.generator), self.epsilon), target

    def extra_repr(self) -> str:
        """The weights and the bound."""
        return f"weights={self.generator.card.name}, epsilon={self.epsilon or self.generator.card.epsilon}"


class ProtectedDataset(Dataset[tuple[Any, Any]]):
    """A data set whose images are protected when they are asked for, in batches where a ``DataLoader`` asks for them.

    In worker processes a generator must be on the CPU. ``dataset`` gives pairs of image and target as
    :class:`ProtectTransform` takes them; ``epsilon`` is in 255ths, by default that of the weights.
    """

    def __init__(self, dataset: Dataset[tuple[Any, Any]], generator: Generator, epsilon: int | None = None) -> None:
        self.dataset = dataset
        self.generator = generator
        self.epsilon = epsilon

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]  # a data set that is indexed has a length

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """The protected image and its target.

        Raises:
            InputError: Image and target do not fit the generator.
            ImageError: The image lacks the least effect; the message names its index.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, Any]]:
        """Several at once, as a ``DataLoader`` asks for them."""
        pairs = [self.dataset[index] for index in indices]
        each = [_labels_of(target, self.generator) for _, target in pairs]
        names = [name for name in self.generator.tasks.names if all(name in own for own in each)]
        labels = {name: [own[name] for own in each] for name in names}
        lacking: dict[int, Shortfall] = {}
        images = self.generator.protect([image for image, _ in pairs], labels, self.epsilon, lacking=lacking)
        if lacking:
            found = ", ".join(f"{indices[row]} ({reason.value})" for row, reason in lacking.items())
            raise ImageError(f"these images of the data set cannot be protected: {found}")
        return [(image, target) for image, (_, target) in zip(images, pairs, strict=True)]


def _labels_of(target: object, generator: Generator) -> Mapping[str, Any]:
    """The labels of the generator's tasks in a target."""
    names = generator.tasks.names
    if isinstance(target, Mapping):
        return {name: target[name] for name in names if name in target}
    return {names[0]: target} if len(names) == 1 else {}
