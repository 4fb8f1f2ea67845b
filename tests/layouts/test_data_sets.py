"""Published data sets with masks, boxes or categories, loaded again by torchvision and pycocotools."""

import base64
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from pycocotools.coco import COCO
from torchvision.datasets import Cityscapes, CocoDetection, VOCDetection, VOCSegmentation

from mtlue_cli.choices import ExitCode, LabelFormat
from mtlue_cli.errors import InputError
from mtlue_cli.images.dataset import load_labels
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


def test_objects_of_voc_are_classes_of_voc(voc: Path) -> None:
    folder = voc / "VOCdevkit/VOC2012"
    (folder / "JPEGImages/2007_1.jpg").rename(folder / "JPEGImages/2007_1.JPG")
    annotation = folder / "Annotations/2007_1.xml"
    annotation.write_text(boxes("2007_1", " dog "))
    cells = cells_of(read_folder_labels(voc, voc, for_learning=False))["VOCdevkit/VOC2012/JPEGImages/2007_1.JPG"]
    assert cells["dog"] == "1"
    annotation.write_text(boxes("2007_1", "Dog", "helmet"))
    with pytest.raises(InputError, match="no classes of Pascal VOC") as caught:
        read_folder_labels(voc, voc, for_learning=False)
    assert caught.value.faults == ("'Dog'", "'helmet'")


def test_files_beside_masks_hold_no_images_and_stay_in_the_data_set(voc: Path, tmp_path: Path) -> None:
    weights = weights_for(tmp_path, dog=("0", "1"), cat=("0", "1"))
    annotation = voc / "VOCdevkit/VOC2012/Annotations/2007_3.xml"
    text = annotation.read_text()
    hidden = f"<imageData>{base64.b64encode(encoded(1)).decode()}</imageData>"
    annotation.write_text(text.replace("</annotation>", f"{hidden}</annotation>"))
    release, said = protect(voc, weights, "--unlabelled", "protect", code=ExitCode.INPUT)
    assert "2007_3.xml: its text (base64) holds images" in " ".join(said.split())
    annotation.unlink()
    (tmp_path / "elsewhere.xml").write_text(text)
    annotation.symlink_to(tmp_path / "elsewhere.xml")
    _, said = protect(voc, weights, "--unlabelled", "protect", code=ExitCode.INPUT)
    assert "2007_3.xml cannot be copied to the release" in " ".join(said.split())
    assert not release.exists()


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
    (folder / "key").write_text("0ff0" * 16)
    (folder / "key").chmod(0o600)
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


def test_annotations_of_other_images_are_noted_and_ids_as_text_refused(coco: Path, tmp_path: Path) -> None:
    photos, file = tmp_path / "val2017", coco
    document = json.loads(file.read_text())
    document["annotations"].append({**document["annotations"][0], "image_id": 10**6})
    file.write_text(json.dumps(document))
    assert "1 image of annotations not among images" in read_folder_labels(photos, file, for_learning=False).notes
    for entry in document["annotations"]:
        entry["image_id"] = str(entry["image_id"])
    file.write_text(json.dumps(document))
    with pytest.raises(InputError) as caught:
        read_folder_labels(photos, file, for_learning=False)
    assert any("as another type" in fault for fault in caught.value.faults)


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


NO_ID = "which the annotations of its image do not name as the id of a segment or category"
SEGMENTS = {  # id to category, of the first two images; the id 70000 has another category in each
    0: {70000: 18, 259: 1, 5: 184},
    1: {70000: 1},
}


