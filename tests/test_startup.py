"""Asking for help is cheap: no torch, little time."""

import os
import resource
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

import mtlue_cli
from mtlue_cli.choices import ExitCode
from mtlue_cli.commands.app import COMMANDS, app, loaded, trace

HEAVY = ("torch", "torchvision", "torchmetrics", "safetensors")
THEN = "=" * 30
"""Between the answers to several commands."""

MOST_SECONDS = 0.4
MOST_TIMES_LIBRARIES = 2.0
SCRIPT = """
import sys
{first}
from mtlue_cli.commands.app import main
for words in {words!r}:
    sys.argv = ["mtlue", *words]
    try:
        main()
    except SystemExit as end:
        assert end.code in {codes!r}, end.code
    loaded = sorted(set({heavy!r}) & set(sys.modules))
    if loaded:
        sys.exit(f"{{words}} loaded: {{loaded}}")
    for stream in sys.stdout, sys.stderr:
        print("{then}", file=stream)
"""


def run(
    *words: list[str],
    heavy: tuple[str, ...] = HEAVY,
    codes: tuple[int | None, ...] = (None, 0),
    folder: Path | None = None,
    first: str = "",
) -> subprocess.CompletedProcess[str]:
    """Commands one after another in a process of their own, in this folder; fails where one loads what is heavy."""
    # So that a checkout is found from another folder.
    environment = {**os.environ, "PYTHONPATH": str(Path(mtlue_cli.__file__).parents[1])}
    source = SCRIPT.format(first=first, words=words, codes=codes, heavy=heavy, then=THEN)
    command = [sys.executable, "-c", source]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)


def answers_to(said: str) -> list[str]:
    """What each command of :func:`run` printed."""
    *answers, last = said.split(f"{THEN}\n")
    assert last == ""
    return answers


def test_all_commands_of_the_contract_are_there() -> None:
    names = [str(command.name) for command in app.registered_commands]
    assert names == ["demo", "protect", "train-generator", "verify", "inspect"]
    assert [command.name for command in trace.registered_commands] == ["probes", "judge", "copy"]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_the_help_of_each_begins_with(name: str) -> None:
    assert loaded(name).name == name.split()[-1]
    assert loaded(name).help.split("\n\n")[0] == COMMANDS[name]


def test_a_command_that_is_not_asked_for_is_not_imported() -> None:
    others = ("mtlue_cli.commands.verify", "mtlue_cli.commands.trace")
    asked = run(["inspect", "--help"], heavy=others)
    assert asked.returncode == 0, asked.stderr
    assert "--against" in asked.stdout


def test_help_loads_nothing_heavy() -> None:
    words = [["--version"], ["--help"], *([*name.split(), "--help"] for name in COMMANDS)]
    asked = run(*words)
    assert asked.returncode == 0, asked.stderr
    answers = answers_to(asked.stdout)
    assert len(answers) == len(words)
    assert all(answer.strip() for answer in answers)


def test_the_check_itself_notices_a_heavy_import() -> None:
    asked = run(["--help"], first="import safetensors")
    assert asked.returncode == 1
    assert "safetensors" in asked.stderr


def processor_seconds(byte_code: Path, *arguments: str) -> float:
    """Of Python with these arguments, which finds its byte code in a folder, as it does for a user."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(byte_code)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_answers_within_its_cpu_time(tmp_path: Path) -> None:
    # The one timing in the tests, as it is a promise: processor time, so that a busy machine does not fail it, and on a
    # slow one a multiple of what the libraries that draw the help take by themselves, in turns. The first run of each
    # compiles byte code.
    commands = [("-c", "import typer.rich_utils"), ("-m", "mtlue_cli", "--help")]
    turns = [[processor_seconds(tmp_path, *command) for command in commands] for _ in range(5)]
    libraries, spent = (min(seconds) for seconds in zip(*turns[1:], strict=True))
    assert spent < max(MOST_SECONDS, MOST_TIMES_LIBRARIES * libraries)


SOUND, UNSAFE = "file_name,t\na.png,x\nb.png,y\n", "file_name,t\na.png,x\n../b.png,y\n"


def test_faults_of_labels_weights_and_options_do_not_wait_for_torch(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / name)
    (tmp_path / "sound.csv").write_text(SOUND)
    (tmp_path / "unsafe.csv").write_text(UNSAFE)
    cases = [
        (["protect"], "unsafe.csv", "row 3"),
        (["protect", "--weights", "nowhere"], "sound.csv", "no weights called 'nowhere'"),
        (["protect", "--weights", "utkface"], "sound.csv", "'age' is missing"),
        (["train-generator", "--out", "g.safetensors"], "unsafe.csv", "row 3"),
        (
            ["train-generator", "--out", "g.safetensors", "--from", "nowhere"],
            "sound.csv",
            "no weights called 'nowhere'",
        ),
        (["train-generator", "--out", "g.weights"], "sound.csv", "end the name in .safetensors"),
        (["verify", "--weights", "utkface"], "unsafe.csv", "row 3"),
        (["verify", "--weights", "nowhere"], "sound.csv", "no weights called 'nowhere'"),
        (["verify", "--weights", "utkface"], "sound.csv", "'age' is missing"),
        (["verify"], "sound.csv", "exactly one of --protected and --weights"),
    ]
    words_of = ([*words, "photos", "--labels", labels] for words, labels, _ in cases)
    done = run(*words_of, heavy=("torch",), codes=(2,), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for answer, (words, _, fault) in zip(answers_to(done.stderr), cases, strict=True):
        assert fault in answer, words
    assert answers_to(done.stdout) == [""] * len(cases)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "sound.csv", "unsafe.csv"]


def test_ready_made_patterns_do_not_load_torch(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name, colour in (("a.png", (90, 120, 200)), ("b.png", (200, 120, 90))):
        Image.new("RGB", (40, 30), colour).save(tmp_path / "photos" / name)
    (tmp_path / "labels.csv").write_text(SOUND)
    (tmp_path / "k").touch(mode=0o600)
    (tmp_path / "k").write_text("8f3b1c0e77a2d94c5e60b1f823c9aa17d05e4b3691f7820cae13d65b48c2f09e")
    words = ["protect", "photos", "--labels", "labels.csv", "--quick", "--key", "k"]
    done = run(words, heavy=("torch",), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "photos-protected").glob("*.png"))) == 2


@pytest.mark.parametrize("words", [["-m", "mtlue_cli"], ["-c", "from mtlue_cli.__main__ import main; main()"]])
def test_ctrl_c_while_the_program_loads_is_one_line_and_130(tmp_path: Path, words: list[str]) -> None:
    # The first library that loads is interrupted, as by a user who is quick.
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    asked = subprocess.run(
        [sys.executable, *words, "--help"], capture_output=True, text=True, check=False, env=environment
    )
    assert (asked.returncode, asked.stdout, asked.stderr) == (ExitCode.INTERRUPTED, "", "interrupted\n")


def test_the_console_script_is_the_one_that_takes_ctrl_c() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["scripts"] == {"mtlue": "mtlue_cli.__main__:main"}
