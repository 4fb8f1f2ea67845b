import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from mtlue_cli.choices import ExitCode
from mtlue_cli.commands.app import app
from mtlue_cli.release.records import read_manifest
from tests.small_set import write_checkpoint, write_images

RUNNER = CliRunner()


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    labels = write_images(tmp_path / "photos", count=4)
    weights = write_checkpoint(tmp_path / "generator.safetensors")
    return ["protect", str(tmp_path / "photos"), "--labels", str(labels), "--weights", str(weights), "--device", "cpu"]


def run(arguments: list[str], *more: str) -> Result:
    return RUNNER.invoke(app, [*arguments, *more])


def test_a_folder_is_protected_and_the_result_shown(arguments: list[str], tmp_path: Path) -> None:
    result = run(arguments)
    assert result.exit_code == ExitCode.SUCCESS
    assert "4 protected, 0 already done, 0 in quarantine" in result.stdout
    assert "bound 8/255" in result.stdout
    assert "(mean of 4 files; 0 = identical, uniform noise of 8 levels 0.05)" in " ".join(result.stdout.split())
    assert re.search(r"change per file +smallest \d\.\d, median \d\.\d, largest \d\.\d levels", result.stdout)
    assert "device: cpu" in result.stderr
    assert len(read_manifest(tmp_path / "photos-protected").files) == 4


def test_options_reach_the_release(arguments: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--epsilon", "4", "--tasks", "colour", "--format", "webp", "--keep-metadata", "--batch-size", "2"]
    result = run(arguments, "--out", str(out), *options, "--json", "-", "--quiet")
    assert result.exit_code == ExitCode.SUCCESS
    document = json.loads(result.stdout)
    assert document["schema_version"] == 1
    assert (document["protected"], document["epsilon"], document["tasks"]) == (4, 4, ["colour"])
    assert document["unprotected_tasks"] == ["round"]
    assert 0.2 < document["mean_change"]["smallest"] <= document["mean_change"]["largest"] <= 4
    settings = read_manifest(out).run
    assert 0 < document["flip"]["mean"] < 0.2
    assert document["flip"] == settings.flip == {**settings.flip, "files": 4, "pixels_per_degree": 67}
    assert (settings.epsilon, settings.tasks, settings.image_format, settings.keep_metadata) == (
        4,
        ("colour",),
        "webp",
        True,
    )


def test_options_come_from_the_environment(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTLUE_PROTECT_EXCEPT", "colour")
    monkeypatch.setenv("MTLUE_PROTECT_FORMAT", "keep")
    assert run(arguments).exit_code == ExitCode.SUCCESS
    settings = read_manifest(tmp_path / "photos-protected").run
    assert (settings.tasks, settings.image_format) == (("round",), "keep")


def test_bad_images_end_with_exit_code_three_and_are_listed(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "photos" / "photo1.png").write_bytes(b"nothing")
    (tmp_path / "photos" / "stranger.png").write_bytes(b"nothing")
    result = run(arguments)
    assert result.exit_code == ExitCode.QUARANTINE
    assert "photo1.png: is not a supported image" in result.stderr
    assert "1 image without a row in the labels, not in the release:" in result.stderr
    assert "stranger.png" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch-size", "many"], "expected auto or a number"),
        (["--tasks", "colour", "--except", "round"], "cannot be used together"),
        (["--tasks", "age"], "no task 'age'"),
        (["--epsilon", "99"], "Invalid value"),
        (["--format", "gif"], "Invalid value"),
    ],
)
def test_wrong_usage_ends_with_exit_code_two(
    arguments: list[str], tmp_path: Path, options: list[str], message: str
) -> None:
    result = run(arguments, *options)
    assert result.exit_code == ExitCode.INPUT
    assert message in result.stderr
    assert not (tmp_path / "photos-protected").exists()


def test_every_label_fault_is_shown(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "photos" / "labels.csv").write_text("file_name,colour,round\n../a.png,red,1\nb.png,red\n")
    result = run(arguments)
    assert result.exit_code == ExitCode.INPUT
    assert "row 2" in result.stderr
    assert "row 3" in result.stderr


