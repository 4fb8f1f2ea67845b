import errno
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from rich.table import Table
from typer.testing import CliRunner

from mtlue_cli import __version__
from mtlue_cli.choices import ExitCode
from mtlue_cli.commands.app import COMMANDS, Command, app, bounded, loaded, with_bare_options
from mtlue_cli.commands.console import LineProgress, duration, grouped
from mtlue_cli.commands.from_config import Given, command_of
from mtlue_cli.errors import CheckpointError, ImageError, InputError
from mtlue_cli.options import Device, usable_threads


def program(command: Callable[..., None]) -> typer.Typer:
    """An app of one bounded command."""
    alone = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    alone.command(cls=Command)(bounded(command))
    return alone


def failing(error: BaseException) -> typer.Typer:
    def command() -> None:
        raise error

    return program(command)


def test_version_is_the_package_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout == f"mtlue {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_has_an_example_panels_and_the_common_options(name: str) -> None:
    result = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert result.exit_code == 0
    assert f"Example: mtlue {name}" in re.sub(r"\s+", " ", result.stdout)
    assert "─ Output ─" in result.stdout
    for word in ("--quiet", "--json", "MTLUE_QUIET", "MTLUE_JSON"):
        assert word in result.stdout


@pytest.mark.parametrize("words", [["no-such-command"], ["train-generator"], ["demo", "--seed", "x"]])
def test_wrong_usage_exits_with_2_and_says_so_on_stderr(words: list[str]) -> None:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == ExitCode.INPUT
    assert "Error" in result.stderr
    assert result.stdout == ""


def test_input_error_lists_its_faults_and_the_hint() -> None:
    faults = [f"labels.csv row {row}: [bad] cell" for row in range(2, 7)]
    result = CliRunner().invoke(failing(InputError("5 faults", faults, "mend the rows")), [])
    assert result.exit_code == ExitCode.INPUT
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "error: 5 faults",
        *(f"  {fault}" for fault in faults),
        "hint: mend the rows",
    ]


def test_a_name_of_a_file_does_not_command_the_terminal() -> None:
    result = CliRunner().invoke(failing(InputError("odd", ["\x1b[2J\x9b2J.png"])), [])
    assert result.stderr.splitlines() == ["error: odd", "  \\x1b[2J\\x9b2J.png"]


def test_of_many_faults_of_one_kind_five_are_shown_and_the_rest_counted() -> None:
    faults = [f"row {row}: no file '{row}.jpg' in photos" for row in range(100)]
    faults[50:50] = ["row 7: 3 cells, expected 2"]
    error = InputError("many", faults, "mend the rows")
    result = CliRunner().invoke(failing(error), [], env={"MTLUE_DEBUG": None})
    assert result.stderr.splitlines() == [
        "error: many",
        *(f"  {fault}" for fault in faults[:5]),
        "  ... and 95 more like this (MTLUE_DEBUG=1 lists all)",
        "  row 7: 3 cells, expected 2",
        "hint: mend the rows",
    ]
    complete = CliRunner().invoke(failing(error), [], env={"MTLUE_DEBUG": "1"}).stderr.split("\nerror: many")[1]
    assert complete.count("  row ") == 101


def test_of_many_kinds_of_faults_the_first_are_shown() -> None:
    assert grouped(["x" * length for length in range(20)], "see FILE") == [
        *("x" * length for length in range(8)),
        "... and 12 more of other kinds (see FILE)",
    ]
    names = ["a.png: gone", "sub/b b.jpeg: gone", 'column "x": gone', "column 'y z': gone"]
    assert grouped([*names, "1.5: gone"], "") == [names[0], "1.5: gone", *names[1:]]  # its kind is that of a.png


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (CheckpointError("damaged"), ExitCode.INPUT, "error: damaged"),
        (ImageError("cut short"), ExitCode.UNEXPECTED, "error: cut short"),
        (RuntimeError("boom\nmore"), ExitCode.UNEXPECTED, "unexpected failure: RuntimeError: boom"),
        (AssertionError(), ExitCode.UNEXPECTED, "unexpected failure: AssertionError"),
        (
            PermissionError(errno.EACCES, "Permission denied", "set/.mtlue"),
            ExitCode.INPUT,
            "error: no access to set/.mtlue: Permission denied",
        ),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, "interrupted, run the same command again to continue"),
    ],
)
def test_errors_become_a_line_and_an_exit_code(error: BaseException, code: ExitCode, text: str) -> None:
    result = CliRunner().invoke(failing(error), [], env={"MTLUE_DEBUG": None})
    assert result.exit_code == code
    assert result.stderr.splitlines()[0] == text
    assert "Traceback" not in result.stderr


