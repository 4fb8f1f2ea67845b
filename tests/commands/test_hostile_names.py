"""Names and texts of files that others made reach the terminal spelled out: they command nothing and forge no line."""

import ast
import io
import json
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from typer.testing import CliRunner, Result

import mtlue_cli
from mtlue_cli.choices import ExitCode, TaskKind
from mtlue_cli.commands.app import app
from mtlue_cli.commands.console import BarProgress, LineProgress, PlainConsole, Terminal, table_of, visible
from mtlue_cli.commands.verify_tables import show_dry_run, show_verification
from mtlue_cli.errors import InputError, MtlueError
from mtlue_cli.generator.checkpoint import load_checkpoint, save_checkpoint
from mtlue_cli.release.records import FOLDER, RUN_NAME, read_run, write_run
from mtlue_cli.tasks.spec import Task, TaskSet
from mtlue_cli.verification.conditions import Role
from mtlue_cli.verification.probes.base import ProbeFigures
from mtlue_cli.verification.report import VerifyResult
from mtlue_cli.verification.tiers import NotTested
from mtlue_cli.verification.verdict import Verdict
from mtlue_cli.workflows.verify.dry_run import DryRun, PlannedCondition
from tests.commands.test_app import failing, program
from tests.small_set import write_checkpoint, write_images
from tests.verification.reports.documents import condition, document, task

CLIPBOARD = "\x1b]52;c;aGk=\x07"
"""Writes the clipboard of many terminals."""
HOSTILE = f"a{CLIPBOARD}\x9b2J\nerror: forged\r\u2028error: forged\u202egnp.\u200b[bold]\udcff"
RUNNER = CliRunner()
ROOT = Path(mtlue_cli.__file__).parent


def assert_plain(text: str) -> None:
    """``text`` holds nothing but visible characters and line breaks of the program's own."""
    assert {char for char in text if not char.isprintable() and char != "\n"} == set()
    assert not [line for line in text.splitlines() if line.lstrip("│┃ ").startswith("error: forged")]


def test_what_is_not_seen_is_spelled_out() -> None:
    assert visible(HOSTILE) == (
        "a\\x1b]52;c;aGk=\\x07\\x9b2J\\nerror: forged\\r\\u2028error: forged\\u202egnp.\\u200b[bold]\\udcff"
    )
    for name in ("Größe 1.jpg", "写真\u3000一.png", "\u0645\u06cc\u200c\u062e", "👩\u200d👧", "9.41\u202fAM"):
        assert visible(name) == name
    # All of the planes that have characters; of those that have none yet, and of private use, one in sixty-one.
    for code in (*range(0x34000), *range(0xE0000, 0xE1000), *range(0x34000, 0x110000, 61)):
        shown = visible(chr(code))
        assert shown.isprintable() or shown in "\u200c\u200d" or unicodedata.category(shown) == "Zs", hex(code)