def test_labels_beside_the_images_need_no_option(arguments: list[str], tmp_path: Path) -> None:
    at = arguments.index("--labels")
    without = arguments[:at] + arguments[at + 2 :]
    found = run(without)
    assert found.exit_code == ExitCode.SUCCESS
    assert f"labels: {tmp_path / 'photos' / 'labels.csv'}" in found.stderr
    (tmp_path / "photos" / "labels.csv").rename(tmp_path / "photos" / "metadata.csv")
    assert "labels: " in run(without).stderr


def test_options_of_labels_reach_the_reader(arguments: list[str], tmp_path: Path) -> None:
    labels = tmp_path / "photos" / "labels.csv"
    text = labels.read_text().replace("file_name", "photo").replace("colour", "tint", 1)
    rows = [line.replace("red", "NA") for line in text.splitlines()]
    (tmp_path / "photos" / "labels.txt").write_text("\n".join(rows).replace(",", "\t").replace("tint", "colour"))
    at = arguments.index("--labels")
    words = [*arguments[: at + 1], str(tmp_path / "photos" / "labels.txt"), *arguments[at + 2 :]]
    options = ["--label-format", "tsv", "--file-column", "photo", "--missing-value", "NA", "--unlabelled", "fail"]
    # The row whose only protected cell is missing now has no label.
    assert run(words, *options, "--except", "round").exit_code == ExitCode.QUARANTINE
    released = (tmp_path / "photos-protected" / "labels.csv").read_text()
    assert released.startswith("photo,colour,round\n")
    assert "NA" not in released
    wrong = run(words, *options, "--bins", "colour=2,1")
    assert wrong.exit_code == ExitCode.INPUT
    assert "the edges must ascend" in wrong.stderr
    wrong = run(words, *options, "--bins", "colour=1")
    assert "'green' is not a number" in wrong.stderr


