import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs
from PIL import Image

from mtlue_cli.choices import ImageFormat
from mtlue_cli.files import file_digest
from mtlue_cli.release.records import FOLDER, Manifest, read_run, write_run
from mtlue_cli.release.seal import NOT_AUTHENTICATED
from mtlue_cli.verification.audit import Audit, audit_release
from tests.verification.made_release import (
    EPSILON,
    MadeSet,
    make_release,
    make_set,
    quarantine_first,
    save_manifest,
    useless,
)

Damage = Callable[[Path, Manifest], None]


@pytest.fixture
def made(tmp_path: Path) -> MadeSet:
    return make_set(tmp_path / "clean", count=6)


def _audit(made: MadeSet, release: Path) -> Audit:
    return audit_release(release, made.images, made.table)


def test_a_whole_release_has_no_faults(made: MadeSet, tmp_path: Path) -> None:
    make_release(made, tmp_path / "release")
    seen: list[int] = []
    audit = audit_release(tmp_path / "release", made.images, made.table, on_file=lambda: seen.append(1))
    assert audit.faults == ()
    assert audit.notes == (f"the records are {NOT_AUTHENTICATED}",)
    assert audit.measured == len(seen) == 6
    assert audit.max_change == EPSILON
    assert audit.released == {name: name for name in made.table.file_names}
    assert audit.trace is None


def test_a_keyed_release_says_how_it_is_traced(made: MadeSet, tmp_path: Path) -> None:
    release = tmp_path / "my release"
    make_release(made, release)
    write_run(release, structs.replace(read_run(release), key_fingerprint="ab" * 8, code_version=2))
    audit = _audit(made, release)
    assert audit.faults == ()
    assert audit.trace == f"mtlue trace probes CLEAN_PHOTOS --release '{release}' --out probes"


def _lose_file(release: Path, manifest: Manifest) -> None:
    (release / manifest.files[2].file_name).unlink()


def _change_byte(release: Path, manifest: Manifest) -> None:
    path = release / manifest.files[1].file_name
    path.write_bytes(path.read_bytes() + b"\0")


def _break_bound(release: Path, manifest: Manifest) -> None:
    record = manifest.files[0]
    pixels = np.array(Image.open(release / record.file_name))
    pixels[0, 0, 0] = 255
    Image.fromarray(pixels).save(release / record.file_name)
    repaired = structs.replace(record, sha256=file_digest(release / record.file_name), max_change=1.0)
    save_manifest(release, replace(manifest, files=(repaired, *manifest.files[1:])))


def _resize(release: Path, manifest: Manifest) -> None:
    path = release / manifest.files[0].file_name
    Image.open(path).resize((20, 20)).save(path)


def _no_image(release: Path, manifest: Manifest) -> None:
    (release / manifest.files[0].file_name).write_text("no image")


def _other_original(release: Path, manifest: Manifest) -> None:
    changed = structs.replace(manifest.files[3], source_sha256="1" * 64)
    save_manifest(release, replace(manifest, files=(*manifest.files[:3], changed, *manifest.files[4:])))


def _smuggle(release: Path, manifest: Manifest) -> None:
    shutil.copy(release / manifest.files[0].file_name, release / "extra.png")


def _forget(release: Path, manifest: Manifest) -> None:
    save_manifest(release, replace(manifest, files=manifest.files[1:]))


def _escape(release: Path, manifest: Manifest) -> None:
    changed = structs.replace(manifest.files[0], file_name="../clean/a/000.png")
    save_manifest(release, replace(manifest, files=(changed, *manifest.files[1:])))


def _interrupt(release: Path, manifest: Manifest) -> None:
    save_manifest(release, replace(manifest, run=structs.replace(manifest.run, complete=False)))


def _damage_manifest(release: Path, manifest: Manifest) -> None:  # noqa: ARG001 - a Damage
    (release / FOLDER / "run.json").write_text("{")


def _strange_format(release: Path, manifest: Manifest) -> None:
    save_manifest(release, replace(manifest, run=structs.replace(manifest.run, image_format="gif")))


def _lose_labels(release: Path, manifest: Manifest) -> None:  # noqa: ARG001 - a Damage
    (release / "labels.csv").unlink()


def _flip_label(release: Path, manifest: Manifest) -> None:
    lines = (release / "labels.csv").read_text().splitlines()
    name, green, red = lines[1].split(",")
    assert name == manifest.files[0].source
    lines[1] = f"{name},{1 - int(green)},{red}"
    (release / "labels.csv").write_text("\n".join(lines) + "\n")


def _drop_column(release: Path, manifest: Manifest) -> None:  # noqa: ARG001 - a Damage
    lines = [line.rsplit(",", 1)[0] for line in (release / "labels.csv").read_text().splitlines()]
    (release / "labels.csv").write_text("\n".join(lines) + "\n")


