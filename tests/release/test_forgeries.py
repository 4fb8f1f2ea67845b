"""54 ways to tamper with a release: whoever holds its key, or trusts its signer, finds each of them.

Some forge the records too, as far as it goes without the key. Whoever has neither key nor signer nor originals cannot
find those: they are marked ``UNSEEN`` here and named in ``docs/threat-model.md``.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from PIL import Image

from mtlue_cli.errors import InputError
from mtlue_cli.files import file_digest
from mtlue_cli.keys import Key, find_key
from mtlue_cli.release.records import (
    FOLDER,
    LABELS_NAME,
    LOCK_NAME,
    MANIFEST_PATH,
    PLANNED_NAME,
    RUN_PATH,
    Record,
    RunRecord,
    read_manifest,
    run_content,
    settings_digest,
    write_manifest,
    write_run,
)
from mtlue_cli.release.release import Release
from mtlue_cli.release.seal import JOURNAL_NAME, SEAL_PATH, Sealer, Trust
from mtlue_cli.release.signing import read_public_key
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.run import protect_folder
from tests.small_set import write_checkpoint, write_images

pytest.importorskip("cryptography")

ONE, OTHER = "photo5.png", "photo1.png"
FORGER = Key(bytes(range(100, 132)))


@dataclass(frozen=True)
class Tampering:
    """What someone does to a release; ``seen`` without a key, a signer and the originals."""

    do: Callable[[Path, Path], object]
    seen: bool = True


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ProtectConfig:
    """Photos, one of which is damaged, and their signed release."""
    folder = tmp_path_factory.mktemp("made")
    labels = write_images(folder / "photos")
    (folder / "photos" / "photo4.jpg").write_bytes(b"no photo")
    weights = write_checkpoint(folder / "generator.safetensors")
    config = ProtectConfig(folder / "photos", labels, weights=str(weights), device="cpu", sign=folder / "signer")
    protect_folder(config, SilentProgress())
    return config


def forge(release: Path, change: Callable[[RunRecord], RunRecord] = lambda run: run, key: Key | None = FORGER) -> None:
    """Make the digests those of the files, and seal the whole with another key; None: remove the seal."""
    run = change(read_manifest(release).run)
    digests = {name: file_digest(release / name) for name in run.digests if name != RUN_PATH}
    if run.digests:
        digests[RUN_PATH] = settings_digest(structs.replace(run, digests={}).to_json())
    run = structs.replace(run, digests=digests)
    write_run(release, run)
    (release / SEAL_PATH).unlink()
    Sealer(key).seal(release, {RUN_PATH: hashlib.sha256(run_content(run)).hexdigest()})


def forge_records(
    release: Path,
    changes: Mapping[str, Mapping[str, Any]],
    left_out: tuple[str, ...] = (),
    **more: Any,  # noqa: ANN401
) -> None:
    """Change records by the name of their file, leave some out by their source, and forge the rest to fit."""
    manifest = read_manifest(release)
    files = [structs.replace(record, **changes.get(record.file_name, {})) for record in manifest.files]
    records: list[Record] = [*files, *manifest.quarantine]
    write_manifest(release, [record for record in records if record.source not in left_out])
    forge(release, **more)


def put_back(release: Path, photos: Path, *names: str) -> None:
    """Originals, saved once more, take the place of released files, and all records are forged."""
    for name in names:
        with Image.open(next(photos.glob(f"{name[:-4]}.*"))) as image:
            image.save(release / name, compress_level=1)
    forge_records(release, {name: {"sha256": file_digest(release / name)} for name in names})


def put_original_back(release: Path, photos: Path) -> None:
    shutil.copy(photos / ONE, release / ONE)
    forge_records(release, {ONE: {"sha256": file_digest(release / ONE)}})


def put_all_back(release: Path, photos: Path) -> None:
    put_back(release, photos, *(record.file_name for record in read_manifest(release).files))


def swap(release: Path, photos: Path, *, forged: bool = False) -> None:  # noqa: ARG001 - what all are given
    (release / ONE).rename(release / "third")
    (release / OTHER).rename(release / ONE)
    (release / "third").rename(release / OTHER)
    if forged:
        forge_records(release, {name: {"sha256": file_digest(release / name)} for name in (ONE, OTHER)})


def put(content: bytes | None, *names: str) -> Callable[[Path, Path], None]:
    """Write files; None: the bytes of an original."""

    def do(release: Path, photos: Path) -> None:
        for name in names:
            (release / name).parent.mkdir(exist_ok=True)
            (release / name).write_bytes((photos / OTHER).read_bytes() if content is None else content)

    return do


def relabel(release: Path, photos: Path, *, forged: bool = False) -> None:  # noqa: ARG001 - what all are given
    labels = release / LABELS_NAME
    labels.write_text(labels.read_text().replace(f"{OTHER},green", f"{OTHER},blue"))
    if forged:
        labelled = {record.file_name: record.labels for record in read_manifest(release).files}[OTHER]
        forge_records(release, {OTHER: {"labels": {**labelled, "colour": "blue"}}})


def edit_labels(change: Callable[[list[str]], list[str]], *, forged: bool = False) -> Callable[[Path, Path], None]:
    def do(release: Path, photos: Path) -> None:  # noqa: ARG001 - what all are given
        labels = release / LABELS_NAME
        labels.write_text("\n".join(change(labels.read_text().splitlines())) + "\n")
        if forged:
            forge(release)

    return do


def edit_run(forged: bool = True, key: Key | None = FORGER, **changes: Any) -> Callable[[Path, Path], None]:  # noqa: ANN401
    def do(release: Path, photos: Path) -> None:  # noqa: ARG001 - what all are given
        if forged:
            forge(release, lambda run: structs.replace(run, **changes), key)
        else:
            write_run(release, structs.replace(read_manifest(release).run, **changes))

    return do


def raise_epsilon(key: Key | None = FORGER, **changes: Any) -> Callable[[Path, Path], None]:  # noqa: ANN401
    """Epsilon becomes 255, and no record says how much its file changed on average."""

    def do(release: Path, photos: Path) -> None:  # noqa: ARG001 - what all are given
        unsaid = {record.file_name: {"mean_change": None} for record in read_manifest(release).files}
        forge_records(release, unsaid, change=lambda run: structs.replace(run, epsilon=255, **changes), key=key)

    return do


def edit_json(name: str, **changes: Any) -> Callable[[Path, Path], None]:  # noqa: ANN401 - any JSON
    def do(release: Path, photos: Path) -> None:  # noqa: ARG001 - what all are given
        changed = {**json.loads((release / name).read_text()), **changes}
        (release / name).write_text(json.dumps(changed, indent=2) + "\n")

    return do


def replaced_by(kind: Callable[[Path, Path], object], name: str = ONE) -> Callable[[Path, Path], None]:
    """Something else takes the place of a file, which ``kind`` is given with where the file went."""

    def do(release: Path, photos: Path) -> None:
        away = photos.parent / "away"
        away.unlink(missing_ok=True)
        (release / name).rename(away)
        kind(release / name, away)

    return do


def rename_with_its_records(release: Path, photos: Path) -> None:  # noqa: ARG001 - what all are given
    (release / ONE).rename(release / "new.png")
    labels = release / LABELS_NAME
    labels.write_text(labels.read_text().replace(ONE, "new.png"))
    forge_records(release, {ONE: {"file_name": "new.png"}})


def drop_with_its_records(release: Path, photos: Path) -> None:  # noqa: ARG001 - what all are given
    (release / ONE).unlink()
    labels = release / LABELS_NAME
    labels.write_text("".join(line for line in labels.read_text().splitlines(True) if not line.startswith(ONE)))
    forge_records(release, {}, left_out=(ONE,))


def pass_off_as_unfinished(release: Path, photos: Path) -> None:
    put(None, "more.png")(release, photos)
    edit_run(complete=False, forged=False)(release, photos)
    (release / FOLDER / PLANNED_NAME).write_text('["more.png"]')


def seal_as(key: Key | None, *, named: bool = False) -> Callable[[Path, Path], None]:
    def do(release: Path, photos: Path) -> None:
        owner = json.loads((release / SEAL_PATH).read_text())["key_fingerprint"]
        forge(release, key=key)
        if named:
            edit_json(SEAL_PATH, key_fingerprint=owner)(release, photos)

    return do


def keep_the_mac(release: Path, photos: Path) -> None:
    """The seal's own HMAC and signature stay, its digest becomes that of the forged run record."""
    before = json.loads((release / SEAL_PATH).read_text())
    edit_run(weights_name="other")(release, photos)
    files = json.loads((release / SEAL_PATH).read_text())["files"]
    (release / SEAL_PATH).write_text(json.dumps({**before, "files": files}, indent=2) + "\n")


