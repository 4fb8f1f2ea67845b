"""Copies of released photos: matched, aligned, measured; what cannot be is said and never counted as protected."""

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps
from typer.testing import CliRunner, Result

import mtlue_cli as mtlue
from mtlue_cli.choices import ExitCode, Unlabelled
from mtlue_cli.commands.app import app
from mtlue_cli.errors import InputError
from mtlue_cli.generator import shipped
from mtlue_cli.keys import VARIABLE
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.run import protect_folder
from mtlue_cli.workflows.trace.config import CopyConfig
from mtlue_cli.workflows.trace.copy import CopyFile, CopyResult, trace_copy
from tests.small_set import TASKS, write_checkpoint

Photo = Image.Image
DIGITS, OTHER = "0123456789abcdef" * 4, "fedcba9876543210" * 4


def drawn(seed: int, width: int = 160, height: int = 120) -> Photo:
    """A picture with soft light, shapes and fine texture."""
    rng = np.random.default_rng(seed)
    light = Image.fromarray(rng.integers(60, 196, (5, 6, 3), dtype=np.uint8)).resize((width, height), 3)
    pen = ImageDraw.Draw(light)
    for _ in range(14):
        x, y, reach = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(4, 26)
        colour = tuple(int(value) for value in rng.integers(40, 216, 3))
        shape = pen.ellipse if rng.random() < 0.5 else pen.rectangle
        shape((x - reach, y - reach / 2, x + reach, y + reach), fill=colour)
    noise = rng.normal(0, 3, (height, width, 1))
    return Image.fromarray(np.clip(np.asarray(light, float) + noise, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``photos``, their ``release``, and the weights."""
    place = tmp_path_factory.mktemp("trace")
    write_checkpoint(place / "weights.safetensors")
    photos(place / "photos")
    release_of(place)
    return place


def photos(place: Path, count: int = 8) -> None:
    place.mkdir()
    rows = [("file_name", *TASKS.names)]
    for index in range(count):
        drawn(index).save(place / f"photo{index}.png")
        rows.append((f"photo{index}.png", TASKS["colour"].classes[index % 3], str(index % 2)))
    with (place / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)


def release_of(place: Path, name: str = "release", **options: Any) -> Path:  # noqa: ANN401 - fields of the config
    given: dict[str, Any] = {
        "weights": str(place / "weights.safetensors"),
        "out": place / name,
        "device": "cpu",
    } | options
    protect_folder(ProtectConfig(place / "photos", place / "photos" / "labels.csv", **given), SilentProgress())
    return place / name


def traced(folder: Path, copies: Path, **options: Any) -> CopyResult:  # noqa: ANN401 - fields of the config
    given: dict[str, Any] = {"weights": folder / "weights.safetensors", "device": "cpu", "workers": 2} | options
    return trace_copy(CopyConfig(copies, folder / "release", **given), SilentProgress())


def exact(folder: Path, copies: Path, **options: Any) -> CopyResult:  # noqa: ANN401 - fields of the config
    return traced(folder, copies, against=folder / "photos", weights=None, **options)


def released(folder: Path, index: int = 1) -> Photo:
    return Image.open(folder / "release" / f"photo{index}.png").convert("RGB")


def jpeg(quality: int) -> Callable[[Photo], Photo]:
    def change(photo: Photo) -> Photo:
        stream = io.BytesIO()
        photo.convert("RGB").save(stream, "JPEG", quality=quality)
        return Image.open(io.BytesIO(stream.getvalue()))

    return change


def platform(photo: Photo) -> Photo:
    return jpeg(85)(photo.resize((120, 90), Image.Resampling.LANCZOS).filter(ImageFilter.UnsharpMask(1, 60, 0)))


def faded(photo: Photo) -> Photo:
    return ImageEnhance.Brightness(ImageEnhance.Contrast(photo).enhance(0.6)).enhance(1.2)


CHANGES: dict[str, tuple[Callable[[Photo], Photo], float, float]] = {
    "nothing": (lambda photo: photo, 0.99, 1.01),
    "jpeg 75": (jpeg(75), 0.93, 1.05),
    "half the size": (lambda photo: photo.resize((80, 60), Image.Resampling.BICUBIC), 0.93, 1.05),
    "stretched": (lambda photo: photo.resize((90, 130), Image.Resampling.BICUBIC), 0.93, 1.07),
    "platform": (platform, 0.9, 1.15),
    "less contrast, brighter": (faded, 0.9, 1.1),
    "mirrored": (ImageOps.mirror, 0.97, 1.03),
    "a quarter turn": (lambda photo: photo.transpose(Image.Transpose.ROTATE_90), 0.97, 1.03),
    "cropped": (lambda photo: photo.crop((9, 5, 151, 113)), 0.93, 1.07),
    "cropped, mirrored, jpeg": (lambda photo: jpeg(80)(ImageOps.mirror(photo.crop((30, 10, 150, 110)))), 0.85, 1.15),
    "blurred": (lambda photo: photo.filter(ImageFilter.GaussianBlur(3)), 0.9, 1.15),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_share_that_a_change_leaves(name: str, folder: Path, tmp_path: Path) -> None:
    change, least, most = CHANGES[name]
    change(released(folder)).convert("RGB").save(tmp_path / "photo1.png")
    for result in (exact(folder, tmp_path), traced(folder, tmp_path)):
        (one,) = result.files
        assert (one.status, one.released, one.matched_by) == ("measured", "photo1.png", "name"), one
        assert one.share is not None
        assert least <= one.share <= most, one
        assert one.share_low is not None
        assert one.share_high is not None
        assert one.share_low < one.share < one.share_high


def test_how_a_copy_lies_in_its_photo(folder: Path, tmp_path: Path) -> None:
    photo = released(folder)
    ImageOps.mirror(photo).save(tmp_path / "photo1.png")
    (one,) = exact(folder, tmp_path).files
    assert (one.mirrored, one.rotated) == (True, 0)
    assert one.covered == pytest.approx(1.0, abs=0.01)
    photo.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "photo1.png")  # 90 degrees clockwise
    (one,) = exact(folder, tmp_path).files
    assert (one.mirrored, one.rotated) == (False, 90)
    photo.crop((16, 12, 144, 108)).save(tmp_path / "photo1.png")
    (one,) = exact(folder, tmp_path).files
    assert one.covered == pytest.approx(0.64, abs=0.01)


def test_the_clean_original_has_nothing(folder: Path) -> None:
    result = exact(folder, folder / "photos")
    assert result.counts["measured"] == 8
    assert result.share is not None
    assert abs(result.share.mean) < 0.02
    result = traced(folder, folder / "photos")
    assert result.share is not None
    assert abs(result.share.mean) < 0.15
    assert all(one.share_low is not None and one.share_low < 0.1 for one in result.files)


def test_half_the_perturbation_is_half_the_share(folder: Path, tmp_path: Path) -> None:
    for index in range(8):
        pair = (np.asarray(released(folder, index), float), np.asarray(drawn(index), float))
        Image.fromarray(np.rint((pair[0] + pair[1]) / 2).astype(np.uint8)).save(tmp_path / f"photo{index}.png")
    for result, within in ((exact(folder, tmp_path), 0.03), (traced(folder, tmp_path), 0.1)):
        assert result.share is not None
        assert result.share.mean == pytest.approx(0.5, abs=within)
        assert result.share.low < 0.5 < result.share.high


def test_a_renamed_copy_is_found_by_its_picture(folder: Path, tmp_path: Path) -> None:
    for index in range(8):
        photo = released(folder, index)
        photo = ImageOps.mirror(photo) if index % 2 else photo.crop((8, 8, 150, 110))
        jpeg(70)(photo).save(tmp_path / f"x{7 - index}.jpg", quality=90)
    result = traced(folder, tmp_path)
    assert {one.name: one.released for one in result.files} == {f"x{7 - at}.jpg": f"photo{at}.png" for at in range(8)}
    assert {one.matched_by for one in result.files} == {"picture"}
    assert result.exit_code is ExitCode.SUCCESS


def test_small_crops_are_found_among_many_photos(tmp_path: Path) -> None:
    """Crops to two fifths of both sides, wherever they lie, under names that say nothing."""
    write_checkpoint(tmp_path / "weights.safetensors")
    photos(tmp_path / "photos", count=24)
    release_of(tmp_path)
    (tmp_path / "copies").mkdir()
    places = {3: (0, 0), 9: (90, 66), 14: (41, 60), 20: (77, 13)}
    for index, (left, top) in places.items():
        saved = Image.open(tmp_path / "release" / f"photo{index}.png").convert("RGB")
        jpeg(80)(saved.crop((left, top, left + 66, top + 50))).save(tmp_path / "copies" / f"crop-{index}.png")
    result = exact(tmp_path, tmp_path / "copies")
    assert {one.name: one.released for one in result.files} == {
        f"crop-{index}.png": f"photo{index}.png" for index in places
    }
    assert all(one.matched_by == "picture" and one.covered == pytest.approx(0.17, abs=0.02) for one in result.files)


def test_a_copy_with_another_photos_name_is_found_by_its_picture(folder: Path, tmp_path: Path) -> None:
    jpeg(90)(released(folder, 2)).save(tmp_path / "photo5.jpg", quality=95)
    (one,) = traced(folder, tmp_path).files
    assert (one.released, one.matched_by) == ("photo2.png", "picture")


def test_an_unrelated_photo_is_unmatched(folder: Path, tmp_path: Path) -> None:
    drawn(99).save(tmp_path / "photo3.png")
    jpeg(80)(released(folder)).save(tmp_path / "photo1.jpg")
    result = traced(folder, tmp_path)
    found = {one.name: one for one in result.files}
    assert found["photo3.png"].status == "unmatched"
    assert "photo3.png, which has its name, shows another" in str(found["photo3.png"].reason)
    assert found["photo3.png"].share is None
    assert (result.counts["measured"], result.counts["unmatched"]) == (1, 1)
    assert result.exit_code is ExitCode.QUARANTINE
    assert "1 copy could not be measured and counts as unprotected" in result.reason


def test_nothing_measured_is_inconclusive(folder: Path, tmp_path: Path) -> None:
    drawn(99).save(tmp_path / "a.png")
    Image.new("RGB", (100, 80), (9, 9, 9)).save(tmp_path / "black.png")
    result = traced(folder, tmp_path, least_share=0.0)
    assert {one.status for one in result.files} == {"unmatched"}
    assert (result.share, result.worth, result.exit_code) == (None, None, ExitCode.INCONCLUSIVE)


def test_two_released_photos_of_one_picture_are_ambiguous_unless_the_name_tells(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "weights.safetensors")
    photos(tmp_path / "photos", count=4)
    shutil.copy(tmp_path / "photos" / "photo0.png", tmp_path / "photos" / "photo2.png")
    release_of(tmp_path)
    copies = tmp_path / "copies"
    copies.mkdir()
    jpeg(85)(released(tmp_path, 0)).save(copies / "renamed.jpg")
    jpeg(85)(released(tmp_path, 2)).save(copies / "photo2.jpg")
    shutil.copy(tmp_path / "release" / "photo0.png", copies / "same bytes.png")
    found = {one.name: one for one in traced(tmp_path, copies).files}
    assert found["renamed.jpg"].status == "ambiguous"
    assert "photo0.png" in str(found["renamed.jpg"].reason)
    assert "photo2.png" in str(found["renamed.jpg"].reason)
    assert found["renamed.jpg"].share is None
    assert (found["photo2.jpg"].status, found["photo2.jpg"].released) == ("measured", "photo2.png")
    assert (found["same bytes.png"].matched_by, found["same bytes.png"].released) == ("content", "photo0.png")


@pytest.mark.parametrize("suffix", ["jpg", "webp", "png", "tif", "bmp", "avif"])
def test_formats(suffix: str, folder: Path, tmp_path: Path) -> None:
    try:
        released(folder).save(tmp_path / f"photo1.{suffix}", quality=85)
    except (OSError, KeyError, ValueError) as error:
        pytest.skip(f"Pillow cannot write {suffix} here: {error}")
    (one,) = exact(folder, tmp_path / f"photo1.{suffix}").files
    assert one.share == pytest.approx(1.0, abs=0.1)


def test_heic(folder: Path, tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    released(folder).save(tmp_path / "photo1.heic", quality=85)
    (one,) = exact(folder, tmp_path).files
    assert one.share == pytest.approx(1.0, abs=0.1)


def test_a_grey_copy_has_what_stands_in_brightness(folder: Path, tmp_path: Path) -> None:
    released(folder).convert("L").save(tmp_path / "photo1.png")
    (one,) = exact(folder, tmp_path).files
    delta = np.asarray(released(folder), float) - np.asarray(drawn(1), float)
    delta -= delta.mean(axis=(0, 1))
    luma = delta @ [0.299, 0.587, 0.114]
    left = (luma * delta.sum(axis=2)).sum() / np.square(delta).sum()
    assert 0.02 < left < 0.9
    assert one.share == pytest.approx(left, abs=0.1)


def test_alpha_and_orientation_of_a_copy(folder: Path, tmp_path: Path) -> None:
    photo = released(folder)
    turned = photo.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown a quarter turn clockwise
    turned.save(tmp_path / "photo1.jpg", quality=95, exif=exif)
    (one,) = exact(folder, tmp_path).files
    assert (one.rotated, one.mirrored) == (0, False)
    assert one.share == pytest.approx(1.0, abs=0.05)
    (tmp_path / "photo1.jpg").unlink()
    opacity = Image.new("L", photo.size, 255)
    ImageDraw.Draw(opacity).rectangle((0, 0, 60, 50), fill=0)
    photo.putalpha(opacity)
    photo.save(tmp_path / "photo1.png")
    (one,) = exact(folder, tmp_path).files
    assert one.status == "measured"
    assert one.share == pytest.approx(1.0, abs=0.1)


def test_hostile_files_are_unreadable_and_counted(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "photo1.png").write_bytes(b"no image")
    (tmp_path / "photo2.png").write_bytes(b"")
    content = (folder / "release" / "photo3.png").read_bytes()
    (tmp_path / "photo3.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "photo4.png").symlink_to("nowhere.png")
    frames = [drawn(1), drawn(2)]
    frames[0].save(tmp_path / "photo5.gif", save_all=True, append_images=frames[1:])
    result = traced(folder, tmp_path)
    assert {one.status for one in result.files} == {"unreadable"}
    assert result.counts["unreadable"] == 5
    assert result.exit_code is ExitCode.INCONCLUSIVE


def test_a_photo_that_is_too_large_is_unreadable(folder: Path, tmp_path: Path) -> None:
    released(folder).save(tmp_path / "photo1.png")
    result = mtlue.trace.copy(
        tmp_path, release=folder / "release", against=folder / "photos", max_pixels=1000, device="cpu"
    )
    assert (result.files[0].status, "the limit is 1,000" in str(result.files[0].reason)) == ("unreadable", True)


def test_an_original_that_is_missing_is_said(folder: Path, tmp_path: Path) -> None:
    originals, copies = tmp_path / "originals", tmp_path / "copies"
    shutil.copytree(folder / "photos", originals)
    shutil.copytree(folder / "release", copies)
    (originals / "photo1.png").unlink()
    drawn(2, 80, 60).save(originals / "photo2.png")
    result = traced(folder, copies, against=originals)
    found = {one.name: one for one in result.files}
    assert found["photo1.png"].status == found["photo2.png"].status == "unmeasured"
    assert "its original photo1.png cannot be read" in str(found["photo1.png"].reason)
    assert "another size" in str(found["photo2.png"].reason)
    assert result.counts == {"measured": 6, "ambiguous": 0, "unmatched": 0, "unmeasured": 2, "unreadable": 0}


def test_without_originals_an_image_of_random_classes_measures_nothing(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "weights.safetensors")
    photos(tmp_path / "photos")
    labels = tmp_path / "photos" / "labels.csv"
    labels.write_text("".join(labels.read_text().splitlines(keepends=True)[:-1]))
    release_of(tmp_path, unlabelled=Unlabelled.PROTECT)
    found = {one.name: one for one in traced(tmp_path, tmp_path / "photos").files}
    assert (found["photo7.png"].status, found["photo6.png"].status) == ("unmeasured", "measured")
    assert "it was protected as one of random classes" in str(found["photo7.png"].reason)
    assert exact(tmp_path, tmp_path / "photos").counts["measured"] == 8


def test_copies_of_a_release_without_its_photos_are_unmatched(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "weights.safetensors")
    photos(tmp_path / "photos")
    release = release_of(tmp_path)
    for path in release.glob("*.png"):
        path.unlink()
    drawn(20).save(tmp_path / "copy.png")
    result = traced(tmp_path, tmp_path / "copy.png")
    assert (result.files[0].status, result.exit_code) == ("unmatched", ExitCode.INCONCLUSIVE)


def test_a_released_photo_that_is_not_as_released_measures_nothing(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "weights.safetensors")
    photos(tmp_path / "photos", count=3)
    release = release_of(tmp_path)
    copies = tmp_path / "copies"
    shutil.copytree(release, copies)
    shutil.copy(tmp_path / "photos" / "photo1.png", release / "photo1.png")  # the clean one in its place
    (one,) = (one for one in traced(tmp_path, copies).files if one.name == "photo1.png")
    assert one.status == "unmatched"
    assert "1 released photo left out as not as recorded" in str(one.reason)


def test_one_file(folder: Path, tmp_path: Path) -> None:
    jpeg(80)(released(folder, 4)).save(tmp_path / "IMG_0001.jpg")
    drawn(50).save(tmp_path / "other.png")
    result = traced(folder, tmp_path / "IMG_0001.jpg")
    assert [(one.name, one.released) for one in result.files] == [("IMG_0001.jpg", "photo4.png")]


def test_a_folder_without_images_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no image"):
        traced(folder, tmp_path)


def test_least_share(folder: Path, tmp_path: Path) -> None:
    for index in range(7):
        shutil.copy(folder / "release" / f"photo{index}.png", tmp_path)
    drawn(7).save(tmp_path / "photo7.png")  # one clean photo among them
    assert exact(folder, tmp_path, least_share=0.0).exit_code is ExitCode.SUCCESS
    assert exact(folder, tmp_path).exit_code is ExitCode.NOT_PROTECTED  # without asking for a share, too
    result = exact(folder, tmp_path, least_share=0.5)
    assert result.share is not None
    assert result.share.low > 0.5
    assert result.below == ("photo7.png",)
    assert result.exit_code is ExitCode.NOT_PROTECTED
    (tmp_path / "photo7.png").unlink()
    assert exact(folder, tmp_path).exit_code is ExitCode.SUCCESS
    assert exact(folder, tmp_path, least_share=0.9).exit_code is ExitCode.SUCCESS


# --- Weights and keys ---


def test_weights_are_found_by_their_digest(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released(folder).save(tmp_path / "photo1.png")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    with pytest.raises(InputError, match="neither shipped nor in") as caught:
        traced(folder, tmp_path, weights=None)
    assert "--weights FILE" in str(caught.value.hint)
    assert "--against" in str(caught.value.hint)
    other = write_checkpoint(tmp_path / "other.safetensors", seed=1)
    with pytest.raises(InputError, match="other weights than those of the release"):
        traced(folder, tmp_path, weights=other)
    store = tmp_path / "data" / "mtlue" / "weights"
    store.mkdir(parents=True)
    (store / "broken.safetensors").write_bytes(b"no weights")
    shutil.copy(folder / "weights.safetensors", store / "photos-0123.safetensors")
    assert traced(folder, tmp_path, weights=None).counts["measured"] == 1


def test_a_key_that_is_not_that_of_the_release_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights").mkdir()
    write_checkpoint(tmp_path / "weights" / "default.safetensors", None)
    monkeypatch.setattr(shipped, "weights_folder", lambda: tmp_path / "weights")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv(VARIABLE, DIGITS)
    photos(tmp_path / "photos")
    release = release_of(tmp_path, weights="default")
    result = traced(tmp_path, release, weights=None)
    assert result.share is not None
    assert result.share.mean == pytest.approx(1.0, abs=0.02)
    assert result.worth is None  # the table is of trained weights
    assert result.rows()["worth"] == "not measured for these weights"
    clean = traced(tmp_path, tmp_path / "photos", weights=None)
    assert clean.share is not None
    assert abs(clean.share.mean) < 0.15
    (tmp_path / "key").write_text(OTHER)
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(InputError, match="not that of the release") as caught:
        traced(tmp_path, release, weights=None, key=tmp_path / "key")
    assert OTHER not in str(caught.value) + str(caught.value.hint)
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(InputError, match="no key was given"):
        traced(tmp_path, release, weights=None)
    assert not (tmp_path / "config").exists()


def test_weights_that_take_no_key_refuse_one(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(OTHER)
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(InputError, match="take no key"):
        traced(folder, folder / "photos", key=tmp_path / "key")


# --- The command and the function ---


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["trace", "copy", *map(str, words)])


def test_the_command(folder: Path, tmp_path: Path) -> None:
    copies, page = tmp_path / "copies", tmp_path / "page.html"
    copies.mkdir()
    jpeg(75)(released(folder)).save(copies / "photo1.jpg")
    drawn(2).save(copies / "photo2.png")
    (copies / "<b>.png").write_bytes(b"no image")
    words = (copies, "--release", folder / "release", "--against", folder / "photos")
    result = run(*words, "--json", tmp_path / "result.json", "--report", page, "--least-share", 0)
    assert result.exit_code == ExitCode.QUARANTINE, result.output
    assert "photo1.jpg" in result.stdout
    assert "<b>.png: unreadable" in result.stderr
    document = json.loads((tmp_path / "result.json").read_text())
    assert (document["command"], document["schema_version"], document["method"]) == ("trace copy", 1, "originals")
    assert document["exit_code"] == ExitCode.QUARANTINE
    assert [set(one) for one in document["files"]] == [set(document["files"][0])] * 3
    assert {one["file"]: one["status"] for one in document["files"]}["photo1.jpg"] == "measured"
    text = page.read_text()
    assert "&lt;b&gt;.png" in text
    assert "<b>.png" not in text
    assert "<script" not in text
    assert run(*words).exit_code == ExitCode.NOT_PROTECTED
    assert run(*words, "--least-share", "1.5").exit_code == ExitCode.INPUT
    assert run(copies, "--release", copies).exit_code == ExitCode.INPUT


def test_the_function_is_the_command(folder: Path, tmp_path: Path) -> None:
    jpeg(75)(released(folder)).save(tmp_path / "photo1.jpg")
    result = mtlue.trace.copy(
        str(tmp_path), release=folder / "release", weights=folder / "weights.safetensors", device="cpu"
    )
    assert result == traced(folder, tmp_path)
    assert "share left" in result._repr_html_()
    with pytest.raises(InputError, match="least_share"):
        mtlue.trace.copy(tmp_path, release=folder / "release", least_share=2)
    with pytest.raises(TypeError, match="did you mean 'against'"):
        mtlue.trace.copy(tmp_path, release=folder / "release", againts=tmp_path)
    with pytest.raises(InputError) as caught:
        mtlue.trace.copy(tmp_path, release=tmp_path)
    assert "--" not in str(caught.value)


def test_every_status_has_a_reason(folder: Path) -> None:
    assert all((one.reason is None) == (one.status == "measured") for one in exact(folder, folder / "photos").files)
    assert isinstance(CopyFile(name="a", status="unreadable", reason="b").to_json()["file"], str)
