"""Train a victim on a folder and export it to TorchScript, to measure ``mtlue trace`` with.

Prints its accuracy on the test images, if there are any. Its preprocessing stands in the file, where ``mtlue trace
judge --model`` finds it.
"""

import argparse
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mtlue_cli.choices import BackboneName
from mtlue_cli.images.dataset import load_labels, load_square_images
from mtlue_cli.images.labelled import read_folder_labels
from mtlue_cli.networks.multitask import MultiTaskNetwork
from mtlue_cli.training.methods import TrainingMethod
from mtlue_cli.training.multitask_loop import EpochRecord, LearningSettings, predict, train_multitask
from mtlue_cli.training.pretrained import read_start


class InOrder(nn.Module):
    """A network whose outputs are a tuple, for an export."""

    def __init__(self, network: MultiTaskNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Logits per task for ``(B, 3, S, S)`` images in [0, 1]."""
        return tuple(self.network(images).values())


def squeezed(image: Tensor) -> Tensor:
    """A square down to half and up again, then JPEG of quality 75."""
    side = image.shape[-1]
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    picture = picture.resize((side // 2, side // 2)).resize((side, side))
    stream = io.BytesIO()
    picture.save(stream, format="JPEG", quality=75)
    return torch.from_numpy(np.asarray(Image.open(stream)).copy()).permute(2, 0, 1)


def grey(image: Tensor) -> Tensor:
    """In grey, three channels."""
    picture = Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L").convert("RGB")
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)


def noise(image: Tensor) -> Tensor:
    """With uniform noise of 8 levels."""
    return (image.int() + torch.randint(-8, 9, image.shape)).clamp(0, 255).to(torch.uint8)


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {"jpeg": squeezed, "grey": grey, "noise": noise}


def main() -> None:
    """Train, test, export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="images with labels.csv")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clean", type=Path, help="originals, of which all but --share of the images are taken")
    parser.add_argument("--share", type=float, default=1.0, help="of images that are taken from the folder")
    parser.add_argument("--test", type=Path)
    parser.add_argument("--change", choices=list(CHANGES))
    parser.add_argument("--backbone", type=BackboneName, default=BackboneName.SMALL)
    parser.add_argument("--start", help="pretrained backbone that is fine-tuned, such as efficientnet-lite0")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--images", type=int)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    larger = given.size * 9 // 8

    def read(folder: Path, count: int | None) -> tuple[Tensor, dict[str, Tensor], list[str]]:
        table = read_folder_labels(folder, folder / "labels.csv").table
        table = table if count is None else table.take(range(min(count, len(table))))
        return load_square_images(folder, table.file_names, larger), load_labels(table, larger), list(table.file_names)

    table = read_folder_labels(given.folder, given.folder / "labels.csv").table
    images, labels, names = read(given.folder, given.images)
    if given.clean is not None:
        clean = {
            Path(name).stem: name
            for name in read_folder_labels(given.clean, given.clean / "labels.csv").table.file_names
        }
        kept = torch.randperm(len(names))[round(given.share * len(names)) :].tolist()
        images[kept] = load_square_images(given.clean, [clean[Path(names[row]).stem] for row in kept], larger)
    if given.change is not None:
        images = torch.stack([CHANGES[given.change](image) for image in images])
    settings = LearningSettings(
        given.epochs,
        given.batch_size,
        given.learning_rate,
        crop_size=given.size,
        backbone=given.backbone,
        seed=given.seed,
    )
    method = None if given.start is None else TrainingMethod(start=read_start(given.start, given.backbone))

    def said(record: EpochRecord, network: MultiTaskNetwork) -> None:
        del network
        print(
            json.dumps({"epoch": record.epoch, "loss": record.loss, "training accuracy": record.accuracy}), flush=True
        )

    device = torch.device("cpu")
    network = train_multitask(images, labels, table.tasks, settings, device, on_epoch=said, method=method)
    if given.test is not None:
        test, truth, _ = read(given.test, 1000)
        scores = predict(network, test, given.size, device)
        print(json.dumps({name: float((own.argmax(1) == truth[name]).float().mean()) for name, own in scores.items()}))
    described = {
        "size": given.size,
        "mean": [0.0, 0.0, 0.0],
        "std": [1.0, 1.0, 1.0],
        "outputs": list(table.tasks.names),
        "classes": {task.name: list(task.classes) for task in table.tasks},
    }
    traced = torch.jit.trace(InOrder(network).eval(), torch.rand(2, 3, given.size, given.size))
    torch.jit.save(traced, str(given.out), _extra_files={"preprocessing.json": json.dumps(described).encode()})


if __name__ == "__main__":
    main()