def seal_of_another_release(release: Path, photos: Path) -> None:
    seal = (release / SEAL_PATH).read_bytes()
    edit_run(weights_name="other")(release, photos)
    (release / SEAL_PATH).write_bytes(seal)


def first_line_away(release: Path, photos: Path) -> None:  # noqa: ARG001 - what all are given
    path = release / MANIFEST_PATH
    path.write_bytes(path.read_bytes().split(b"\n", 1)[1])


UNSEEN = False
TAMPERINGS = {
    "a file is removed": Tampering(lambda release, _: (release / ONE).unlink()),
    "a bit of a file is flipped": Tampering(
        lambda release, _: (release / ONE).write_bytes((release / ONE).read_bytes()[:-1] + b"\0")
    ),
    "a file is emptied": Tampering(put(b"", ONE)),
    "an original takes its place": Tampering(lambda release, photos: shutil.copy(photos / ONE, release / ONE)),
    "an original takes its place and is recorded": Tampering(put_original_back),
    "an original is saved anew, all forged": Tampering(lambda release, photos: put_back(release, photos, ONE), UNSEEN),
    "all originals are saved anew, all forged": Tampering(put_all_back, UNSEEN),
    "two files are swapped": Tampering(swap),
    "two files are swapped, all forged": Tampering(lambda *given: swap(*given, forged=True), UNSEEN),
    "a file becomes a link": Tampering(replaced_by(lambda place, away: place.symlink_to(away))),
    "a file becomes a folder": Tampering(replaced_by(lambda place, _: place.mkdir())),
    "a file becomes a FIFO": Tampering(replaced_by(lambda place, _: os.mkfifo(place))),
    "a file is renamed": Tampering(lambda release, _: (release / ONE).rename(release / "new.png")),
    "a file is renamed, all forged": Tampering(rename_with_its_records, UNSEEN),
    "a file is dropped, all forged": Tampering(drop_with_its_records, UNSEEN),
    "a stranger": Tampering(put(None, "more.png")),
    "a stranger called HEIC": Tampering(put(None, "orphan.heic")),
    "a stranger called JPEG 2000": Tampering(put(None, "orphan.jp2")),
    "a stranger called a backup": Tampering(put(None, "orphan.bak")),
    "a stranger without suffix": Tampering(put(None, "orphan")),
    "a hidden stranger": Tampering(put(None, ".orphan.png")),
    "a stranger among the records": Tampering(put(None, f"{FOLDER}/orphan.png")),
    "a stranger in a hidden folder": Tampering(put(None, ".cache/orphan.png")),
    "a stranger called a half-written file": Tampering(put(None, ".orphan.12.tmp")),
    "a stranger called the lock": Tampering(put(None, f"{FOLDER}/{LOCK_NAME}")),
    "a stranger called the plan": Tampering(put(None, f"{FOLDER}/{PLANNED_NAME}")),
    "a stranger called the journal": Tampering(put(None, f"{FOLDER}/{JOURNAL_NAME}")),
    "a linked folder": Tampering(lambda release, photos: (release / "more").symlink_to(photos)),
    "a linked photo": Tampering(lambda release, photos: (release / "more.png").symlink_to(photos / ONE)),
    "the damaged original": Tampering(put(b"no photo", "photo4.png")),
    "a label changes": Tampering(relabel),
    "a label changes, all forged": Tampering(lambda *given: relabel(*given, forged=True), UNSEEN),
    "a row of the labels goes": Tampering(edit_labels(lambda rows: rows[:-1])),
    "a row of the labels goes, all forged": Tampering(edit_labels(lambda rows: rows[:-1], forged=True)),
    "a column comes, all forged": Tampering(
        edit_labels(lambda rows: [f"{row},x" for row in rows], forged=True), UNSEEN
    ),
    "the labels are removed": Tampering(lambda release, _: (release / LABELS_NAME).unlink()),
    "the labels become a link": Tampering(replaced_by(lambda place, away: place.symlink_to(away), LABELS_NAME)),
    "epsilon becomes 255": Tampering(edit_run(epsilon=255, forged=False)),
    "epsilon becomes 255, all forged": Tampering(raise_epsilon(), UNSEEN),
    "epsilon becomes 255, as in an older version": Tampering(raise_epsilon(None, digests={}), UNSEEN),
    "the weights get another name, all forged": Tampering(edit_run(weights_name="other"), UNSEEN),
    "a task goes, all forged": Tampering(edit_run(tasks=("colour",)), UNSEEN),
    "a finished run is passed off as unfinished": Tampering(pass_off_as_unfinished),
    "digests name a file outside": Tampering(
        lambda release, photos: edit_run(digests={"../photos/photo1.png": "0" * 64}, forged=False)(release, photos)
    ),
    "an unknown field": Tampering(edit_json(RUN_PATH, more=1)),
    "the run record is removed": Tampering(lambda release, _: (release / RUN_PATH).unlink()),
    "the manifest is removed": Tampering(lambda release, _: (release / MANIFEST_PATH).unlink()),
    "the manifest loses a line": Tampering(first_line_away),
    "the quarantine is hidden, all forged": Tampering(
        lambda release, _: forge_records(release, {}, left_out=("photo4.jpg",)), UNSEEN
    ),
    "a change is made smaller, all forged": Tampering(
        lambda release, _: forge_records(release, {ONE: {"max_change": 6.0, "mean_change": 3.0}}), UNSEEN
    ),
    "the seal is removed": Tampering(seal_as(None), UNSEEN),
    "the seal is another's, with the owner's name": Tampering(seal_as(FORGER, named=True), UNSEEN),
    "the seal covers the forged record by its word": Tampering(keep_the_mac, UNSEEN),
    "the seal is that of before": Tampering(seal_of_another_release),
}


