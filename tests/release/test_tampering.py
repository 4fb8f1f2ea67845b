"""Eight ways to tamper with a release: ``inspect --against`` and ``verify`` both find each, with the same fault."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs
from typer.testing import CliRunner, Result

from mtlue_cli.choices import ExitCode
from mtlue_cli.commands.app import app
from mtlue_cli.files import file_digest
from mtlue_cli.release.records import FOLDER, LABELS_NAME, MANIFEST_NAME, RUN_NAME, read_manifest, write_manifest
from mtlue_cli.release.seal import SEAL_PATH
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.run import protect_folder
from tests.small_set import write_checkpoint, write_images
from tests.workflows.faulty_disk import rights_that_count

RUNNER = CliRunner()
PUT_BACK = "photo5.png"
QUARANTINED = "photo4.png"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> ProtectConfig:
    """Photos, one of which is damaged, and their release."""
    folder = tmp_path_factory.mktemp("whole")
    labels = write_images(folder / "photos")
    (folder / "photos" / "photo4.jpg").write_bytes(b"no photo")
    weights = write_checkpoint(folder / "generator.safetensors")
    config = ProtectConfig(folder / "photos", labels, weights=str(weights), device="cpu")
    protect_folder(config, SilentProgress())
    return config


@pytest.fixture
def config(whole: ProtectConfig, tmp_path: Path) -> ProtectConfig:
    """A copy of the release that a test may harm."""
    shutil.copytree(whole.release, tmp_path / "release")
    return replace(whole, out=tmp_path / "release")


def inspected(config: ProtectConfig) -> Result:
    words = ["inspect", config.release, "--against", config.images, "--json", "-"]
    return RUNNER.invoke(app, [*map(str, words), "--quiet"])


def verified(config: ProtectConfig) -> Result:
    words = ["verify", config.images, "--labels", config.labels, "--protected", config.release, "--tier", "smoke"]
    return RUNNER.invoke(app, [*map(str, words), "--device", "cpu", "--json", "-", "--quiet"])


def put_original_back(config: ProtectConfig) -> None:
    """An original takes the place of its released file, and the manifest line is rewritten to fit it."""
    manifest = read_manifest(config.release)
    shutil.copy(config.images / PUT_BACK, config.release / PUT_BACK)
    digest = file_digest(config.release / PUT_BACK)
    files = [
        structs.replace(record, sha256=digest) if record.source == PUT_BACK else record for record in manifest.files
    ]
    write_manifest(config.release, [*files, *manifest.quarantine])


def change_a_label(config: ProtectConfig) -> None:
    path = config.release / LABELS_NAME
    path.write_text(path.read_text().replace("photo1.png,green", "photo1.png,blue"))


def remove_a_file(config: ProtectConfig) -> None:
    (config.release / "photo1.png").unlink()


def add_a_file(config: ProtectConfig) -> None:
    shutil.copy(config.images / "photo1.png", config.release / "more.png")


def remove_a_line(config: ProtectConfig) -> None:
    manifest = read_manifest(config.release)
    write_manifest(config.release, [*manifest.files[1:], *manifest.quarantine])


def edit_run(config: ProtectConfig) -> None:
    path = config.release / FOLDER / RUN_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), "weights_name": "other"}))


def raise_epsilon(config: ProtectConfig) -> None:
    path = config.release / FOLDER / RUN_NAME
    path.write_text(path.read_text().replace('"epsilon": 8', '"epsilon": 16'))


def release_the_quarantined(config: ProtectConfig) -> None:
    shutil.copy(config.images / "photo4.jpg", config.release / QUARANTINED)


MANIFEST_CHANGED = f"{FOLDER}/{MANIFEST_NAME}: its bytes are not those that the run wrote"
RUN_CHANGED = f"{FOLDER}/{RUN_NAME}: its bytes are not those that the run wrote"


@pytest.mark.parametrize(
    ("tamper", "fault"),
    [
        (put_original_back, MANIFEST_CHANGED),
        (change_a_label, "labels.csv: photo1.png, colour: blue, expected green"),
        (remove_a_file, "photo1.png: missing in the release"),
        (add_a_file, "more.png: not in the manifest, it may be unprotected"),
        (remove_a_line, MANIFEST_CHANGED),
        (edit_run, RUN_CHANGED),
        (raise_epsilon, RUN_CHANGED),
        (release_the_quarantined, f"{QUARANTINED}: not in the manifest, it may be unprotected"),
    ],
)
def test_inspect_and_verify_find_the_same_faults(
    config: ProtectConfig, tamper: Callable[[ProtectConfig], None], fault: str
) -> None:
    tamper(config)
    looked, judged = inspected(config), verified(config)
    assert looked.exit_code == judged.exit_code == ExitCode.NOT_PROTECTED, judged.output
    faults = json.loads(looked.stdout)["faults"]
    assert fault in faults
    assert set(faults) <= set(json.loads(judged.stdout)["audit"]["faults"])


@pytest.mark.parametrize("name", ["a\0b", "../outside", "/etc/passwd", "\ud800"], ids=range(4))
def test_a_digest_of_what_no_release_holds_is_a_fault(config: ProtectConfig, name: str) -> None:
    path = config.release / FOLDER / RUN_NAME
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "digests": {**document["digests"], name: "0" * 64}}))
    looked = inspected(config)
    assert looked.exit_code in (ExitCode.NOT_PROTECTED, ExitCode.INPUT), looked.output
    assert "unexpected failure" not in looked.output


@pytest.mark.parametrize("folder", [f"{FOLDER}", ".", ".."])
def test_a_release_that_may_not_be_read_is_no_unexpected_failure(config: ProtectConfig, folder: str) -> None:
    place = (config.release / folder).resolve()
    mode = place.stat().st_mode
    place.chmod(0)
    try:
        with rights_that_count():
            for looked in (inspected(config), verified(config)):
                assert looked.exit_code in (ExitCode.INPUT, ExitCode.NOT_PROTECTED), looked.output
                assert "unexpected" not in looked.output
    finally:
        place.chmod(mode)


def test_a_release_that_nobody_touched_is_whole(config: ProtectConfig) -> None:
    assert inspected(config).exit_code == ExitCode.SUCCESS
    assert json.loads(inspected(config).stdout)["quarantined"][0]["file"] == "photo4.jpg"


def test_a_label_is_held_against_the_manifest_without_any_digest(config: ProtectConfig) -> None:
    """As in a release of an older version."""
    change_a_label(config)
    path = config.release / FOLDER / RUN_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), "digests": {}}))
    (config.release / SEAL_PATH).unlink()
    assert json.loads(inspected(config).stdout)["faults"] == ["labels.csv: photo1.png, colour: blue, expected green"]