def test_unexpected_failure_says_how_to_see_the_traceback_and_shows_it_on_demand() -> None:
    plain = CliRunner().invoke(failing(ValueError("odd")), [], env={"MTLUE_DEBUG": None})
    assert "MTLUE_DEBUG=1" in plain.stderr
    loud = CliRunner().invoke(failing(ValueError("odd")), [], env={"MTLUE_DEBUG": "1"})
    assert loud.exit_code == ExitCode.UNEXPECTED
    assert "Traceback" in loud.stderr


def test_exit_codes_of_a_command_pass_the_boundary() -> None:
    assert CliRunner().invoke(failing(typer.Exit(ExitCode.QUARANTINE)), []).exit_code == ExitCode.QUARANTINE
    assert CliRunner().invoke(failing(typer.BadParameter("no")), []).exit_code == ExitCode.INPUT


def child(body: str) -> list[str]:
    """Words that run ``body`` as a command of the real program, in a process of its own."""
    source = f"""
import sys, time
from mtlue_cli.commands import app as program
def waiting() -> None:
    {body}
program.app.command("waiting")(program.bounded(waiting))
sys.argv = ["mtlue", "waiting"]
program.main()
"""
    return [sys.executable, "-c", source]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_process_exits_with_130(number: signal.Signals) -> None:
    words = child("print('ready', flush=True); time.sleep(60)")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert "interrupted" in process.stderr.read()
    assert process.returncode == ExitCode.INTERRUPTED


def test_an_interruption_while_options_are_read_exits_with_130_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mtlue_cli.commands.from_config.values_of_files", interrupt)
    result = CliRunner().invoke(app, ["inspect", "none"])
    assert (result.exit_code, result.stderr) == (
        ExitCode.INTERRUPTED,
        "interrupted, run the same command again to continue\n",
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_request_ends_at_once(number: signal.Signals) -> None:
    words = child(
        """
    try:
        print("ready", flush=True); time.sleep(60)
    finally:
        print("closing", flush=True); time.sleep(60)
""".strip()
    )
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in ("ready\n", "closing\n"):
            assert process.stdout.readline() == line
            process.send_signal(number)
        assert "Traceback" not in process.stderr.read()
    assert process.returncode == ExitCode.INTERRUPTED


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_what_a_stream_cannot_show_is_spelled_out_and_no_failure(encoding: str) -> None:
    words = child("from rich.console import Console; Console().print('\\u2500 caf\\xe9 \\udcff')")
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(words, capture_output=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode(encoding).endswith("\\udcff\n")


def test_reader_that_leaves_is_no_reason_for_noise() -> None:
    words = child("print('x' * 1_000_000)")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--json"], ["--json", "-"]),
        (["--json", "--quiet"], ["--json", "-", "--quiet"]),
        (["--json", "-"], ["--json", "-"]),
        (["--json", "f.json", "-q"], ["--json", "f.json", "-q"]),
        (["--json=f.json"], ["--json=f.json"]),
        (["--", "--json"], ["--", "--json"]),
    ],
)
def test_bare_json_means_stdout(words: list[str], expected: list[str]) -> None:
    assert with_bare_options(words) == expected


@dataclass(frozen=True)
class ReportingOptions:
    device: Device = "auto"


def reporting() -> typer.Typer:
    @command_of("demo", ReportingOptions)
    def report(given: Given) -> None:
        terminal = given.terminal
        terminal.say(f"device [{given.build(ReportingOptions).device}]")
        terminal.progress.note("a note")
        table = Table("result")
        table.add_row("42")
        terminal.show(table)
        terminal.write_json({"schema_version": 1, "path": Path("a/b"), "text": "x" * 300})

    return program(report)


def test_results_go_to_stdout_and_the_rest_to_stderr() -> None:
    result = CliRunner().invoke(reporting(), [])
    assert "42" in result.stdout
    assert "note" not in result.stdout
    assert result.stderr.splitlines() == ["device [auto]", "a note"]


def test_json_on_stdout_is_all_that_stands_there() -> None:
    result = CliRunner().invoke(reporting(), ["--json"])
    assert json.loads(result.stdout) == {"schema_version": 1, "path": "a/b", "text": "x" * 300}


