"""Options from config files: what takes precedence, and every fault by file, table and key."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner, Result

from mtlue_cli.choices import ExitCode, ImageFormat
from mtlue_cli.commands.app import Command, app, bounded
from mtlue_cli.commands.config_file import COMMANDS, typed, values_of_files
from mtlue_cli.commands.from_config import Given, command_of
from mtlue_cli.options import EPSILON, Device, Limit, Option, Seed, Tasks, Workers, option_fields, usable_threads
from mtlue_cli.tasks.bins import Bins
from mtlue_cli.tasks.label_options import LabelOptions
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.train.config import TrainConfig
from mtlue_cli.workflows.verify.config import VerifyConfig


@dataclass(frozen=True)
class Options:
    out: Annotated[Path | None, Option(flags="--out -o", help="A path.")] = None
    image_format: Annotated[ImageFormat, Option(flags="--format", help="A choice.")] = ImageFormat.PNG
    epsilon: Annotated[int | None, EPSILON] = None
    rate: Annotated[float, Option(flags="--rate", help="A number.", minimum=0.0, maximum=1.0, shared=True)] = 0.5
    control: Annotated[bool, Option(flags="--control/--no-control", help="A switch.")] = True
    weights: Annotated[str | None, Option(flags="--weights", help="Either.", file_or_name=True)] = None
    tasks: Tasks = None
    limit: Limit = None
    seed: Seed = 0
    device: Device = "auto"
    workers: Workers = field(default_factory=usable_threads)
    reading: LabelOptions = field(default_factory=LabelOptions)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ask(*words: str, environment: Mapping[str, str] | None = None) -> tuple[Result, Options | None]:
    """How ``mtlue demo`` with other options would answer, and what it would be asked."""
    asked: list[Options] = []

    @command_of("demo", Options)
    def command(given: Given) -> None:
        asked.append(given.build(Options))

    alone = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    alone.command(cls=Command)(bounded(command))
    result = CliRunner().invoke(alone, list(words), env=environment)
    return result, asked[0] if asked else None


def options(*words: str, environment: Mapping[str, str] | None = None) -> Options:
    result, asked = ask(*words, environment=environment)
    assert asked is not None, result.output
    return asked


def test_the_default_is_last_and_the_command_line_first(folder: Path) -> None:
    assert options().seed == 0
    (folder / "pyproject.toml").write_text("[tool.mtlue.demo]\nseed = 1\n")
    assert options().seed == 1
    (folder / "mtlue.toml").write_text("[demo]\nseed = 2\n")
    assert options("--config", "mtlue.toml").seed == 2
    assert options(environment={"MTLUE_CONFIG": "mtlue.toml"}).seed == 2
    assert options("--config", "mtlue.toml", environment={"MTLUE_SEED": "3"}).seed == 3
    assert options("--config", "mtlue.toml", "--seed", "4", environment={"MTLUE_SEED": "3"}).seed == 4
    assert options("--seed", "4").seed == 4


def test_files_are_merged_key_by_key_and_other_commands_have_their_own_table(folder: Path) -> None:
    (folder / "pyproject.toml").write_text(
        "[project]\nname = 'x'\n[tool.mtlue.demo]\nseed = 1\nlimit = 5\n[tool.mtlue.verify]\nseed = 9\n"
    )
    (folder / "mtlue.toml").write_text("[demo]\nseed = 2\n[protect]\nepsilon = 4\n")
    found = options("--config", "mtlue.toml")
    assert (found.seed, found.limit, found.epsilon) == (2, 5, None)


def test_a_path_that_does_not_fit_is_said_with_its_file_and_key(folder: Path) -> None:
    (folder / "mtlue.toml").write_text('[demo]\nsplit-file = "missing.txt"\n')
    result, asked = ask("--config", "mtlue.toml", environment={"COLUMNS": "300", "NO_COLOR": "1"})
    assert (result.exit_code, asked) == (ExitCode.INPUT, None)
    message = " ".join(result.stderr.split())
    assert f"mtlue.toml: demo.split-file: file '{folder / 'missing.txt'}' does not exist." in message
    (folder / "there.txt").touch()
    assert options("--config", "mtlue.toml", "--split-file", "there.txt").reading.split_file == Path("there.txt")


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ('format = "webp"', "image_format", ImageFormat.WEBP),
        ("epsilon = 4", "epsilon", 4),
        ("rate = 1", "rate", 1.0),
        ("rate = 0.25", "rate", 0.25),
        ("control = false", "control", False),
        ('tasks = "age,gender"', "tasks", ("age", "gender")),
        ('tasks = ["age", "gender"]', "tasks", ("age", "gender")),
        ('device = "cpu"', "device", "cpu"),
        ("workers = 3", "workers", 3),
        ('weights = "default"', "weights", "default"),
        ('bins = "age=2,9"', "reading", LabelOptions(bins=(Bins("age", ("2", "9")),))),
        ('missing-value = ["NA", "?"]', "reading", LabelOptions(missing_values=("NA", "?"))),
    ],
)
def test_every_kind_of_value(folder: Path, line: str, name: str, value: Any) -> None:  # noqa: ANN401 - a table's cell
    (folder / "mtlue.toml").write_text(f"[demo]\n{line}\n")
    assert getattr(options("--config", "mtlue.toml"), name) == value


def test_a_switch_is_turned_back_by_its_option(folder: Path) -> None:
    (folder / "mtlue.toml").write_text("[demo]\ncontrol = false\n")
    assert options("--config", "mtlue.toml", "--control").control is True


def test_the_default_of_a_command_holds_where_nothing_is_said() -> None:
    assert options() == Options()


def test_paths_are_relative_to_their_file(folder: Path) -> None:
    inner = folder / "project"
    inner.mkdir()
    (inner / "own.safetensors").touch()
    (inner / "mtlue.toml").write_text('[demo]\nout = "made"\nweights = "own.safetensors"\nsplit-file = "mtlue.toml"\n')
    found = options("--config", "project/mtlue.toml")
    assert found.out == inner / "made"
    assert found.weights == str(inner / "own.safetensors")
    assert found.reading.split_file == inner / "mtlue.toml"
    (inner / "mtlue.toml").write_text(f'[demo]\nout = "{folder}/there"\n')
    assert options("--config", "project/mtlue.toml").out == folder / "there"


def test_what_a_file_decides_is_said(folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[tool.mtlue.demo]\nseed = 1\ndevice = "cpu"\n')
    assert ask("--device", "auto")[0].stderr == "from a config file: --seed\n"
    assert ask("--quiet")[0].stderr == ""
    (folder / "pyproject.toml").unlink()
    assert ask()[0].stderr == ""


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[demo]\nsede = 1", "mtlue.toml: [demo] has no key sede; did you mean seed?"),
        ("[demo]\nno-control = true", "mtlue.toml: [demo] has no key no-control; did you mean control?"),
        ("[demo]\nconfig = 'x'", "mtlue.toml: [demo] has no key config; did you mean"),
        ("[dmo]\nseed = 1", "mtlue.toml: [dmo] is not a command; did you mean demo?"),
        ("seed = 1", "mtlue.toml: seed is outside the table of a command, such as [demo]"),
        ("demo = 1", "mtlue.toml: demo is outside the table of a command, such as [demo]"),
        ("[demo]\nseed = '1'", 'mtlue.toml: [demo] seed is "1", expected a whole number from 0 up'),
        ("[demo]\nseed = true", "mtlue.toml: [demo] seed is true, expected a whole number from 0 up"),
        ("[demo]\nseed = -1", "mtlue.toml: [demo] seed is -1, expected at least 0"),
        ("[demo]\nseed = 1.5", "mtlue.toml: [demo] seed is 1.5, expected a whole number from 0 up"),
        ("[demo]\nworkers = 257", "mtlue.toml: [demo] workers is 257, expected 1 to 256"),
        ("[demo]\nrate = 2", "mtlue.toml: [demo] rate is 2, expected 0 to 1"),
        ("[demo]\nrate = nan", "mtlue.toml: [demo] rate is nan, expected a number from 0 to 1"),
        ("[demo]\ncontrol = 1", "mtlue.toml: [demo] control is 1, expected true or false"),
        ("[demo]\nout = 1", "mtlue.toml: [demo] out is 1, expected text in quotation marks"),
        ("[demo]\ndevice = ['cpu']", "mtlue.toml: [demo] device is ['cpu'], expected text in quotation marks"),
        (
            "[demo]\nformat = 'wepb'",
            'mtlue.toml: [demo] format is "wepb", expected one of png, webp, jxl, keep; did you mean webp?',
        ),
        ("[demo]\nmissing-value = [1]", "mtlue.toml: [demo] missing-value is [1], expected text in quotation marks"),
        ("[demo]\nbins = 'age'", "mtlue.toml: [demo] bins is \"age\", --bins is not valid; 'age' names no column"),
        (
            "[demo]\nepsilon = 0.03",
            "mtlue.toml: [demo] epsilon is 0.03, expected an integer number of 255ths: 0.03 is about 8/255, "
            "write epsilon = 8",
        ),
        ("[demo]\nepsilon = 65", "mtlue.toml: [demo] epsilon is 65, expected 1 to 64"),
    ],
)
def test_a_fault_names_file_table_and_key(folder: Path, text: str, fault: str) -> None:
    (folder / "mtlue.toml").write_text(text)
    result, asked = ask("--config", "mtlue.toml", "--seed", "1")
    assert asked is None
    assert result.exit_code == ExitCode.INPUT
    assert result.stdout == ""
    assert f"  {fault}" in result.stderr


def test_all_faults_of_both_files_are_listed(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[tool.mtlue.demo]\nseed = -1\nlimit = 0\n[tool.mtlue.x]\n")
    (folder / "mtlue.toml").write_text("[demo]\nrate = 7\n")
    stderr = ask("--config", "mtlue.toml")[0].stderr
    assert "pyproject.toml: [tool.mtlue.demo] seed is -1" in stderr
    assert "pyproject.toml: [tool.mtlue.demo] limit is 0" in stderr
    assert "pyproject.toml: [tool.mtlue.x] is not a command" in stderr
    assert "mtlue.toml: [demo] rate is 7" in stderr


@pytest.mark.parametrize("content", [b"[demo\n", b"\xff\xfe"])
def test_what_is_no_toml_is_refused(folder: Path, content: bytes) -> None:
    (folder / "pyproject.toml").write_bytes(content)
    result, _ = ask()
    assert result.exit_code == ExitCode.INPUT
    assert "error: pyproject.toml is not a TOML file" in result.stderr


def test_tables_of_other_kinds_are_refused(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[tool]\nmtlue = 3\n")
    result, _ = ask()
    assert result.exit_code == ExitCode.INPUT
    assert "pyproject.toml: tool.mtlue is 3, expected a table" in result.stderr


def test_a_file_that_is_not_there_is_wrong_usage(folder: Path) -> None:
    result, _ = ask("--config", str(folder / "none.toml"))
    assert result.exit_code == ExitCode.INPUT
    assert "--config" in result.stderr


def test_help_is_given_whatever_the_files_hold(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[tool.mtlue]\nx = 1\n")
    for name in COMMANDS:
        assert CliRunner().invoke(app, [*typed(name).split(), "--help"]).exit_code == ExitCode.SUCCESS


def test_every_command_takes_a_config_file(folder: Path) -> None:
    (folder / "mtlue.toml").write_text("".join(f"[{name}]\nnonsense = 1\n" for name in COMMANDS))
    for name in COMMANDS:
        needed = [] if name == "demo" else [str(folder)]
        result = CliRunner().invoke(app, [*typed(name).split(), *needed, "--config", "mtlue.toml"])
        assert result.exit_code == ExitCode.INPUT
        assert f"mtlue.toml: [{name}] has no key nonsense" in result.stderr


@pytest.mark.parametrize("value", ["32", '"32"', '"auto"'])
def test_a_number_or_a_word(folder: Path, value: str) -> None:
    (folder / "mtlue.toml").write_text(f"[demo]\nbatch-size = {value}\n")
    sizes: list[int | None] = []

    @command_of("demo", ProtectConfig)
    def command(given: Given) -> None:
        sizes.append(given.build(ProtectConfig, labels=folder).batch_size)

    alone = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    alone.command(cls=Command)(bounded(command))
    result = CliRunner().invoke(alone, [str(folder), "--config", "mtlue.toml"])
    assert sizes == [None if value == '"auto"' else 32], result.output
    (folder / "mtlue.toml").write_text("[demo]\nbatch-size = 0\n")
    result = CliRunner().invoke(alone, [str(folder), "--config", "mtlue.toml"])
    assert "mtlue.toml: [demo] batch-size is 0, " in result.stderr


@pytest.mark.parametrize("position", range(2))
def test_the_examples_of_the_documents_are_understood(folder: Path, position: int) -> None:
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    example = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)[position]
    table = tomllib.loads(example)
    (folder / "pyproject.toml").write_text(example if "tool" in table else "")
    (folder / "mtlue.toml").write_text("" if "tool" in table else example)
    configs = {"protect": ProtectConfig, "train-generator": TrainConfig, "verify": VerifyConfig}
    tables = table.get("tool", {}).get("mtlue", table)
    for name in tables:
        found = values_of_files(name, list(option_fields(configs[name])), folder / "mtlue.toml")[0]
        assert len(found) == len(tables[name])
