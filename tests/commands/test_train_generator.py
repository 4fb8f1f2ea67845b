import dataclasses
import inspect
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mtlue_cli.budget import Budget
from mtlue_cli.choices import TRAIN_MINUTES, ExitCode, LabelFormat, SplitPart
from mtlue_cli.commands.app import app
from mtlue_cli.commands.train_generator import train_generator
from mtlue_cli.generator.checkpoint import read_card
from mtlue_cli.images.synthetic import draw_set
from mtlue_cli.tasks.bins import Bins
from mtlue_cli.tasks.label_options import LabelOptions
from mtlue_cli.workflows.train.config import TrainConfig

pytestmark = pytest.mark.usefixtures("tiny_small")

QUICK = ("--size", "32", "--surrogate", "small", "--surrogate-epochs", "1", "--batch-size", "8", "--device", "cpu")

SHARED = {
    "--epsilon",
    "--batch-size",
    "--learning-rate",
    "--tasks",
    "--limit",
    "--overwrite",
    "--seed",
    "--device",
    "--workers",
}
"""Options that other commands read alike: their variables carry no command's name."""


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_set(tmp_path_factory.mktemp("drawn"), 24, size=32)


class Asked(Exception):
    """Carries the configuration that the command would have run."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config


def asked(labels: Path, *words: str, environment: Mapping[str, str] | None = None) -> TrainConfig:
    """The configuration that ``words`` lead to."""

    def stop(config: TrainConfig) -> None:
        raise Asked(config)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mtlue_cli.commands.train_generator.check_usage", stop)
        patch.setattr("mtlue_cli.commands.app._described", _reraise)
        result = CliRunner().invoke(
            app,
            ["train-generator", str(labels.parent), "--labels", str(labels), "--out", "g.safetensors", *words],
            env=environment,
        )
    assert isinstance(result.exception, Asked), result.output
    return result.exception.config


def _reraise(error: Exception) -> list[str]:
    raise error


def test_defaults_are_those_of_the_workflow_but_for_the_time(labels: Path) -> None:
    config = asked(labels)
    own = TrainConfig(labels.parent, labels, Path("g.safetensors"), max_minutes=TRAIN_MINUTES)
    assert config == own


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        ("--objective sep", "objective", "sep"),
        ("--size 48", "size", 48),
        ("--epsilon 4", "epsilon", 4),
        ("--epochs 3", "epochs", 3),
        ("--max-minutes 2.5", "max_minutes", 2.5),
        ("--surrogate resnet18", "surrogate", "resnet18"),
        ("--surrogate-epochs 2", "surrogate_epochs", 2),
        ("--intra-weight 0", "intra_weight", 0.0),
        ("--inter-weight 3", "inter_weight", 3.0),
        ("--batch-size 16", "batch_size", 16),
        ("--accumulate 2", "accumulate", 2),
        ("--learning-rate 0.01", "learning_rate", 0.01),
        ("--tasks colour,shape", "tasks", ("colour", "shape")),
        ("--limit 9", "limit", 9),
        ("--licence CC0", "licence", "CC0"),
        ("--contact-sheet s.png", "contact_sheet", Path("s.png")),
        ("--overwrite", "overwrite", True),
        ("--seed 5", "seed", 5),
        ("--device cpu", "device", "cpu"),
        ("--precision float32", "precision", "float32"),
        ("--workers 1", "workers", 1),
        ("--from utkface", "start", "utkface"),
    ],
)
def test_option_reaches_its_field_from_the_line_and_from_the_environment(
    labels: Path, words: str, field: str, value: object
) -> None:
    option, _, given = words.partition(" ")
    assert getattr(asked(labels, *words.split()), field) == value
    name = ("MTLUE_" if option in SHARED else "MTLUE_TRAIN_") + option[2:].replace("-", "_").upper()
    assert getattr(asked(labels, environment={name: given or "1"}), field) == value


def test_a_list_that_is_given_twice_is_one_list(labels: Path, tmp_path: Path) -> None:
    assert asked(labels, "--tasks", "colour", "--tasks", '"skin, tone",hue').tasks == ("colour", "skin, tone", "hue")
    assert asked(labels, "--surrogate", "small=3", "--surrogate", "imagenet-head").surrogate == "small=3,imagenet-head"
    assert asked(labels, environment={"MTLUE_TASKS": "skin tone,shape"}).tasks == ("skin tone", "shape")
    assert asked(labels, "--keep", "shape", environment={"MTLUE_TRAIN_KEEP": "colour"}).keep == ("shape",)
    config = tmp_path / "mtlue.toml"
    config.write_text('[train-generator]\ntasks = ["skin tone", "shape"]\nkeep = "colour"\n')
    found = asked(labels, "--config", str(config))
    assert (found.tasks, found.keep) == (("skin tone", "shape"), ("colour",))


def test_options_of_labels_reach_the_reader(labels: Path) -> None:
    words = "--file-column photo --missing-value NA --missing-value ? --bins age=2,9 --label-format csv --split test"
    reading = asked(labels, *words.split(), "--split-file", str(labels)).reading
    expected = LabelOptions(LabelFormat.CSV, "photo", ("NA", "?"), (Bins("age", ("2", "9")),), labels, SplitPart.TEST)
    assert reading == expected
    kinds = asked(labels, "--task", "m=segmentation:ignore=11", "--task", "far=depth:scale=0.1").reading.declarations
    assert [str(kind) for kind in kinds] == ["m=segmentation:ignore=11", "far=depth:scale=0.1"]
    assert asked(labels, environment={"MTLUE_TASK": "n=normals"}).reading.arguments(labels)[-2:] == (
        "--task",
        "n=normals",
    )
    assert asked(labels, environment={"MTLUE_FILE_COLUMN": "photo"}).reading.file_column == "photo"


@pytest.mark.parametrize("command", ["protect", "train-generator"])
def test_a_part_of_no_split_file_is_refused(labels: Path, command: str) -> None:
    words = [command, str(labels.parent), "--labels", str(labels), "--out", "g.safetensors", "--split", "test"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == ExitCode.INPUT
    assert "--split test is a part of --split-file" in result.stderr


def test_every_field_of_the_workflow_has_its_option() -> None:
    set_elsewhere = {"reading", "max_steps", "least_steps", "most_images", "private", "maps_folder"}
    fields = {field.name for field in (*dataclasses.fields(TrainConfig), *dataclasses.fields(LabelOptions))}
    offered = set(inspect.signature(train_generator).parameters) - {"context"}
    limits = {field.name for field in dataclasses.fields(Budget)}
    assert fields - set_elsewhere == offered - {"config", "quiet", "json_target", *limits}


def test_epochs_unset_the_default_time(labels: Path) -> None:
    assert asked(labels, "--epochs", "2").max_minutes is None


def test_epochs_and_minutes_exclude_each_other(labels: Path, tmp_path: Path) -> None:
    out = tmp_path / "g.safetensors"
    words = ["train-generator", str(labels.parent), "--labels", str(labels), "--out", str(out)]
    result = CliRunner().invoke(app, [*words, "--epochs", "1", "--max-minutes", "1"])
    assert result.exit_code == ExitCode.INPUT
    assert "cannot be used together" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_no_epoch_and_no_images_are_wrong_usage(labels: Path, tmp_path: Path) -> None:
    words = ["--labels", str(labels), "--out", str(tmp_path / "g.safetensors")]
    for given, fault in (([str(labels.parent), "--epochs", "0"], "--epochs"), ([], "IMAGES")):
        result = CliRunner().invoke(app, ["train-generator", *given, *words])
        assert result.exit_code == ExitCode.INPUT
        assert fault in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_missing_folder_and_label_file_are_wrong_usage(labels: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "g.safetensors")
    runner = CliRunner()
    nowhere = ["train-generator", str(tmp_path / "none"), "--labels", str(labels), "--out", out]
    assert runner.invoke(app, nowhere).exit_code == ExitCode.INPUT
    unlabelled = ["train-generator", str(labels.parent), "--labels", str(tmp_path / "none.csv"), "--out", out]
    assert runner.invoke(app, unlabelled).exit_code == ExitCode.INPUT
    assert list(tmp_path.iterdir()) == []


def test_faulty_labels_exit_with_2_and_leave_nothing(labels: Path, tmp_path: Path) -> None:
    faulty = tmp_path / "labels.csv"
    faulty.write_text(labels.read_text(encoding="utf-8") + "gone.png,circle,red,plain\n", encoding="utf-8")
    words = ["train-generator", str(labels.parent), "--labels", str(faulty), "--out", str(tmp_path / "g.safetensors")]
    result = CliRunner().invoke(app, [*words, *QUICK, "--epochs", "1"])
    assert result.exit_code == ExitCode.INPUT
    assert "gone.png" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["labels.csv"]


def test_trains_and_answers_with_table_next_step_and_json(labels: Path, tmp_path: Path) -> None:
    out, target = tmp_path / "g.safetensors", tmp_path / "result.json"
    header, *rows = labels.read_text(encoding="utf-8").splitlines()
    addresses = [f"{row},https://example.org/{number}" for number, row in enumerate(rows)]
    widened = tmp_path / "labels.csv"
    widened.write_text("\n".join([f"{header},source", *addresses]), encoding="utf-8")
    words = ["train-generator", str(labels.parent), "--labels", str(widened), "--out", str(out), "--epochs", "1"]
    wide = {"COLUMNS": "200"}
    result = CliRunner().invoke(app, [*words, *QUICK, "--licence", "CC0", "--json", str(target)], env=wide)
    assert result.exit_code == 0, result.output
    card = read_card(out)
    document: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
    assert document["schema_version"] == 1
    assert document["digest"] == card.digest
    assert document["tasks"] == card.tasks.to_json()
    assert card.tasks.names == tuple(header.split(",")[1:])
    assert [column["used"] for column in document["columns"]] == [True] * len(card.tasks) + [False]
    assert re.search(r"^source +web address +.*left out: it holds addresses$", result.stderr, re.MULTILINE)
    assert document["licence"] == card.licence == "CC0"
    assert document["steps"] == 3
    assert Path(document["contact_sheet"]).is_file()
    for text in ("circle, square, star, triangle", "8/255", "final loss", "follows shifted labels", card.digest):
        assert text in result.stdout
    assert not re.search("mean_change|agreement|intra|inter", result.stdout)  # no names of fields
    assert "device: " in result.stderr
    assert "warning: training was short: 3 steps" in " ".join(result.stderr.split())
    assert f"mtlue protect {labels.parent} --labels {widened} --weights {out}" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g.png", "g.safetensors", "labels.csv", "result.json"]