def test_json_in_a_file_leaves_the_table(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    result = CliRunner().invoke(reporting(), ["--json", str(target)])
    assert "42" in result.stdout
    assert json.loads(target.read_text(encoding="utf-8"))["schema_version"] == 1
    assert os.listdir(tmp_path) == ["result.json"]


def test_quiet_says_nothing_but_writes_requested_json() -> None:
    assert CliRunner().invoke(reporting(), ["--quiet"]).output == ""
    result = CliRunner().invoke(reporting(), ["--quiet", "--json"])
    assert json.loads(result.stdout)["schema_version"] == 1
    assert result.stderr == ""


def test_json_target_that_cannot_be_written_is_found_before_the_work(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for target in (tmp_path, tmp_path / "none" / "f.json", tmp_path / "pipe", tmp_path / ("x" * 256)):
        result = CliRunner().invoke(reporting(), ["--json", str(target)])
        assert result.exit_code == ExitCode.INPUT
        assert "--json: " in result.stderr
        assert result.stdout == ""
    assert os.listdir(tmp_path) == ["pipe"]


def test_json_that_fails_after_the_work_is_not_wrong_input(tmp_path: Path) -> None:
    target = tmp_path / "result.json"

    @command_of("demo")
    def work(given: Given) -> None:
        target.mkdir()
        given.terminal.write_json({})

    result = CliRunner().invoke(program(work), ["--json", str(target)])
    assert result.exit_code == ExitCode.UNEXPECTED
    assert f"error: the work is done, but --json: {target} cannot be written" in result.stderr
    assert os.listdir(tmp_path) == ["result.json"]


def test_commands_that_share_a_variable_mean_the_same_by_it() -> None:
    meanings: dict[str, dict[str, tuple[str, str, str]]] = {}
    for name in COMMANDS:
        for option in loaded(name).params:
            if isinstance(option.envvar, str):
                sentence = option.help.split(". ")[0].rstrip(".")
                meaning = (option.opts[0], str(option.metavar), sentence)
                meanings.setdefault(option.envvar, {})[name] = meaning
    assert len(meanings) > 40
    assert {name: found for name, found in meanings.items() if len(set(found.values())) > 1} == {}
    alone = {"PROTECT", "TRAIN", "VERIFY", "INSPECT", "DEMO"}
    own = {name for name in meanings if name.split("_")[1] in alone}
    assert {"MTLUE_PROTECT_OUT", "MTLUE_TRAIN_OUT", "MTLUE_DEMO_OUT", "MTLUE_VERIFY_WEIGHTS"} <= own
    assert [name for name in own if len(meanings[name]) > 1] == []


def test_a_paragraph_of_a_help_text_has_no_line_ends_of_the_source() -> None:
    words = CliRunner().invoke(app, ["demo", "--help"], env={"COLUMNS": "250", "NO_COLOR": "1"}).stdout
    (line,) = (line for line in words.splitlines() if "Needs no data" in line)
    assert "Then render scenes" in line
    assert "continue an interrupted demo." in line


def test_help_names_extras_in_brackets() -> None:
    """What stands in brackets is no markup of the terminal."""
    for name in ("protect", "inspect"):
        assert "mtlue[sign]" in CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).output


def test_help_tells_about_the_variables() -> None:
    words = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).stdout
    assert "MTLUE_PROTECT_OUT" in words


def test_option_is_read_from_its_environment_variable() -> None:
    assert "device [cpu]" in CliRunner().invoke(reporting(), [], env={"MTLUE_DEVICE": "cpu"}).stderr


def test_lines_off_a_terminal_come_at_most_every_five_seconds_with_time_left() -> None:
    now = [0.0]
    lines: list[str] = []
    progress = LineProgress(lines.append, lambda: now[0])
    progress.start("protect", 100)
    for _ in range(100):
        now[0] += 0.12
        progress.advance(1, {"loss": 0.5})
    progress.finish()
    assert lines == [
        "protect: 100 to do",
        "protect: 42 of 100 (42 %), 0:07 left, loss 0.5",
        "protect: 84 of 100 (84 %), 0:02 left, loss 0.5",
        "protect: done, 100 in 0:12, loss 0.5",
    ]


def test_lines_of_an_unknown_total_say_the_time_so_far_and_a_new_stage_ends_the_old() -> None:
    now = [0.0]
    lines: list[str] = []
    progress = LineProgress(lines.append, lambda: now[0])
    progress.finish()
    progress.start("train", None)
    now[0] = 61.0
    progress.advance(7)
    progress.start("next", 3)
    assert lines == ["train ...", "train: 7, 1:01 so far", "train: done, 7 in 1:01", "next: 3 to do"]


def test_a_stage_that_is_cut_short_is_not_called_done() -> None:
    lines: list[str] = []
    progress = LineProgress(lines.append, lambda: 0.0)
    progress.start("protect", 100)
    progress.advance(3)
    progress.finish()
    assert lines == ["protect: 100 to do", "protect: ended at 3 of 100 in 0:00"]


def test_duration_is_written_as_a_clock() -> None:
    assert [duration(seconds) for seconds in (0, 9.6, 75, 3700)] == ["0:00", "0:10", "1:15", "1:01:40"]


def test_unset_workers_are_one_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert usable_threads() == 6
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0}, raising=False)
    assert usable_threads() == 2
