"""``--keep-metadata``: a switch as it was, and a list of groups."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from mtlue_cli.choices import ExitCode, MetadataGroup
from mtlue_cli.commands.app import app, loaded, with_bare_options
from mtlue_cli.errors import InputError
from mtlue_cli.options import built
from mtlue_cli.release.records import FOLDER, RUN_NAME, read_run
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.run import protect_folder
from tests.small_set import write_checkpoint, write_images

COPYRIGHT, CAMERA, PLACE = MetadataGroup.COPYRIGHT, MetadataGroup.CAMERA, MetadataGroup.PLACE
ALL = tuple(MetadataGroup)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a folder of photos."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    return tmp_path


def asked(*words: str) -> ProtectConfig:
    """What ``mtlue protect`` would be asked."""
    values = loaded("protect").make_context("protect", list(words)).params
    return built(ProtectConfig, {"split": None, **values}, labels=Path("labels.csv"))


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["photos"], False),
        (["photos", "--keep-metadata"], True),
        (["--keep-metadata", "photos"], True),
        (["photos", "--keep-metadata", "--overwrite"], True),
        (["photos", "--keep-metadata", "copyright"], (COPYRIGHT,)),
        (["--keep-metadata", "place, copyright", "photos"], (COPYRIGHT, PLACE)),
        (["photos", "--keep-metadata=camera,camera"], (CAMERA,)),
        (["photos", "--keep-metadata", "copyright,camera,time,description"], True),
        (["photos", "--keep-metadata", ",".join(ALL)], ALL),
    ],
)
def test_it_is_a_switch_or_takes_groups(words: list[str], kept: object) -> None:
    assert asked(*words).metadata == kept


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("text", "kept"), [("1", True), ("true", True), ("0", False), ("no", False), ("place,camera", (CAMERA, PLACE))]
)
def test_a_variable_means_what_it_meant_or_lists_groups(
    text: str, kept: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTLUE_PROTECT_KEEP_METADATA", text)
    assert asked("photos").metadata == kept


@pytest.mark.parametrize(
    ("value", "kept"),
    [("true", True), ("false", False), ('"copyright"', (COPYRIGHT,)), ('["place", "camera"]', (CAMERA, PLACE))],
)
def test_so_does_a_config_file(folder: Path, value: str, kept: object) -> None:
    (folder / "mtlue.toml").write_text(f"[protect]\nkeep-metadata = {value}\n")
    assert asked("photos", "--config", "mtlue.toml").metadata == kept


def test_unknown_groups_are_named(folder: Path) -> None:
    (folder / "labels.csv").write_text("file_name,a\n")
    words = ["protect", "photos", "--labels", "labels.csv", "--keep-metadata", "camera,gps"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == ExitCode.INPUT
    assert "--keep-metadata is gps, expected copyright, camera, time, description, place" in result.stderr
    for value in ("1", '["camera", "gps"]'):
        (folder / "mtlue.toml").write_text(f"[protect]\nkeep-metadata = {value}\n")
        assert CliRunner().invoke(app, ["protect", "photos", "--config", "mtlue.toml"]).exit_code == ExitCode.INPUT
    with pytest.raises(InputError, match="gps"):
        _ = ProtectConfig(Path("photos"), Path("labels.csv"), keep_metadata=("gps",)).metadata  # type: ignore[arg-type]


def test_bare_words_of_both_options() -> None:
    assert with_bare_options(["--json", "--keep-metadata"]) == ["--json", "-", "--keep-metadata", "true"]
    assert with_bare_options(["--keep-metadata", "a", "b"]) == ["--keep-metadata", "true", "a", "b"]


def test_a_release_keeps_the_groups_and_notes_them(tmp_path: Path) -> None:
    labels = write_images(tmp_path / "photos", count=3)
    exif = Image.Exif()
    exif[0x010F], exif[0x8298] = "Maker", "© Ada".encode()
    exif[0x8825] = {1: "N", 2: (51.0, 28.0, 38.0)}
    with Image.open(tmp_path / "photos" / "photo1.png") as opened:
        opened.save(tmp_path / "photos" / "photo1.png", exif=exif.tobytes(), icc_profile=b"no profile")
    weights = write_checkpoint(tmp_path / "generator.safetensors")

    def release(kept: object) -> tuple[bytes, object]:
        config = ProtectConfig(
            tmp_path / "photos",
            labels,
            weights=str(weights),
            device="cpu",
            keep_metadata=kept,  # type: ignore[arg-type]  # as a user of the Python API gives it
            overwrite=True,
        )
        result = protect_folder(config, SilentProgress())
        (warning,) = result.warnings
        assert "1 photo protected without the colour profile" in warning
        assert "photo1.png" in warning
        assert read_run(result.release).keep_metadata == config.metadata
        reported = json.loads((result.release / FOLDER / RUN_NAME).read_text())["keep_metadata"]
        return (result.release / "photo1.png").read_bytes(), reported

    for kept, expected, recorded in (
        (False, set(), False),
        (True, {"maker", "copyright"}, True),
        (("place",), {"place"}, ["place"]),
        (("copyright", "camera"), {"maker", "copyright"}, ["copyright", "camera"]),
    ):
        content, reported = release(kept)
        assert reported == recorded
        with Image.open(io.BytesIO(content)) as opened:
            places = {2} & set(opened.getexif().get_ifd(0x8825))
        found = {name for name, text in (("maker", b"Maker"), ("copyright", "© Ada".encode())) if text in content}
        assert found | ({"place"} if places else set()) == expected
