"""``Generator``: the same as ``protect`` writes, for arrays, PIL images and tensors."""

import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from mtlue_cli.choices import ImageFormat
from mtlue_cli.errors import CheckpointError, ImageError, InputError
from mtlue_cli.generator import shipped
from mtlue_cli.generator.generator import Generator
from mtlue_cli.images.decode import decode_image
from mtlue_cli.keys import VARIABLE, Key
from mtlue_cli.perturbation.effect import Shortfall
from mtlue_cli.release.records import read_manifest
from mtlue_cli.tasks.labels import read_label_file
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.run import protect_folder
from tests import dense_sample
from tests.small_set import TASKS, write_checkpoint, write_images

KEY = Key(bytes(range(32)))
RNG = np.random.default_rng(3)
PHOTO = RNG.integers(30, 226, (20, 28, 3), dtype=np.uint8)
LABELS = {"colour": ["red"], "round": ["1"]}


@pytest.fixture
def own(tmp_path: Path) -> Generator:
    return Generator.load(write_checkpoint(tmp_path / "own.safetensors"), device="cpu")


@pytest.fixture
def universal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(shipped, "weights_folder", lambda: tmp_path / "weights")
    monkeypatch.setenv(VARIABLE, bytes(range(32)).hex())
    return write_checkpoint(tmp_path / "weights" / "default.safetensors", None)


def change(protected: npt.NDArray[Any], original: npt.NDArray[Any]) -> float:
    """Largest change in 255ths."""
    unit = 1.0 if original.dtype.kind == "f" else float(np.iinfo(original.dtype).max)
    return float(np.abs(protected.astype(np.float64) - original).max()) * 255 / unit