def test_nothing_is_printed_but_through_the_plain_console() -> None:
    allowed = {
        "commands/console.py": {"PlainConsole", "print"},  # a JSON document, whose characters are escaped
        "commands/app.py": {"PlainConsole", "echo"},  # the version
        "__main__.py": {"print"},  # one word
    }
    found: dict[str, set[str]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                bare = isinstance(node.func, ast.Name) or name in ("echo", "secho", "print_exception")
                if bare and name in ("print", "echo", "secho", "print_exception", "Console", "PlainConsole"):
                    found.setdefault(path.relative_to(ROOT).as_posix(), set()).add(name)
    assert found == allowed


def grid(name: str) -> Table:
    table = Table(name, title=name, caption=name)
    table.add_column(Text(name, style="bold"), footer=name)
    table.add_row(name, Text.assemble((name, "bold red"), f": {name}"))
    return table


RENDERERS: dict[str, Callable[[str], Any]] = {
    "string": str,
    "text": Text,
    "styled text": lambda name: Text.assemble((name, "bold red"), f": {name}"),
    "table": grid,
    "names and values": lambda name: table_of({name: name}),
    "panel": lambda name: Panel(name, title=name, subtitle=name),
    "table in a panel": lambda name: Panel(grid(name)),
}


@pytest.mark.parametrize("kind", RENDERERS)
def test_whatever_is_printed_is_plain(kind: str) -> None:
    stream = io.StringIO()
    PlainConsole(file=stream, width=600).print(RENDERERS[kind](HOSTILE))
    assert_plain(stream.getvalue())
    assert "\\x1b]52" in stream.getvalue()
    assert "[bold]" in stream.getvalue()


def test_text_without_odd_characters_keeps_its_styles() -> None:
    stream = io.StringIO()
    console = PlainConsole(file=stream, force_terminal=True, color_system="standard", _environ={})
    console.print(Text.assemble(("red", "red"), " plain"))
    assert stream.getvalue() == "\x1b[31mred\x1b[0m plain\n"


def test_progress_is_plain_as_lines_and_as_a_bar() -> None:
    def worked(progress: LineProgress | BarProgress) -> None:
        progress.start(HOSTILE, 3)
        progress.note(HOSTILE)
        progress.advance(1, {HOSTILE: 0.5})
        progress.finish()

    stream = io.StringIO()
    console = PlainConsole(file=stream, width=600)
    worked(LineProgress(lambda line: console.print(line, soft_wrap=True)))
    assert_plain(stream.getvalue())
    drawn = io.StringIO()
    worked(BarProgress(PlainConsole(file=drawn, width=600, force_terminal=True, _environ={"TERM": "xterm"})))
    assert CLIPBOARD not in drawn.getvalue()
    assert "\x9b" not in drawn.getvalue()
    assert "\u202e" not in drawn.getvalue()
    assert "\\x1b]52" in drawn.getvalue()


def result() -> VerifyResult:
    rows = [task(HOSTILE, 0.4)]
    roles = (Role.REFERENCE, Role.JUDGED, Role.CONTROL, Role.JUDGED)
    found = document(
        Verdict.NOT_PROTECTED,
        HOSTILE,
        [condition(f"{number}{HOSTILE}", rows, role=role) for number, role in enumerate(roles)],
        warning=HOSTILE,
        probes=(ProbeFigures(HOSTILE, HOSTILE, {HOSTILE: 0.5}, HOSTILE),),
        not_tested=(NotTested(HOSTILE, HOSTILE), NotTested(f"probe {HOSTILE}", "not part of this run")),
    )
    audit = msgspec.structs.replace(found.audit, faults=(HOSTILE,)) if found.audit is not None else None
    fields = {name: getattr(found, name) for name in found.__struct_fields__}
    return VerifyResult(**fields | {"audit": audit}, early_note=HOSTILE)


def shown(work: Callable[[Terminal], None]) -> Result:
    return RUNNER.invoke(program(lambda: work(Terminal())), [], env={"COLUMNS": "600"})


def test_tables_of_verify_are_plain() -> None:
    made = shown(lambda terminal: show_verification(terminal, result()))
    assert made.exit_code == 0, made.output
    assert_plain(made.output)
    assert made.output.count("\\x1b]52") >= 10
    planned = DryRun(
        starts=(),
        conditions=(PlannedCondition(HOSTILE, Role.JUDGED, 1, 2.0),),
        left_out=result().not_tested,
        images=3,
        epochs=1,
        steps=5,
        device=HOSTILE,
        seconds=2.0,
    )
    dry = shown(lambda terminal: show_dry_run(terminal, planned))
    assert dry.exit_code == 0, dry.output
    assert_plain(dry.output)
    assert "\\x1b]52" in dry.output


@pytest.mark.parametrize(
    "error",
    [InputError(HOSTILE, [HOSTILE, HOSTILE], HOSTILE), MtlueError(HOSTILE), RuntimeError(HOSTILE), OSError(2, HOSTILE)],
)
@pytest.mark.parametrize("debug", [None, "1"])
def test_errors_are_plain(error: Exception, debug: str | None) -> None:
    made = RUNNER.invoke(failing(error), [], env={"MTLUE_DEBUG": debug})
    assert made.exit_code in (ExitCode.INPUT, ExitCode.UNEXPECTED)
    if debug is None:
        assert_plain(made.output)
    assert {char for char in made.output if not char.isprintable() and char != "\n"} == set()
    assert "\\x1b]52" in made.output


@pytest.mark.parametrize(
    "words",
    [
        [HOSTILE],
        [f"--{HOSTILE}"],
        ["protect", HOSTILE],
        ["protect", f"--{HOSTILE}"],
        ["protect", ".", "--format", HOSTILE],
        ["protect", ".", "--epsilon", HOSTILE],
        ["protect", ".", "--labels", HOSTILE],
        ["inspect", HOSTILE],
        ["verify", ".", "--config", HOSTILE],
    ],
    ids=range(9),
)
def test_wrong_usage_is_plain(words: list[str]) -> None:
    made = RUNNER.invoke(app, words)
    assert made.exit_code == ExitCode.INPUT
    assert_plain(made.output)


def hostile_checkpoint(path: Path) -> Path:
    """A checkpoint whose card says what no training writes."""
    write_checkpoint(path)
    loaded = load_checkpoint(path)
    text = HOSTILE.replace("\udcff", "")
    tasks = TaskSet((Task(text, TaskKind.BINARY, (text, f"{text}b")),))
    write_checkpoint(path, tasks)
    loaded = load_checkpoint(path)
    card = replace(loaded.card, objective=text, licence=text, data_digest=text, versions={text: text}, created=text)
    save_checkpoint(path, loaded.generator, card)
    return path


def test_inspect_of_a_checkpoint_is_plain(tmp_path: Path) -> None:
    path = hostile_checkpoint(tmp_path / "weights.safetensors")
    made = RUNNER.invoke(app, ["inspect", str(path)], env={"COLUMNS": "600"})
    assert made.exit_code == 0, made.output
    assert_plain(made.output)
    assert made.output.count("\\x1b]52") >= 6
    reported = json.loads(RUNNER.invoke(app, ["inspect", str(path), "--json", "-"]).stdout)
    assert CLIPBOARD in reported["card"]["licence"]


def test_protect_and_inspect_of_a_release_are_plain(tmp_path: Path) -> None:
    folder = tmp_path / f"photos{HOSTILE.replace('/', '')}"
    labels = write_images(folder, count=3)
    text = labels.read_text().replace("colour", '"co[bold]lour"')
    labels.write_text(text)
    (folder / f"stranger{CLIPBOARD}\nerror: forged.png").write_bytes(b"nothing")
    (folder / "sub" / "photo0.jpg").write_bytes(b"nothing")
    weights = str(write_checkpoint(tmp_path / "[bold]\u202eweights.safetensors"))
    release = tmp_path / "release\n[red]"
    words = ["protect", str(folder), "--labels", str(labels), "--weights", weights, "--out", str(release)]
    words += ["--tasks", "round", "--device", "cpu"]
    for more in (["--dry-run"], ["--preview", "3"], []):
        made = RUNNER.invoke(app, [*words, *more], env={"COLUMNS": "600"})
        assert made.exit_code == (ExitCode.QUARANTINE if not more else 0), made.output
        assert_plain(made.output)
    assert "release\\n[red]" in made.stdout
    assert "stranger\\x1b]52" in made.stderr
    reported = RUNNER.invoke(app, [*words, "--json", "-"])
    assert json.loads(reported.stdout)["release"] == str(release)
    run = read_run(release)
    write_run(release, msgspec.structs.replace(run, weights_name=HOSTILE.replace("\udcff", "")))
    (release / f"{CLIPBOARD}\nerror: forged.png").write_bytes(b"nothing")
    looked = RUNNER.invoke(app, ["inspect", str(release)], env={"COLUMNS": "600"})
    assert looked.exit_code == ExitCode.NOT_PROTECTED
    assert_plain(looked.output)
    assert looked.stdout.count("\\x1b]52") >= 1
    assert looked.stderr.count("\\x1b]52") >= 1
    (release / FOLDER / RUN_NAME).write_text('{"schema_version": "\\u001b]52;c;aGk=\\u0007\\n"}')
    assert_plain(RUNNER.invoke(app, ["inspect", str(release)]).output)
