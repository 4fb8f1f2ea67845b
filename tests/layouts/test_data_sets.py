"""Published data sets with masks, boxes or categories, loaded again by torchvision and pycocotools."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from torchvision.datasets import Cityscapes, CocoDetection, VOCDetection, VOCSegmentation

from mtlue_cli.choices import ExitCode, LabelFormat
from mtlue_cli.errors import InputError
from mtlue_cli.images.labelled import read_folder_labels
from mtlue_cli.layouts.find import described, find_labels
from mtlue_cli.tasks.readers.mask_folders import CITYSCAPES_VOID
from tests.layouts.sample import draw, encoded, mtlue, pixels_differ, protect, weights_for
from tests.tasks.label_files import cells_of


def draw_mask(path: Path, *numbers: int, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.fromarray(np.resize(np.array(numbers, dtype=np.uint8), (24, 24)))
    if palette:
        mask.putpalette(list(range(256)) * 3)
    mask.save(path)


def boxes(name: str, *objects: str) -> str:
    found = "".join(
        f"<object><name>{one}</name><part><name>cat</name></part><bndbox><xmin>1</xmin></bndbox></object>"
        for one in objects
    )
    return f"<annotation><filename>{name}.jpg</filename>{found}</annotation>"


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    root = tmp_path / "pascal"
    folder = root / "VOCdevkit" / "VOC2012"
    names = ("2007_1", "2007_2", "2007_3")
    draw(folder, *(f"JPEGImages/{name}.jpg" for name in names))
    for name in names[:2]:
        draw_mask(folder / "SegmentationClass" / f"{name}.png", 0, 8, 255, palette=True)
        draw_mask(folder / "SegmentationObject" / f"{name}.png", 0, 1, 2, palette=True)
    (folder / "Annotations").mkdir()
    for name, objects in zip(names, (("dog", "car"), ("cat",), ()), strict=True):
        (folder / "Annotations" / f"{name}.xml").write_text(boxes(name, *objects))
    for part, listed in {
        "Segmentation/train": names[:2],
        "Main/train": names,
        "Main/dog_train": ("2007_1  1",),
    }.items():
        path = folder / "ImageSets" / f"{part}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name}\n" for name in listed))
    (folder / "ImageSets" / "latin.txt").write_bytes(b"2007_1 caf\xe9\n")  # lists are in any encoding
    return root


def test_voc_is_found_and_read(voc: Path) -> None:
    assert described(find_labels(voc)) == f"labels: Pascal VOC's folders in {voc} (--label-format voc)"
    labels = read_folder_labels(voc, voc, for_learning=False)
    cells = cells_of(labels)["VOCdevkit/VOC2012/JPEGImages/2007_1.jpg"]
    assert {name for name, cell in cells.items() if cell == "1"} == {"dog", "car"}
    assert cells["segmentation"] == "VOCdevkit/VOC2012/SegmentationClass/2007_1.png"
    assert labels.table.tasks["segmentation"].classes[8] == "cat"
    assert labels.table.tasks["segmentation"].ignore == (255,)
    assert "boxes (Annotations) are copied unchanged and are not protected" in labels.notes
    assert any("2 files of other kinds not in the release" in note for note in labels.notes)


def test_torchvision_loads_a_release_of_voc(voc: Path, tmp_path: Path) -> None:
    weights = weights_for(tmp_path, dog=("0", "1"), cat=("0", "1"))
    (voc / "VOCdevkit/VOC2012/JPEGImages/2007_2.jpg").write_bytes(b"no image")
    release, said = protect(voc, weights, "--format", "keep", "--unlabelled", "protect", code=ExitCode.QUARANTINE)
    assert "no row" not in said  # masks of other kinds are not taken for images
    for kind, part in ((VOCSegmentation, ("2007_1",)), (VOCDetection, ("2007_1", "2007_3"))):
        before, after = (kind(str(root), year="2012", image_set="train") for root in (voc, release))
        assert [Path(path).stem for path in after.images] == list(part)
        for image, target in after:
            at = [Path(path).stem for path in before.images].index(part[0])
            original = before.targets[at]
            if kind is VOCSegmentation:
                assert np.array_equal(np.asarray(target), np.asarray(Image.open(original)))
                assert image.size == (24, 24)
    stems = (release / "VOCdevkit/VOC2012/ImageSets/Main/train.txt").read_text().split()
    assert stems == ["2007_1", "2007_3"]
    assert (release / "VOCdevkit/VOC2012/ImageSets/Main/dog_train.txt").read_text() == "2007_1  1\n"
    assert not (release / "VOCdevkit/VOC2012/SegmentationObject").exists()
    assert mtlue("inspect", release, "--against", voc).exit_code == 0


def test_torchvision_loads_a_release_of_cityscapes(tmp_path: Path) -> None:
    root = tmp_path / "cityscapes"
    stems = [f"train/aachen/aachen_00000{number}_000019" for number in range(2)] + ["val/bonn/bonn_000000_000019"]
    draw(root, *(f"leftImg8bit/{stem}_leftImg8bit.png" for stem in stems))
    for stem in stems:
        draw_mask(root / f"gtFine/{stem}_gtFine_labelIds.png", 0, 7, 11, 26)
        draw_mask(root / f"gtFine/{stem}_gtFine_color.png", 1, 2)
        (root / f"gtFine/{stem}_gtFine_polygons.json").write_text('{"objects": []}')
    labels = read_folder_labels(root, find_labels(root))
    task = labels.table.tasks["segmentation"]
    assert (task.classes[26], task.ignore, labels.format) == ("car", CITYSCAPES_VOID, LabelFormat.CITYSCAPES)
    out = root.with_name("cityscapes-protected")
    mtlue("protect", root, "--quick", "--key", key_file(tmp_path), "--device", "cpu")
    for split in ("train", "val"):
        before, after = (
            Cityscapes(str(folder), split=split, target_type=["semantic", "polygon"]) for folder in (root, out)
        )
        relative = [[Path(path).relative_to(found.root) for path in found.images] for found in (before, after)]
        assert relative[0] == relative[1]
        for path, (_, old), (image, new) in zip(before.images, before, after, strict=True):
            assert pixels_differ(Path(path), image)
            assert np.array_equal(np.asarray(old[0]), np.asarray(new[0]))
            assert old[1] == new[1]


def key_file(folder: Path) -> Path:
    (folder / "key").write_text("0f" * 32)
    return folder / "key"


def test_a_release_of_ade20k_has_its_folders(tmp_path: Path) -> None:
    root = tmp_path / "ADEChallengeData2016"
    stems = ["training/ADE_train_00000001", "validation/ADE_val_00000001"]
    draw(root, *(f"images/{stem}.jpg" for stem in stems))
    for stem in stems:
        draw_mask(root / f"annotations/{stem}.png", 0, 3, 150)
    (root / "objectInfo150.txt").write_text("Idx\n")
    (root / "sceneCategories.txt").write_text(
        "ADE_train_00000001 street\nADE_val_00000001 hill\nADE_val_00000002 sea\n"
    )
    task = read_folder_labels(root, find_labels(root)).table.tasks["segmentation"]
    assert (task.num_classes, task.ignore) == (151, (0,))
    mtlue("protect", root, "--quick", "--key", key_file(tmp_path), "--format", "keep", "--device", "cpu")
    out = root.with_name("ADEChallengeData2016-protected")
    for stem in stems:
        assert (out / f"images/{stem}.jpg").is_file()
        assert (out / f"annotations/{stem}.png").read_bytes() == (root / f"annotations/{stem}.png").read_bytes()
    assert (out / "objectInfo150.txt").read_text() == "Idx\n"
    assert (out / "sceneCategories.txt").read_text() == "ADE_train_00000001 street\nADE_val_00000001 hill\n"


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    draw(tmp_path / "val2017", "0.jpg", "1.jpg", "2.jpg")
    document = {
        "info": {"year": 2017},
        "licenses": [],
        "images": [{"id": 10 + n, "file_name": f"{n}.jpg", "width": 24, "height": 24} for n in range(3)],
        "categories": [{"id": 1, "name": "person", "supercategory": "person"}, {"id": 18, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 10, "category_id": 18, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0},
            {"id": 2, "image_id": 10, "category_id": 1, "bbox": [5.5, 2, 3, 4], "area": 12, "iscrowd": 1},
            {"id": 3, "image_id": 12, "category_id": 1, "bbox": [0, 0, 3, 4], "area": 12, "iscrowd": 0},
        ],
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances.json").write_text(json.dumps(document))
    return tmp_path / "annotations" / "instances.json"


def test_pycocotools_loads_a_release_of_coco(coco: Path, tmp_path: Path) -> None:
    photos = tmp_path / "val2017"
    labels = read_folder_labels(photos, coco)
    assert cells_of(labels) == {
        "0.jpg": {"person": "1", "dog": "1"},
        "1.jpg": {"person": "0", "dog": "0"},
        "2.jpg": {"person": "1", "dog": "0"},
    }
    (photos / "2.jpg").write_bytes(b"no image")
    weights = weights_for(tmp_path, person=("0", "1"), dog=("0", "1"))
    release, said = protect(photos, weights, "--labels", coco, code=ExitCode.QUARANTINE)
    assert "boxes and outlines are copied unchanged and are not protected" in said
    before, after = COCO(str(coco)), COCO(str(release / "instances.json"))
    assert after.getImgIds() == [10, 11]
    assert after.loadAnns(after.getAnnIds(imgIds=10)) == before.loadAnns(before.getAnnIds(imgIds=10))
    assert after.loadCats(after.getCatIds()) == before.loadCats(before.getCatIds())
    loaded = CocoDetection(str(release), str(release / "instances.json"))
    assert len(loaded) == 2
    image, objects = loaded[0]
    assert pixels_differ(photos / "0.jpg", image)
    assert [one["id"] for one in objects] == [1, 2]
    mtlue("inspect", release, "--against", photos)


def test_photos_with_boxes_that_are_turned_are_counted(coco: Path, voc: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for folder, labels, name in (
        (tmp_path / "val2017", coco, "0.jpg"),
        (voc, voc, "VOCdevkit/VOC2012/JPEGImages/2007_3.jpg"),
    ):
        assert not any("EXIF" in note for note in read_folder_labels(folder, labels, for_learning=False).notes)
        Image.open(folder / name).save(folder / name, exif=exif)
        notes = read_folder_labels(folder, labels, for_learning=False).notes
        assert any(
            f"1 photo turned upright by an EXIF orientation, their boxes and outlines are not: {name!r}" in note
            for note in notes
        )


def test_images_in_coco_annotations_are_refused(coco: Path, tmp_path: Path) -> None:
    document = json.loads(coco.read_text())
    document["images"][0]["thumb"] = base64.b64encode(encoded(1)).decode()
    coco.write_text(json.dumps(document))
    weights = weights_for(tmp_path, person=("0", "1"), dog=("0", "1"))
    release, said = protect(tmp_path / "val2017", weights, "--labels", coco, code=ExitCode.INPUT)
    assert "holds images, which would be released unprotected" in " ".join(said.split())
    assert not release.exists()


def test_segments_of_panoptic_annotations_are_categories(coco: Path, tmp_path: Path) -> None:
    document = json.loads(coco.read_text())
    segments = [{"id": 5, "category_id": 18}, {"id": 6, "category_id": 1}]
    document["annotations"] = [{"image_id": 11, "file_name": "1.png", "segments_info": segments}]
    coco.write_text(json.dumps(document))
    cells = cells_of(read_folder_labels(tmp_path / "val2017", coco))
    assert cells["1.jpg"] == {"person": "1", "dog": "1"}
    assert cells["0.jpg"] == {"person": "0", "dog": "0"}


@pytest.mark.parametrize("text", ["[]", "{}", '{"images": 1, "annotations": [], "categories": []}', "{"])
def test_other_json_is_refused(coco: Path, tmp_path: Path, text: str) -> None:
    coco.write_text(text)
    with pytest.raises(InputError, match="is not"):
        read_folder_labels(tmp_path / "val2017", coco)