def _other_conditioning(release: Path, manifest: Manifest) -> None:
    record = manifest.files[0]
    changed = structs.replace(record, labels={**record.labels, "red": None})
    save_manifest(release, replace(manifest, files=(changed, *manifest.files[1:])))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_lose_file, "a/002.png: missing in the release"),
        (_change_byte, "b/001.png: its bytes are not those of the manifest"),
        (_break_bound, "a/000.png: changed by 1"),
        (_resize, "a/000.png: cannot be measured: 20 x 20 pixels"),
        (_no_image, "a/000.png: cannot be measured: the released file"),
        (_other_original, "b/003.png: the original is not the one"),
        (_smuggle, "extra.png: not in the manifest"),
        (_forget, "a/000.png: not in the manifest"),
        (_escape, "leaves the image folder"),
        (_interrupt, "unfinished"),
        (_damage_manifest, "damaged"),
        (_strange_format, "Invalid enum value 'gif' - at `$.image_format`"),
        (_lose_labels, "labels.csv cannot be read"),
        (_flip_label, "labels.csv: a/000.png, green:"),
        (_drop_column, "labels.csv: column 'red' is missing"),
        (_other_conditioning, "a/000.png: protected with red empty"),
    ],
)
def test_each_damage_is_found(made: MadeSet, tmp_path: Path, damage: Damage, message: str) -> None:
    release = tmp_path / "release"
    damage(release, make_release(made, release))
    faults = _audit(made, release).faults
    assert any(message in fault for fault in faults), faults


def test_all_faults_are_reported_together(made: MadeSet, tmp_path: Path) -> None:
    release = tmp_path / "release"
    manifest = make_release(made, release)
    _lose_file(release, manifest)
    _change_byte(release, manifest)
    _flip_label(release, manifest)
    assert len(_audit(made, release).faults) == 3


def test_a_quarantined_image_is_left_out_and_no_fault(made: MadeSet, tmp_path: Path) -> None:
    release = tmp_path / "release"
    name = quarantine_first(release, make_release(made, release))
    audit = _audit(made, release)
    assert audit.faults == ()
    assert audit.quarantined == {name: "damaged"}
    assert name not in audit.released
    assert "1 images are in quarantine" in audit.notes[0]


def test_a_quarantined_image_that_is_released_is_a_fault(made: MadeSet, tmp_path: Path) -> None:
    release = tmp_path / "release"
    name = quarantine_first(release, make_release(made, release))
    shutil.copy(made.images / name, release / name)
    assert _audit(made, release).faults == (f"{name}: not in the manifest, it may be unprotected",)


def test_lossy_compression_is_reported_and_not_enforced(tmp_path: Path) -> None:
    made = make_set(tmp_path / "clean", count=4)
    for name in made.table.file_names:
        Image.open(made.images / name).save(made.images / name, format="JPEG", quality=95, subsampling=0)
    release = tmp_path / "release"
    manifest = make_release(made, release, useless, epsilon=1)
    records = []
    for record in manifest.files:
        pixels = np.array(Image.open(made.images / record.source)).astype(int) + 3
        Image.fromarray(pixels.astype(np.uint8)).save(release / record.file_name, format="JPEG", quality=95)
        records.append(structs.replace(record, sha256=file_digest(release / record.file_name)))
    for image_format, faults in ((ImageFormat.KEEP, 0), (ImageFormat.PNG, 4)):
        save_manifest(release, Manifest(structs.replace(manifest.run, image_format=image_format), tuple(records), ()))
        audit = _audit(made, release)
        assert len(audit.faults) == faults, audit.faults
        assert audit.max_change is not None
        assert audit.max_change > 1
        assert any("4 files were compressed with loss" in note for note in audit.notes) is (faults == 0)