def draw_segments(path: Path, *ids: int, size: tuple[int, int] = (24, 24)) -> npt.NDArray[np.int64]:
    """A mask of COCO's panoptic format; its ids, ``(h, w)``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found = np.resize(np.array(ids), size)
    Image.fromarray(np.stack([found % 256, found // 256 % 256, found // 65536], axis=2).astype(np.uint8)).save(path)
    return found


@pytest.fixture
def panoptic(coco: Path) -> Path:
    document = json.loads(coco.read_text())
    document["categories"].append({"id": 184, "name": "tree-merged", "isthing": 0})
    document["annotations"] = [
        {
            "image_id": 10 + n,
            "file_name": f"{n}.png",
            "segments_info": [{"id": key, "category_id": category, "iscrowd": 0} for key, category in found.items()],
        }
        for n, found in SEGMENTS.items()
    ]
    path = coco.with_name("panoptic_val2017.json")
    path.write_text(json.dumps(document))
    for n, found in SEGMENTS.items():
        draw_segments(path.with_suffix("") / f"{n}.png", 0, *found)
    return path


def classes_of(photos: Path, labels: Path) -> npt.NDArray[np.int64]:
    """The class index of each pixel of each image, ``(n, 24, 24)``."""
    found = read_folder_labels(photos, labels).table
    assert found.tasks["segmentation"].classes == tuple(
        category["name"] for category in json.loads(labels.read_text())["categories"]
    )
    maps: npt.NDArray[np.int64] = load_labels(found, 24)["segmentation"].numpy()
    return maps.reshape(-1, 24, 24).astype(np.int64)


def test_panoptic_masks_are_classes_by_the_segments_of_their_image(panoptic: Path, tmp_path: Path) -> None:
    found = classes_of(tmp_path / "val2017", panoptic)
    assert found[0, 0, :4].tolist() == [-1, 1, 0, 2]
    assert found[1, 0, :4].tolist() == [-1, 0, -1, 0]
    assert (found[2] == -1).all()  # no annotation
    document = json.loads(panoptic.read_text())
    for category, name in zip(document["categories"], ("30", "10", "20"), strict=True):
        category["name"] = name
    panoptic.write_text(json.dumps(document))
    assert np.array_equal(classes_of(tmp_path / "val2017", panoptic), found)


def test_a_release_of_panoptic_annotations_has_their_masks(panoptic: Path, tmp_path: Path) -> None:
    photos = tmp_path / "val2017"
    mtlue(
        "protect", photos, "--labels", panoptic, "--weights", "default", "--key", key_file(tmp_path), "--device", "cpu"
    )
    release = tmp_path / "val2017-protected"
    # As panopticapi reads it; pycocotools has no reader of panoptic annotations.
    before, after = (json.loads(path.read_text()) for path in (panoptic, release / panoptic.name))
    assert (after["categories"], after["annotations"]) == (before["categories"], before["annotations"])
    photo_of = {image["id"]: image["file_name"] for image in after["images"]}
    assert photo_of == {10: "0.png", 11: "1.png", 12: "2.png"}
    for entry in after["annotations"]:
        mask = release / "panoptic_val2017" / entry["file_name"]
        assert mask.read_bytes() == (panoptic.with_suffix("") / entry["file_name"]).read_bytes()
        ids = np.asarray(Image.open(mask), dtype=int) @ [1, 256, 65536]
        assert set(np.unique(ids)) - {0} == {part["id"] for part in entry["segments_info"]}
        name = photo_of[entry["image_id"]]
        assert pixels_differ((photos / name).with_suffix(".jpg"), release / name)
    assert np.array_equal(classes_of(release, release / panoptic.name), classes_of(photos, panoptic))
    mtlue("inspect", release, "--against", photos)


def test_each_fault_of_a_panoptic_mask_names_its_image(panoptic: Path, tmp_path: Path) -> None:
    folder = panoptic.with_suffix("")
    draw_segments(folder / "0.png", 0, 5, 6, 70000)
    (folder / "1.png").unlink()
    document = json.loads(panoptic.read_text())
    document["annotations"].append({"image_id": 12, "file_name": "2.png", "segments_info": []})
    panoptic.write_text(json.dumps(document))
    draw_segments(folder / "2.png", 0, size=(12, 12))
    with pytest.raises(InputError) as caught:
        read_folder_labels(tmp_path / "val2017", panoptic)
    faults = "\n".join(caught.value.faults)
    assert f"image '10': column 'segmentation': 'panoptic_val2017/0.png' holds 6, {NO_ID}" in faults
    assert "image '11': column 'segmentation': no file 'panoptic_val2017/1.png'" in faults
    assert "'panoptic_val2017/2.png' has 12 x 12 pixels, its image 24 x 24: expected the same size" in faults
    document["annotations"][1]["file_name"] = "0.png"
    document["annotations"][2]["image_id"] = 10
    panoptic.write_text(json.dumps(document))
    with pytest.raises(InputError) as caught:
        read_folder_labels(tmp_path / "val2017", panoptic)
    faults = "\n".join(caught.value.faults)
    assert "mask 'panoptic_val2017/0.png' has several images" in faults
    assert "image '10' has several masks" in faults


@pytest.mark.parametrize("key", ["1e999", '"x"', "[]", "null"])
def test_segments_with_other_ids_are_no_coco(panoptic: Path, tmp_path: Path, key: str) -> None:
    panoptic.write_text(panoptic.read_text().replace("259", key))
    with pytest.raises(InputError, match=r"is not COCO: entry \d of annotations has another form"):
        read_folder_labels(tmp_path / "val2017", panoptic)


@pytest.fixture
def stuff(coco: Path) -> Path:
    document = json.loads(coco.read_text())
    document["categories"] = [
        {"id": key, "name": name} for key, name in ((92, "banner"), (94, "branch"), (183, "other"))
    ]
    document["annotations"] = [
        {"id": 1, "image_id": 10, "category_id": 94, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0},
        {"id": 2, "image_id": 11, "category_id": 92, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0},
        {"id": 3, "image_id": 11, "category_id": 183, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0},
    ]
    path = coco.with_name("stuff_val2017.json")
    path.write_text(json.dumps(document))
    draw_mask(path.with_name("stuff_val2017_pixelmaps") / "0.png", 0, 94, 94, 255, palette=True)
    draw_mask(path.with_name("stuff_val2017_pixelmaps") / "1.png", 183, 92)
    return path


def test_a_release_of_stuff_annotations_has_their_pixel_maps(stuff: Path, tmp_path: Path) -> None:
    photos = tmp_path / "val2017"
    found = classes_of(photos, stuff)
    assert found[0, 0, :4].tolist() == [-1, 1, 1, -1]
    assert found[1, 0, :4].tolist() == [2, 0, 2, 0]
    mtlue("protect", photos, "--labels", stuff, "--weights", "default", "--key", key_file(tmp_path), "--device", "cpu")
    release = tmp_path / "val2017-protected"
    after = COCO(str(release / stuff.name))
    assert after.dataset["annotations"] == COCO(str(stuff)).dataset["annotations"]
    for name in ("stuff_val2017_pixelmaps/0.png", "stuff_val2017_pixelmaps/1.png"):
        assert (release / name).read_bytes() == (stuff.parent / name).read_bytes()
    assert np.array_equal(classes_of(release, release / stuff.name), found)


def test_pixel_maps_hold_categories_only(stuff: Path, tmp_path: Path) -> None:
    folder = stuff.with_name("stuff_val2017_pixelmaps")
    draw_mask(folder / "0.png", 93, 94)
    (folder / "1.png").unlink()
    with pytest.raises(InputError) as caught:
        read_folder_labels(tmp_path / "val2017", stuff)
    faults = "\n".join(caught.value.faults)
    assert f"image '10': column 'segmentation': 'stuff_val2017_pixelmaps/0.png' holds 93, {NO_ID}" in faults
    assert "image '11': column 'segmentation': no file 'stuff_val2017_pixelmaps/1.png'" in faults


@pytest.mark.parametrize("text", ["[]", "{}", '{"images": 1, "annotations": [], "categories": []}', "{"])
def test_other_json_is_refused(coco: Path, tmp_path: Path, text: str) -> None:
    coco.write_text(text)
    with pytest.raises(InputError, match="is not"):
        read_folder_labels(tmp_path / "val2017", coco)
