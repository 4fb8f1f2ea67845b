"""Options are described once, in the fields of config classes."""

import shlex
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import pytest
from typer.testing import CliRunner

from mtlue_cli.choices import CPU_CALL_SIZE, FEWEST_IMAGES, GPU_CALL_SIZE, BackboneName, ExitCode
from mtlue_cli.commands.app import app
from mtlue_cli.options import Option, built, listed_names, option_fields, range_faults
from mtlue_cli.tasks.label_options import LabelOptions
from mtlue_cli.workflows.demo_config import DemoConfig
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.train.config import TrainConfig
from mtlue_cli.workflows.verify.config import VerifyConfig

CONFIGS = (DemoConfig, ProtectConfig, TrainConfig, VerifyConfig)


def test_a_listed_name_may_hold_commas_in_quotation_marks() -> None:
    assert listed_names(' a, b,, "c, d" ,"e"') == ("a", "b", "c, d", "e")
    assert listed_names('5" lens') == ('5" lens',)


@pytest.mark.parametrize("config", CONFIGS)
def test_flags_are_unique_and_every_option_says_what_it_does(config: type[object]) -> None:
    found = [each.option for each in option_fields(config) if each.option.flags]
    words = [word for option in found for word in option.flags.replace("/", " ").split()]
    assert len(set(words)) == len(words)
    assert all(option.help.endswith(".") and option.panel for option in found)


@dataclass(frozen=True)
class Described:
    """Options of a command.

    Attributes:
        most_images: Images that are used, at most {FEWEST_IMAGES}. Whatever
            is on further lines belongs to it.
        folder: Where.
        kind: One of {ObjectiveName}.
    """

    most_images: Annotated[int, Option(panel="Input", minimum=1)] = 3
    folder: Annotated[Path, Option(argument=True)] = Path()
    kind: Annotated[str, Option(flags="--kind -k", help="Said here.")] = "em"


def test_the_help_is_what_the_docstring_says_and_flags_are_the_name_unless_given() -> None:
    options = {each.name: each.option for each in option_fields(Described)}
    assert options["most_images"].flag == "--most-images"
    expected = f"Images that are used, at most {FEWEST_IMAGES}. Whatever is on further lines belongs to it."
    assert options["most_images"].help == expected
    assert (options["folder"].flags, options["folder"].help) == ("", "Where.")
    assert (options["kind"].flags, options["kind"].help) == ("--kind -k", "Said here.")


def test_an_enum_in_a_help_text_is_its_values() -> None:
    options = {each.name: each.option for each in option_fields(VerifyConfig)}
    assert ", ".join(BackboneName) in options["backbones"].help


def test_variables_carry_the_command_where_the_option_is_its_own() -> None:
    options = {each.name: each.option for each in option_fields(ProtectConfig)}
    assert options["device"].variable("protect") == "MTLUE_DEVICE"
    assert options["out"].variable("protect") == "MTLUE_PROTECT_OUT"
    assert options["keep_metadata"].variable("protect") == "MTLUE_PROTECT_KEEP_METADATA"
    assert options["key"].variable("protect") is None


def test_what_is_not_given_leaves_the_default() -> None:
    nothing = {each.name: None for each in option_fields(DemoConfig)}
    assert built(DemoConfig, nothing) == DemoConfig()
    assert built(DemoConfig, nothing, train_count=3) == DemoConfig(train_count=3)
    assert built(DemoConfig, nothing | {"seed": 4}).seed == 4


def test_numbers_of_a_config_are_checked_by_their_options() -> None:
    sound = ProtectConfig(Path("photos"), Path("labels.csv"))
    assert range_faults(sound) == []
    assert range_faults(replace(sound, epsilon=65, workers=0)) == [
        "--epsilon is 65, expected 1 to 64",
        "--workers is 0, expected 1 to 256",
    ]
    assert range_faults(replace(sound, batch_size=0)) == ["--batch-size is 0, expected at least 1"]
    wrong = replace(sound, epsilon=8 / 255)  # type: ignore[arg-type]  # as a user of other libraries writes it
    (fault,) = range_faults(wrong)
    assert "is about 8/255, write --epsilon 8" in fault


@pytest.mark.parametrize("command", ["protect", "train-generator"])
@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("0.03", "expected an integer number of 255ths: 0.03 is about 8/255, write --epsilon 8"),
        ("8/255", "expected an integer number of 255ths: 8/255 is about 8/255, write --epsilon 8"),
        ("0.0001", "expected an integer number of 255ths: 0.0001 is about 0/255, write --epsilon 1"),
        ("8.5", "expected a whole number from 1 to 64"),
        ("0", "0, expected 1 to 64"),
        ("much", "expected a whole number from 1 to 64"),
    ],
)
def test_epsilon_is_an_integer_number_of_255ths(tmp_path: Path, command: str, text: str, advice: str) -> None:
    words = [command, str(tmp_path), "--out", str(tmp_path / "x.safetensors"), "--epsilon", text]
    result = CliRunner().invoke(app, words, env={"COLUMNS": "300", "NO_COLOR": "1"})
    assert result.exit_code == ExitCode.INPUT
    assert "Invalid value" in result.stderr
    assert advice in " ".join(result.stderr.split())
    assert list(tmp_path.iterdir()) == []


def test_the_help_of_the_batch_size_says_what_it_does() -> None:
    (option,) = (each.option for each in option_fields(ProtectConfig) if each.name == "batch_size")
    assert f"on a GPU, halved when memory runs out; auto: {GPU_CALL_SIZE}." in option.help
    assert f"No effect on a CPU, which always takes {CPU_CALL_SIZE}." in option.help


def test_a_config_has_an_option_for_each_field_but_for_those_of_other_callers() -> None:
    inner: dict[type[Any], set[str]] = {
        ProtectConfig: set(),
        DemoConfig: {
            *("train_count", "test_count", "image_size", "generator_size", "victim_size"),
            *("surrogate_epochs", "victim_epochs"),
            *("scene_count", "scene_test_count", "scene_size", "scene_epochs"),
        },
        TrainConfig: {"max_steps", "least_steps", "most_images", "private"},
        VerifyConfig: {"command_line"},
    }
    for config, names in inner.items():
        described = {each.name for each in option_fields(config)}
        assert {field.name for field in fields(config)} - described - {"reading"} == names


def test_the_commands_that_train_are_ready_for_a_shell() -> None:
    reading = LabelOptions(file_column="photo id")
    config = ProtectConfig(Path("my photos"), Path("l.csv"), reading=reading)
    given = ["my photos", "--labels", "l.csv", "--file-column", "photo id"]
    training = ["mtlue", "train-generator", *given, "--out", "weights.safetensors"]
    assert shlex.split(config.training_command) == training
    assert shlex.split(config.retraining_command) == ["mtlue", "protect", *given, "--overwrite", "--train", "MINUTES"]