class TestReleaseOfAnotherTool:
    def test_files_match_by_stem_and_the_change_is_reported(self, made: MadeSet, tmp_path: Path) -> None:
        release = tmp_path / "release"
        for name in made.table.file_names:
            target = (release / name).with_suffix(".bmp")
            target.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.array(Image.open(made.images / name))
            Image.fromarray(pixels + np.uint8(7)).save(target)
        audit = _audit(made, release)
        assert audit.faults == ()
        assert not audit.manifest
        assert audit.max_change == 7
        assert audit.released["a/000.png"] == "a/000.bmp"
        assert "no manifest" in audit.notes[0]

    def test_an_original_in_place_of_a_released_file_is_a_fault(self, made: MadeSet, tmp_path: Path) -> None:
        release = tmp_path / "release"
        make_release(made, release)
        shutil.rmtree(release / FOLDER)
        Image.open(made.images / "a/000.png").save(release / "a/000.png")
        assert _audit(made, release).faults == ("a/000.png: is its original, unchanged",)

    def test_missing_and_ambiguous_files_are_faults(self, made: MadeSet, tmp_path: Path) -> None:
        release = tmp_path / "release"
        make_release(made, release)
        shutil.rmtree(release / FOLDER)
        (release / "a/000.png").unlink()
        Image.open(release / "b/001.png").save(release / "b/001.bmp")
        (release / "b/001.png").rename(release / "b/001.tif")
        assert _audit(made, release).faults == (
            "a/000.png: missing in the release",
            "b/001.png: several files match: b/001.bmp, b/001.tif",
        )

    def test_another_size_is_noted_and_not_measured(self, made: MadeSet, tmp_path: Path) -> None:
        release = tmp_path / "release"
        _resize(release, make_release(made, release))
        shutil.rmtree(release / FOLDER)
        audit = _audit(made, release)
        assert audit.faults == ()
        assert audit.measured == 5
        assert "1 files differ" in audit.notes[1]


class TestFilesWithoutALabelRow:
    """The labels that are given name only some of the manifest's files; all are checked."""

    def audit(self, made: MadeSet, release: Path) -> Audit:
        self.counts: list[int] = []
        table = made.table.take([4, 5])
        return audit_release(
            release, made.images, table, on_start=self.counts.append, on_file=lambda: self.counts.append(1)
        )

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (_lose_file, "a/002.png: missing in the release"),
            (_change_byte, "b/001.png: its bytes are not those of the manifest"),
            (_break_bound, "a/000.png: changed by 1"),
            (_other_original, "b/003.png: the original is not the one"),
            (_escape, "leaves the image folder"),
        ],
    )
    def test_their_damage_is_found(self, made: MadeSet, tmp_path: Path, damage: Damage, message: str) -> None:
        release = tmp_path / "release"
        damage(release, make_release(made, release))
        faults = self.audit(made, release).faults
        assert any(message in fault for fault in faults), faults

    def test_they_are_counted_and_not_trained_on(self, made: MadeSet, tmp_path: Path) -> None:
        make_release(made, tmp_path / "release")
        audit = self.audit(made, tmp_path / "release")
        assert audit.faults == ()
        assert audit.measured == 6
        assert self.counts == [6, *[1] * 6]
        assert list(audit.released) == ["a/004.png", "b/005.png"]
        assert len(audit.notes) == 2
        assert "4 files of the release have no row" in audit.notes[0]

    def test_without_an_original_only_the_hash_is_checked(self, made: MadeSet, tmp_path: Path) -> None:
        release = tmp_path / "release"
        manifest = make_release(made, release)
        (made.images / "a/000.png").unlink()
        (made.images / "b/001.png").unlink()
        audit = self.audit(made, release)
        assert audit.faults == ()
        assert audit.measured == 4
        assert "2 of them have no original" in audit.notes[1]
        _change_byte(release, manifest)
        assert self.audit(made, release).faults == ("b/001.png: its bytes are not those of the manifest",)


@pytest.mark.parametrize("has_records", [True, False])
@pytest.mark.parametrize("place", ["a/000.png", "more"])
def test_links_are_faults_with_a_manifest_and_without(
    made: MadeSet, tmp_path: Path, has_records: bool, place: str
) -> None:
    release = tmp_path / "release"
    make_release(made, release)
    if not has_records:
        shutil.rmtree(release / FOLDER)
    assert _audit(made, release).faults == ()
    if (release / place).exists():
        (release / place).rename(tmp_path / "away")
        (release / place).symlink_to(tmp_path / "away")
    else:
        (release / place).symlink_to(made.images)
    assert _audit(made, release).faults == (f"{place}: is a link; its target may be unprotected",)


def test_every_stranger_is_a_fault_whatever_it_is_called(made: MadeSet, tmp_path: Path) -> None:
    release = tmp_path / "release"
    make_release(made, release)
    names = (".hidden.png", ".mtlue/a.png", "a/orphan", "notes.txt", "orphan.bak", "orphan.heic", "orphan.jp2")
    for name in names:
        shutil.copy(made.images / "a/000.png", release / name)
    assert _audit(made, release).faults == tuple(
        f"{name}: not in the manifest, it may be unprotected" for name in sorted(names)
    )


def test_a_dangling_link_to_records_is_no_release_without_records(made: MadeSet, tmp_path: Path) -> None:
    release = tmp_path / "release"
    make_release(made, release)
    (release / FOLDER).rename(tmp_path / "away")
    (release / FOLDER).symlink_to(tmp_path / "nowhere")
    assert any("is not a release" in fault for fault in _audit(made, release).faults)
