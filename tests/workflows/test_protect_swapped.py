"""What is swapped while a run is under way: weights, originals, the release."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mtlue_cli.errors import CheckpointError, InputError, MtlueError
from mtlue_cli.generator import checkpoint
from mtlue_cli.generator.checkpoint import CheckpointCard, load_checkpoint
from mtlue_cli.release.records import FOLDER, Record, read_run
from mtlue_cli.release.release import Release
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.photos import PhotoSteps
from mtlue_cli.workflows.protect.plan import ProtectInputs, ProtectPlan, Weights, plan_protection
from mtlue_cli.workflows.protect.run import protect_folder
from tests.small_set import write_checkpoint, write_images


@pytest.fixture
def config(tmp_path: Path) -> ProtectConfig:
    labels = write_images(tmp_path / "photos")
    weights = write_checkpoint(tmp_path / "generator.safetensors")
    return ProtectConfig(tmp_path / "photos", labels, weights=str(weights), device="cpu", workers=1)


def before_each(kind: type, name: str, do: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run something, once, before a method."""
    original = getattr(kind, name)
    done: list[int] = []

    def method(*arguments: object) -> object:
        if not done:
            done.append(1)
            do()
        return original(*arguments)

    monkeypatch.setattr(kind, name, method)


def test_card_and_weights_of_a_checkpoint_are_of_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is swapped whenever its card has been read: the loaded card is that of the loaded weights."""
    path, other = tmp_path / "generator.safetensors", tmp_path / "other.safetensors"
    write_checkpoint(other, seed=1)
    digests = {
        file: load_checkpoint(write_checkpoint(file, seed=seed)).card.digest for file, seed in ((path, 0), (other, 1))
    }
    read = checkpoint._card_of

    def swapping(file: Path, metadata: dict[str, str]) -> CheckpointCard:
        card = read(file, metadata)
        path.write_bytes(other.read_bytes())
        return card

    monkeypatch.setattr(checkpoint, "_card_of", swapping)
    loaded = load_checkpoint(path)
    assert checkpoint.weights_digest(loaded.generator.state_dict()) == loaded.card.digest
    assert loaded.card.digest == digests[other]


def test_weights_that_are_swapped_after_the_plan_are_refused(
    config: ProtectConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swapping(config: ProtectConfig, inputs: ProtectInputs, weights: Weights) -> ProtectPlan:
        plan = plan_protection(config, inputs, weights)
        write_checkpoint(Path(str(config.weights)), seed=9)
        return plan

    monkeypatch.setattr("mtlue_cli.workflows.protect.run.plan_protection", swapping)
    with pytest.raises(InputError, match="were replaced by others"):
        protect_folder(config, SilentProgress())
    assert not config.release.exists()


def test_an_original_that_becomes_a_link_out_of_the_folder_is_quarantined(
    config: ProtectConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    photo = config.images / "photo5.png"
    secret = tmp_path / "secret.png"

    def swap() -> None:
        photo.rename(secret)
        photo.symlink_to(secret)

    before_each(PhotoSteps, "read", swap, monkeypatch)
    (left,) = protect_folder(config, SilentProgress()).quarantine
    assert left.source == "photo5.png"
    assert "leaves" in left.reason


def test_an_original_that_is_a_link_within_the_folder_is_read(config: ProtectConfig) -> None:
    (config.images / "photo5.png").rename(config.images / "sub" / "real.png")
    (config.images / "photo5.png").symlink_to("sub/real.png")
    assert protect_folder(config, SilentProgress()).protected == 7


@pytest.mark.parametrize("name", ["", "sub"])
def test_a_release_that_becomes_a_link_is_not_written_through(
    config: ProtectConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    swapped = config.release / name

    def swap() -> None:
        if swapped.exists():
            swapped.rename(tmp_path / "moved")
        swapped.symlink_to(elsewhere)

    before_each(PhotoSteps, "read", swap, monkeypatch)
    with pytest.raises(MtlueError, match=r"was replaced by another folder or a link|cannot be written"):
        protect_folder(config, SilentProgress())
    assert list(elsewhere.iterdir()) == []
    swapped.unlink()
    if (tmp_path / "moved").exists():
        (tmp_path / "moved").rename(swapped)
    monkeypatch.undo()
    assert protect_folder(config, SilentProgress()).release == config.release
    assert Release(config.release).check(config.images).faults == ()


def test_a_link_that_appears_in_a_release_keeps_it_from_being_called_complete(
    config: ProtectConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add = Release.add

    def linking(release: Release, record: Record) -> None:
        add(release, record)
        if not (config.release / "more").is_symlink():
            (config.release / "more").symlink_to(tmp_path)

    monkeypatch.setattr(Release, "add", linking)
    with pytest.raises(MtlueError, match=r"did not write appeared in .*: more .a link."):
        protect_folder(config, SilentProgress())
    assert not read_run(config.release).complete


@pytest.mark.parametrize(
    "name",
    [".MTLUE", ".mtlue\u200b", ".mt\ufe0flue", ".mtlue.", ".mtlue ", "LABELS.csv", "labels.csv\u200d", "mtlue~1"],
)
def test_a_folder_that_some_file_system_takes_for_the_records_or_the_labels_is_refused(
    config: ProtectConfig, name: str
) -> None:
    (config.images / name).mkdir()
    (config.images / "photo1.png").rename(config.images / name / "run.png")
    config.labels.write_text(config.labels.read_text().replace("photo1.png", f"{name}/run.png"))
    with pytest.raises(InputError, match=r"names that the release needs|is a folder, where"):
        protect_folder(config, SilentProgress())
    assert not config.release.exists()


def test_records_beside_a_release_are_checked_too(config: ProtectConfig) -> None:
    release = Release(config.release, beside=True)
    plain = protect_folder(replace(config, out=config.images.parent / "plain"), SilentProgress()).release
    (plain / FOLDER).rename(release.records)
    plain.rename(config.release)
    (config.release / FOLDER).write_text(f"{release.records.name}\n")
    assert release.check().faults == ()
    (release.records / "orphan").write_bytes(b"photo")
    assert release.check().faults == (f"{FOLDER}/orphan: not in the manifest, it may be unprotected",)


def test_a_checkpoint_of_odd_bytes_is_refused(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "generator.safetensors")
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(CheckpointError):
        load_checkpoint(path)
