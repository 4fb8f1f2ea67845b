"""What the documents say of names, costs, commands and files is what the program has."""

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from mtlue_cli.choices import (
    BackboneName,
    CountermeasureName,
    LearnerName,
    MetricName,
    ProbeName,
    Tier,
    TrainingMethodName,
    WeightingName,
)
from mtlue_cli.commands.app import COMMANDS, app, loaded, trace, with_bare_options
from mtlue_cli.commands.from_config import ResultOptions
from mtlue_cli.commands.inspect import InspectOptions
from mtlue_cli.networks.backbones import BACKBONES
from mtlue_cli.options import built, option_fields
from mtlue_cli.training.methods import METHODS, method_named
from mtlue_cli.training.named_settings import assignments
from mtlue_cli.verification.countermeasures.registry import COUNTERMEASURES, countermeasure_named
from mtlue_cli.workflows.demo_config import DemoConfig
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.trace.config import CopyConfig, JudgeConfig, ProbesConfig
from mtlue_cli.workflows.train.config import TrainConfig
from mtlue_cli.workflows.verify.config import VerifyConfig, check_options
from tests.test_imports import LAYERS

ROOT = Path(__file__).parents[1]
DOCUMENTS = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "SECURITY.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    )
}
VERIFY = DOCUMENTS["docs/verify.md"]
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", flags=re.M | re.DOTALL)
CONFIGS: Mapping[str, tuple[type[Any], dict[str, Any]]] = {
    "demo": (DemoConfig, {}),
    "protect": (ProtectConfig, {"labels": Path("labels.csv")}),
    "train-generator": (TrainConfig, {"labels": Path("labels.csv")}),
    "verify": (VerifyConfig, {"labels": Path("labels.csv"), "command_line": ""}),
    "inspect": (InspectOptions, {}),
    "trace probes": (ProbesConfig, {}),
    "trace judge": (JudgeConfig, {}),
    "trace copy": (CopyConfig, {}),
}
"""Command to the class that its options build, and to the fields that come from elsewhere."""


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def _lines(language: str, block: str) -> Iterator[str]:
    """What a reader would type of a fenced block."""
    if language == "yaml":
        yield from (line for text in _texts(yaml.safe_load(block)) for line in text.splitlines())
    elif language == "toml":
        yield from (line.removeprefix("# ") for line in block.splitlines() if line.startswith("# mtlue "))
    elif language == "console":
        yield from (line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ "))
    elif language == "sh":
        yield from block.replace("\\\n", " ").splitlines()


def _commands(line: str) -> Iterator[list[str]]:
    """The words of each command in a shell line."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in (*lexer, ";"):
        if set(word) <= set(";&|"):
            if words:
                yield words
            words = []
        else:
            words.append(word)


SHELL = [
    (name, words)
    for name, text in DOCUMENTS.items()
    for language, block in FENCE.findall(text)
    for line in _lines(language, block)
    for words in _commands(line)
]
"""Document and words of every command in a fenced block."""

INLINE = [
    (name, [word for word in code.split() if word != "..."])
    for name, text in DOCUMENTS.items()
    for code in re.findall(r"`(mtlue [a-z-][^`]*)`", FENCE.sub("", text))
]
"""Document and words of every command within a sentence, which may leave out arguments."""

OF_MTLUE = [(name, words[1:]) for name, words in SHELL if words[0] == "mtlue"]


def _named(words: list[str]) -> str:
    return " ".join(words)[:100]


def command_named(words: list[str]) -> tuple[str, Any, list[str]]:
    """Name of the command that a line begins with, the command, and the words after its name."""
    count = 2 if words[:1] == ["trace"] and words[1:2] != ["--help"] else 1
    name = " ".join(words[:count])
    if name == "trace":
        return name, typer.main.get_group(trace), []
    assert name in COMMANDS, f"mtlue has no command {name}"
    return name, loaded(name), words[count:]


def parsed(command: Any, words: list[str]) -> dict[str, Any]:  # noqa: ANN401 - Typer's own command class
    """Parameter to what was typed; fails for an option that the command does not have."""
    context = command.context_class(command, info_name=command.name)
    found: dict[str, Any] = command.make_parser(context).parse_args(with_bare_options(words))[0]
    return found


@pytest.mark.parametrize(("document", "words"), OF_MTLUE, ids=[f"{name}: {_named(words)}" for name, words in OF_MTLUE])
def test_a_command_of_a_document_is_understood(
    document: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del document
    if words == ["--version"] or "--help" in words:
        return  # these are run below
    monkeypatch.chdir(tmp_path)
    name, command, rest = command_named(words)
    typed = parsed(command, rest)
    config, elsewhere = CONFIGS[name]
    for found in (*option_fields(config), *option_fields(ResultOptions)):
        if found.option.exists and typed.get(found.name) is not None:  # what must exist does so for the reader
            path = tmp_path / typed[found.name]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(exist_ok=True) if found.option.takes == "folder" else path.touch()
    values = command.make_context(name, rest).params
    made = built(config, {"split": None, **values}, **elsewhere)
    if isinstance(made, VerifyConfig):
        if made.protected is not None:
            made.protected.mkdir(parents=True, exist_ok=True)
        check_options(made)
        for name in made.countermeasures or ():
            countermeasure_named(name)
        for name in made.methods or ():
            method_named(name)


@pytest.mark.parametrize(("document", "words"), INLINE, ids=[f"{name}: {_named(words)}" for name, words in INLINE])
def test_a_command_within_a_sentence_has_these_options(document: str, words: list[str]) -> None:
    del document
    if words[1] != "--help" and words[1] != "COMMAND":
        _, command, rest = command_named(words[1:])
        if not hasattr(command, "commands"):  # a sentence may name all commands of trace
            parsed(command, rest)


def _needs_no_data(words: list[str]) -> bool:
    return words == ["--version"] or "--help" in words or (words[0] == "inspect" and words[1].startswith("weights/"))


RUNNABLE = [words for _, words in OF_MTLUE if _needs_no_data(words)]


def test_documents_show_commands_that_need_no_data() -> None:
    assert {words[0] for words in RUNNABLE} >= {"--version", "demo", "inspect"}


@pytest.mark.parametrize("words", RUNNABLE, ids=_named)
def test_a_command_that_needs_no_data_runs(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert result.output


def test_a_python_program_of_a_document_exists() -> None:
    programs = [words[1:] for _, words in SHELL if words[0] == "python"]
    inline = re.findall(r"`python ([^`]+)`", "\n".join(DOCUMENTS.values()))
    programs += [code.split() for code in inline]
    own = ("mtlue_cli", "benchmarks", "tests")
    found = 0
    for first, *rest in programs:
        path = f"{rest[0].replace('.', '/')}.py" if first == "-m" else first
        if path.startswith(own):
            package = ROOT / path.removesuffix(".py") / "__main__.py"
            assert (ROOT / path).is_file() or package.is_file(), path
            found += 1
    assert found >= 4


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_file_of_the_project_that_a_document_names_exists(name: str) -> None:
    text = DOCUMENTS[name]
    paths = re.findall(r"`((?:mtlue_cli|tests|docs|benchmarks|weights|\.ci|\.github)/[\w./-]*)`", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []
    if not name.startswith("docs/"):  # the links between the documents are checked as the site is built
        links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
        assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_layers_of_the_architecture_are_those_of_the_imports() -> None:
    table = rows_of(DOCUMENTS["docs/architecture.md"], "layer")
    assert [tuple(re.findall(r"[\w]+", layer)) for layer in table] == [tuple(layer) for layer in LAYERS]


def rows_of(text: str, header: str) -> dict[str, list[str]]:
    """First cell, without its backquotes, to the other cells of the table whose first header is ``header``."""
    table = text.split(f"| {header} |", 1)[1].split("\n\n", 1)[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {line[0].strip("`"): line[1:] for line in cells}


@pytest.mark.parametrize(
    "names",
    [BackboneName, LearnerName, WeightingName, TrainingMethodName, CountermeasureName, MetricName, ProbeName, Tier],
)
def test_every_choice_is_described(names: type[BackboneName]) -> None:
    words = set(re.findall(r"[\w-]+", VERIFY))
    assert {name.value for name in names} <= words


def test_the_table_of_countermeasures_is_the_registry() -> None:
    table = rows_of(VERIFY, "`--countermeasure`")
    assert table == {
        choice.name: [
            choice.title,
            ", ".join(f"`{line}`" for line in assignments(choice.settings)),
            f"{choice.settings.cost:g}",
            choice.tier.value,
            choice.settings.source,
        ]
        for choice in COUNTERMEASURES.values()
    }


def test_the_table_of_methods_gives_their_settings() -> None:
    table = rows_of(VERIFY, "`--method`")
    assert {name: line[1] for name, line in table.items()} == {
        name: ", ".join(f"`{line}`" for line in assignments(method.settings)) for name, method in METHODS.items()
    }


def test_the_table_of_backbones_gives_their_costs() -> None:
    table = rows_of(VERIFY, "`--backbone`")
    assert set(table) == {name.value for name in BackboneName}
    for name, spec in BACKBONES.items():
        assert float(table[name.value][0]) == pytest.approx(spec.relative_cost, rel=0.03)


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["weights"], "no command weights"),
        (["protect", "photos", "--lables", "labels.csv"], "--lables"),
        (["protect", "photos", "--epsilon", "900"], "900"),
        (["verify", "photos", "--protected", "release", "--countermeasure", "nothing"], "nothing"),
    ],
)
def test_the_check_itself_finds_what_is_not_understood(
    words: list[str], fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Exception, match=fault):
        test_a_command_of_a_document_is_understood("", words, tmp_path, monkeypatch)


def test_headline_and_help_promise_no_more_than_is_measured() -> None:
    described = [
        CliRunner().invoke(app, [*command, "--help"]).output for command in ([], *(name.split() for name in CONFIGS))
    ]
    assert len(described) == 9
    for text in (DOCUMENTS["README.md"], DOCUMENTS["docs/index.md"], *described):
        assert not re.search(r"nobody can learn|invisible", " ".join(text.split()), flags=re.IGNORECASE)