def test_values_by_hand(own: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The perturbation is scaled to epsilon, rounded, cut off at white, averaged for a grey image."""
    flat = np.stack([np.full((16, 16), value, np.float32) for value in (6.0, -4.0, 1.0)])
    monkeypatch.setattr(own, "_batched", lambda squares, _, scale: [flat * scale] * len(squares))
    image = np.full((4, 6, 3), (100, 120, 140), np.uint8)
    image[0] = 252, 2, 90
    protected = own.protect(image, LABELS)
    assert protected[1, 0].tolist() == [106, 116, 141]
    assert protected[0, 0].tolist() == [255, 0, 91]
    assert own.protect(image, LABELS, 4)[1, 0].tolist() == [103, 118, 141]
    assert own.protect(np.full((4, 6), 100, np.uint8), LABELS, lacking={})[0].tolist() == [101] * 6
    assert own.delta(image, LABELS, 4)[:, 0, 0].tolist() == [3.0, -2.0, 0.5]


@pytest.mark.parametrize("keyed", [False, True])
def test_images_become_what_protect_writes(keyed: bool, tmp_path: Path, universal: Path) -> None:
    labels = write_images(tmp_path / "photos")
    weights = universal if keyed else write_checkpoint(tmp_path / "own.safetensors")
    config = ProtectConfig(
        tmp_path / "photos", labels, weights=str(weights), device="cpu", epsilon=5, image_format=ImageFormat.PNG
    )
    release = protect_folder(config, SilentProgress()).release
    table = read_label_file(labels).table
    key = KEY if keyed else None
    generator = Generator.load("default" if keyed else weights, key=key, labels=table, device="cpu")
    names = {name: [table.class_name(name, row) for row in range(len(table))] for name in TASKS.names}
    photos = [decode_image(config.images / name).pixels for name in table.file_names]
    protected = generator.protect(photos, names, 5)
    released = {record.source: record.file_name for record in read_manifest(release).files}
    assert len(released) == len(photos)
    for name, photo, found in zip(table.file_names, photos, protected, strict=True):
        assert 0 < change(found, photo) <= 5
        np.testing.assert_array_equal(found, decode_image(release / released[name]).pixels)
    # A mapping of class names says as much as the label file.
    again = Generator.load(weights, key=key, labels=names, device="cpu").protect(photos, names, 5)
    assert all(np.array_equal(*pair) for pair in zip(again, protected, strict=True))


def as_tensor(array: npt.NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.moveaxis(array, 2, 0).copy())


def values_of(image: object) -> npt.NDArray[Any]:
    return image.numpy() if isinstance(image, torch.Tensor) else np.asarray(image)


KINDS: dict[str, Callable[[npt.NDArray[Any]], Any]] = {
    "uint8": lambda photo: photo,
    "uint16": lambda photo: photo.astype(np.uint16) * 257,
    "float32": lambda photo: (photo / 255).astype(np.float32),
    "float64": lambda photo: photo / 255,
    "float16": lambda photo: (photo / 255).astype(np.float16),
    "grey": lambda photo: photo[..., 0].copy(),
    "RGB": Image.fromarray,
    "L": lambda photo: Image.fromarray(photo[..., 0]),
    "I;16": lambda photo: Image.fromarray(photo[..., 0].astype(np.uint16) * 257),
    "tensor": as_tensor,
    "tensor of floats": lambda photo: as_tensor((photo / 255).astype(np.float32)),
    "grey tensor": lambda photo: as_tensor(photo[..., :1]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("epsilon", [None, 3])
def test_every_kind_comes_back_as_it_went_and_within_the_bound(kind: str, epsilon: int | None, own: Generator) -> None:
    image = KINDS[kind](PHOTO)
    before = values_of(image).copy()
    found = own.protect(image, LABELS, epsilon)
    assert type(found) is type(image)
    after = values_of(found)
    assert (after.shape, after.dtype) == (before.shape, before.dtype)
    assert (epsilon or 8) / 2 < change(after, before) <= (epsilon or 8) * (1 + 1e-12)
    assert np.array_equal(values_of(image), before)
    several = own.protect([image, image], {name: values * 2 for name, values in LABELS.items()}, epsilon)
    assert isinstance(several, list)
    assert all(np.array_equal(values_of(other), after) for other in several)


def test_a_batch_of_tensors_comes_back_as_one(own: Generator) -> None:
    batch = torch.stack([as_tensor(PHOTO), as_tensor(PHOTO[::-1])])
    found = own.protect(batch, {"colour": torch.tensor([0, 2]), "round": np.array([1, 0])})
    assert (found.shape, found.dtype) == (batch.shape, batch.dtype)
    one = own.protect(batch[1], {"colour": "blue", "round": 0})
    assert torch.equal(found[1], one)


@pytest.mark.parametrize(
    "labels", [{"colour": [0], "round": [1]}, {"colour": "red", "round": "1"}, {"colour": 0, "round": 1}]
)
def test_class_names_and_indices_say_the_same(labels: Mapping[str, Any], own: Generator) -> None:
    assert np.array_equal(own.protect(PHOTO, labels), own.protect(PHOTO, LABELS))
    assert not np.array_equal(own.protect(PHOTO, {**LABELS, "colour": ["blue"]}), own.protect(PHOTO, LABELS))


@pytest.mark.parametrize("missing", [None, -1, float("nan")])
def test_a_missing_label_is_neutral_and_an_image_without_any_is_not_protected(missing: object, own: Generator) -> None:
    found = own.protect(PHOTO, {"colour": ["red"], "round": [missing]})
    assert not np.array_equal(found, own.protect(PHOTO, LABELS))
    lacking: dict[int, Shortfall] = {}
    photos, labels = [PHOTO, PHOTO], {"colour": ["red", missing], "round": ["1", missing]}
    own.protect(photos, labels, lacking=lacking)
    assert lacking == {1: Shortfall.UNLABELLED}
    with pytest.raises(ImageError, match=r"1 of 2 images cannot be protected: they have no label \(image 1\)"):
        own.protect(photos, labels)


@pytest.mark.parametrize("pixels", [PHOTO, PHOTO[..., 0]])
def test_transparency_is_kept_and_an_image_that_nobody_sees_is_not_protected(
    pixels: npt.NDArray[Any], own: Generator
) -> None:
    def with_alpha(opacity: int) -> Image.Image:
        image = Image.fromarray(pixels)
        image.putalpha(opacity)
        return image

    found = own.protect(with_alpha(200), LABELS)
    assert found.mode == with_alpha(200).mode
    assert np.array_equal(np.asarray(found)[..., -1], np.full(pixels.shape[:2], 200))
    assert np.array_equal(np.asarray(found)[..., :-1].squeeze(), own.protect(pixels, LABELS))
    lacking: dict[int, Shortfall] = {}
    two = {name: values * 2 for name, values in LABELS.items()}
    own.protect([with_alpha(200), with_alpha(2)], two, lacking=lacking)
    assert lacking == {1: Shortfall.TRANSPARENT}
    with pytest.raises(ImageError, match=r"1 of 1 images cannot be protected: they are \(nearly\) transparent"):
        own.protect(with_alpha(0), LABELS)


def test_images_that_lack_the_least_effect_are_named_or_listed(own: Generator) -> None:
    black = np.zeros_like(PHOTO[..., 0])
    photos = [black, PHOTO, black]
    labels = {"colour": ["red"] * 3, "round": ["1"] * 3}
    with pytest.raises(ImageError, match=r"2 of 3 images .*nearly all pixels are black or white \(image 0, 2\)"):
        own.protect(photos, labels)
    lacking: dict[int, Shortfall] = {}
    found = own.protect(photos, labels, lacking=lacking)
    assert lacking == {0: Shortfall.NO_ROOM, 2: Shortfall.NO_ROOM}
    assert np.array_equal(found[1], own.protect(PHOTO, LABELS))


@pytest.mark.parametrize(
    ("labels", "fault"),
    [
        ({"colour": ["pink"], "round": [1]}, r"labels\['colour'\]\[0\] is 'pink', expected 'red', 'green', 'blue'"),
        ({"colour": [3], "round": [1]}, r"labels\['colour'\]\[0\] is 3, expected an index from 0 to 2"),
        ({"colour": [0.5], "round": [1]}, r"labels\['colour'\]\[0\] is 0.5"),
        ({"colour": ["red"]}, "the task 'round' has no labels; None per image"),
        ({**LABELS, "size": ["1"]}, "there is no task 'size', only 'colour', 'round'"),
        ({"colour": ["red", "red"], "round": [1]}, "the task 'colour' has 2 labels for 1 images"),
    ],
)
def test_labels_that_do_not_fit_are_all_listed(labels: Mapping[str, Any], fault: str, own: Generator) -> None:
    with pytest.raises(InputError, match="labels do not fit") as caught:
        own.protect(PHOTO, labels)
    assert len(caught.value.faults) == 1
    assert re.search(fault, caught.value.faults[0])


@pytest.mark.parametrize(
    ("image", "fault"),
    [
        (np.zeros((4, 4, 4), np.uint8), r"has the shape \(4, 4, 4\)"),
        (np.zeros((4, 4, 3), np.int32), "has values of int32"),
        (np.full((4, 4, 3), 1.5), "not colours"),
        (np.full((4, 4, 3), np.nan), "not colours"),
        (Image.new("CMYK", (4, 4)), "has the mode CMYK"),
        (torch.zeros(4, 4, 3), r"is a tensor of the shape \(4, 4, 3\)"),
        (torch.zeros(3, 4, 4, dtype=torch.bfloat16), "bfloat16"),
        ("photo.png", "is str"),
    ],
)
def test_images_of_other_kinds_are_all_listed(image: object, fault: str, own: Generator) -> None:
    with pytest.raises(InputError, match="2 of 3 images are of an unsupported kind") as caught:
        own.protect([image, PHOTO, image], {"colour": [0] * 3, "round": [0] * 3})
    assert [found.split()[1] for found in caught.value.faults] == ["0", "2"]
    assert all(re.search(fault, found) for found in caught.value.faults)


@pytest.mark.parametrize("epsilon", [0, 65, 8.0, True])
def test_epsilon_is_a_whole_number_of_255ths(epsilon: object, own: Generator) -> None:
    with pytest.raises(InputError, match="epsilon is"):
        own.protect(PHOTO, LABELS, epsilon)  # type: ignore[arg-type]  # wrong on purpose


def test_chosen_tasks_alone_are_protected(tmp_path: Path, own: Generator) -> None:
    path = tmp_path / "own.safetensors"
    one = Generator.load(path, tasks=["round"], device="cpu")
    assert one.tasks.names == ("round",)
    expected = own.perturb([own.square(PHOTO)], {"round": [1]})[0]
    assert np.array_equal(one.delta(PHOTO, {"round": "1"}), expected)
    with pytest.raises(InputError, match="there is no task 'size'") as caught:
        Generator.load(path, tasks=["size"])
    assert caught.value.hint == "there are 'colour', 'round'"


def test_weights_key_and_labels_go_together(tmp_path: Path, universal: Path) -> None:
    path = write_checkpoint(tmp_path / "own.safetensors")
    with pytest.raises(InputError, match="take no key"):
        Generator.load(path, key=KEY)
    with pytest.raises(InputError, match="default need a key") as caught:
        Generator.load("default", labels=LABELS)
    assert caught.value.hint == "give key=Key.read(FILE)"
    with pytest.raises(InputError, match="no task to protect"):
        Generator.load("default", key=KEY)
    with pytest.raises(InputError, match="no weights called 'nothing'"):
        Generator.load("nothing")
    with pytest.raises(InputError, match="do not fit the labels") as caught:
        Generator.load(path, labels={"colour": ["red", "pink"], "round": ["0", "1"]})
    assert "unknown classes 'pink' (row 1)" in caught.value.faults[0]
    wrong: dict[str, Any] = {"a": ["x", "x"], "b": [1, 2], "c": ["x", "y", "z"]}
    with pytest.raises(InputError, match="labels cannot be protected") as caught:
        Generator.load("default", key=KEY, labels=wrong)
    assert [fault.split(":")[0] for fault in caught.value.faults] == [
        "the columns have 2, 3 rows",
        "column 'a' holds only one class, 'x'",
        "column 'b' holds 1, expected class names as text, None where unlabelled",
    ]
    with pytest.raises(InputError, match="device 'nowhere'"):
        Generator.load(path, device="nowhere")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError):
        Generator.load(broken)
    assert universal.exists()


def test_keys_decide_what_universal_weights_add(universal: Path) -> None:
    labels = {"colour": ["red", "green", "blue"], "round": ["0", "1", "0"]}
    deltas = [
        Generator.load(universal, key=key, labels=labels, device="cpu").delta([PHOTO] * 3, labels)
        for key in (KEY, KEY, Key(bytes(32)))
    ]
    assert all(np.array_equal(*pair) for pair in zip(deltas[0], deltas[1], strict=True))
    assert not np.array_equal(deltas[0][0], deltas[2][0])
    by_tasks = Generator.load(universal, key=KEY, tasks=TASKS, device="cpu")
    assert by_tasks.tasks == TASKS


def test_masks_are_labels_too(tmp_path: Path) -> None:
    tasks = dense_sample.TASKS.subset(["bright", "parts"])
    generator = Generator.load(write_checkpoint(tmp_path / "own.safetensors", TaskSet(tuple(tasks))), device="cpu")
    images, labels = dense_sample.draw_scenes(2, 16)
    photos = [image.permute(1, 2, 0).numpy().copy() for image in images]
    masks = [labels["parts"][row].numpy() for row in range(2)]
    found = generator.delta(photos, {"bright": labels["bright"], "parts": masks})
    expected = generator.perturb(list(images.numpy()), {"bright": labels["bright"].tolist(), "parts": masks})
    assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))
    doubled = masks[0].repeat(2, axis=0).repeat(2, axis=1)
    alone = generator.delta(photos[0], {"bright": int(labels["bright"][0]), "parts": doubled})
    assert np.array_equal(alone, expected[0])
    with pytest.raises(InputError) as caught:
        generator.delta(photos, {"bright": [None, None], "parts": [masks[0] + 5, None]})
    assert "labels['parts'][0] holds" in caught.value.faults[0]


def test_a_generator_goes_to_other_processes(own: Generator) -> None:
    there: Generator = pickle.loads(pickle.dumps(own))
    assert np.array_equal(there.protect(PHOTO, LABELS), own.protect(PHOTO, LABELS))
    assert own.protect([], {"colour": [], "round": []}) == []


def test_what_does_not_fit_is_refused_before_anything_is_loaded(
    own: Generator, tmp_path: Path, universal: Path
) -> None:
    del own
    path, known = tmp_path / "own.safetensors", {"colour": ["red", "green"], "round": ["1", "0"]}
    with pytest.raises(InputError, match="do not fit the labels"):
        Generator.load(path, key=KEY, traceable=4, labels={"colour": ["red", "green"]}, device="cpu")
    with pytest.raises(InputError, match="do not fit the labels"):
        Generator.load(path, key=KEY, traceable=4, labels=known | {"round": ["1", "new"]}, device="cpu")
    with pytest.raises(InputError, match="labels is a str, expected columns of class names"):
        Generator.load(path, labels="labels.csv")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected a Key"):
        Generator.load(universal, key="my.key", labels=known)  # type: ignore[arg-type]
    for shares in ([0.5, 0.5, 0.0], [1.0]):
        with pytest.raises(InputError, match="shares of 'round' are"):
            Generator.load(universal, key=KEY, labels=known, shares={"round": shares})