def everything(folder: Path) -> dict[str, bytes]:
    """Content of every file below ``folder``."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user without key or weights, whose folders are below ``tmp_path``."""
    monkeypatch.delenv("MTLUE_KEY", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def without_weights(arguments: list[str]) -> list[str]:
    at = arguments.index("--weights")
    return arguments[:at] + arguments[at + 2 :]


@pytest.mark.usefixtures("homeless")
@pytest.mark.parametrize("options", [[], ["--quick"], ["--train", "5"], ["--weights"]])
def test_a_dry_run_shows_what_would_be_done_and_writes_nothing(
    arguments: list[str], tmp_path: Path, options: list[str]
) -> None:
    words = arguments if options == ["--weights"] else [*without_weights(arguments), *options]
    before = everything(tmp_path)
    result = run(words, "--dry-run", "--json", "-")
    assert result.exit_code == ExitCode.SUCCESS, result.stderr
    assert everything(tmp_path) == before
    assert not (tmp_path / "photos-protected").exists()
    assert re.search(r"colour +categorical +red \(2\), blue \(1\), green \(1\) +protected", result.stderr)
    document = json.loads(result.stdout)
    assert (document["command"], document["images"], document["tasks"]) == ("protect --dry-run", 4, ["colour", "round"])
    assert document["training_minutes"] == (5 if "--train" in options else None)
    takes_patterns = "--quick" in options or not options
    assert any("turning the images grey undoes them" in line for line in document["warnings"]) == takes_patterns
    assert ("warning: the ready-made patterns" in result.stderr) == takes_patterns
    shown = run(words, "--dry-run")
    assert "dry run: nothing was written" in shown.stdout
    assert run(words).exit_code == ExitCode.SUCCESS if "--train" not in options else True
    if "--train" not in options:
        size = sum(len(content) for content in everything(tmp_path / "photos-protected").values())
        assert 0.5 * size < document["estimated_bytes"] < 1.5 * size


@pytest.mark.usefixtures("homeless")
def test_a_dry_run_warns_of_weights_for_many_columns(arguments: list[str], tmp_path: Path) -> None:
    labels = tmp_path / "photos" / "labels.csv"
    first, *rest = labels.read_text().splitlines()
    more = [f"{first}," + ",".join(f"extra{number}" for number in range(7))]
    more += [f"{line}," + ",".join("ab"[row % 2] for _ in range(7)) for row, line in enumerate(rest)]
    for lines, is_warned in (([first, *rest], False), (more, True)):
        labels.write_text("\n".join(lines) + "\n")
        result = run(without_weights(arguments), "--train", "5", "--dry-run")
        assert result.exit_code == ExitCode.SUCCESS, result.stderr
        assert ("turning the images grey removes the protection" in result.stderr) == is_warned
        assert f"with --visibility {'high' if is_warned else 'normal'}" in result.stdout


def test_a_dry_run_finds_the_faults_of_a_run(arguments: list[str], tmp_path: Path) -> None:
    labels = tmp_path / "photos" / "labels.csv"
    labels.write_text("file_name,colour,round\n../a.png,red,1\n")
    result = run(arguments, "--dry-run")
    assert result.exit_code == ExitCode.INPUT
    assert "leaves the image folder" in result.stderr
    assert run(arguments, "--dry-run", "--preview", "2").exit_code == ExitCode.INPUT


@pytest.mark.usefixtures("homeless")
def test_a_preview_is_a_picture_and_nothing_else(arguments: list[str], tmp_path: Path) -> None:
    for words in (arguments, [*without_weights(arguments), "--quick"]):
        before = everything(tmp_path)
        result = run(words, "--preview", "3")
        assert result.exit_code == ExitCode.SUCCESS, result.stderr
        sheet = tmp_path / "photos-protected-preview.png"
        assert "preview of 3 photos" in result.stdout
        assert everything(tmp_path).keys() - before.keys() == {sheet.name}
        picture = np.asarray(Image.open(sheet)).astype(int)
        assert picture.shape == (3 * (192 + 4) + 4, 3 * (192 + 4) + 4, 3)
        change = np.abs(picture[200:392, 4:196] - picture[4:196, 4:196])
        assert 0 < change.max() <= 8
        sheet.unlink()


def test_a_preview_leaves_a_release_alone_whose_original_is_damaged(arguments: list[str], tmp_path: Path) -> None:
    assert run(arguments).exit_code == ExitCode.SUCCESS
    before = everything(tmp_path / "photos-protected")
    first = next(name for name in (tmp_path / "photos" / "labels.csv").read_text().split("\n")[1:]).split(",")[0]
    (tmp_path / "photos" / first).write_bytes(b"")
    result = run(arguments, "--preview", "64")
    assert result.exit_code == ExitCode.SUCCESS, result.stderr
    assert f"not shown: {first}" in result.stderr
    assert everything(tmp_path / "photos-protected") == before


@pytest.mark.usefixtures("homeless")
def test_a_preview_of_weights_that_are_not_there_says_what_to_do(arguments: list[str], tmp_path: Path) -> None:
    result = run(without_weights(arguments), "--train", "1", "--preview", "3")
    assert result.exit_code == ExitCode.INPUT
    assert "no weights for a preview yet" in result.stderr
    assert "--quick" in result.stderr
    assert not list(tmp_path.glob("*.png"))


def test_a_column_whose_name_holds_a_comma_can_be_chosen_and_left_out(arguments: list[str], tmp_path: Path) -> None:
    labels = tmp_path / "photos" / "labels.csv"
    labels.write_text(labels.read_text().replace("file_name,colour", 'file_name,"colour, hue"'))
    at = arguments.index("--weights")
    words = [*arguments[: at + 1], "default", *arguments[at + 2 :], "--json", "-"]
    (tmp_path / "key").write_text("5aa5" * 16)
    (tmp_path / "key").chmod(0o600)
    words += ["--key", str(tmp_path / "key")]
    chosen = json.loads(run(words, "--out", str(tmp_path / "a"), "--tasks", "colour, hue").stdout)
    assert chosen["tasks"] == ["colour, hue"]
    left_out = json.loads(run(words, "--out", str(tmp_path / "b"), "--except", "colour, hue").stdout)
    assert left_out["tasks"] == ["round"]