def found(release: Path, trust: Trust) -> bool:
    """Whether a check says that something is wrong."""
    try:
        check = Release(release).check(trust=trust)
    except InputError:
        return True
    assert not (check.faults and check.authentication.by)
    return bool(check.faults)


def test_there_are_54() -> None:
    assert len(TAMPERINGS) == 54
    assert sum(tampering.seen for tampering in TAMPERINGS.values()) == 38


@pytest.mark.parametrize("name", TAMPERINGS)
def test_who_holds_the_key_or_trusts_the_signer_finds_it(name: str, made: ProtectConfig, tmp_path: Path) -> None:
    release, tampering = tmp_path / "release", TAMPERINGS[name]
    shutil.copytree(made.release, release)
    shutil.copytree(made.images, tmp_path / "photos")
    by_key, by_signer = Trust(key=find_key(None).key), Trust(signer=read_public_key(made.images.parent / "signer.pub"))
    for trust in (Trust(), by_key, by_signer):
        assert not found(release, trust)
    tampering.do(release, tmp_path / "photos")
    assert found(release, by_key)
    assert found(release, by_signer)
    assert found(release, Trust()) is tampering.seen


@pytest.mark.parametrize("name", [name for name, tampering in TAMPERINGS.items() if not tampering.seen])
def test_the_next_run_takes_up_nothing_that_was_forged(name: str, made: ProtectConfig, tmp_path: Path) -> None:
    """A seal must not be laundered: what the owner's key does not vouch for is protected again, whatever it says."""
    release = tmp_path / "release"
    shutil.copytree(made.release, release)
    TAMPERINGS[name].do(release, made.images)
    differs = bool(read_manifest(made.release).run.differences(read_manifest(release).run))
    if differs:  # which is refused as ever
        with pytest.raises(InputError, match="other settings"):
            protect_folder(replace(made, out=release), SilentProgress())
    protect_folder(replace(made, out=release, overwrite=differs), SilentProgress())
    files = {path.relative_to(release) for path in release.rglob("*") if path.is_file()}
    assert files == {path.relative_to(made.release) for path in made.release.rglob("*") if path.is_file()}
    for file in files - {Path(FOLDER) / LOCK_NAME}:
        assert (release / file).read_bytes() == (made.release / file).read_bytes(), file
