import json
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import typer
from typer.testing import CliRunner, Result

from mtlue_cli.choices import ExitCode
from mtlue_cli.commands.app import app
from mtlue_cli.commands.console import Terminal
from mtlue_cli.commands.verify_tables import show_verification
from mtlue_cli.verification.conditions import Condition, VictimSpec
from mtlue_cli.verification.countermeasures.registry import countermeasure_named
from mtlue_cli.verification.document import VerifyDocument
from mtlue_cli.verification.report import VerifyResult, verify_result
from mtlue_cli.verification.verdict import Judgement
from mtlue_cli.workflows.verify.dry_run import DryRun
from tests.verification.made_release import MadeSet, make_release, make_set, useless
from tests.verification.test_verdict import FLOOR, SMALL, early_verdict, verdict_on

pytestmark = pytest.mark.usefixtures("tiny_small")

QUICK = ["--backbone", "small", "--size", "16", "--batch-size", "10", "--learning-rate", "1e-2", "--device", "cpu"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeSet:
    return make_set(tmp_path_factory.mktemp("command") / "clean")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all tests, so that the clean victim is trained once."""
    return tmp_path_factory.mktemp("cache")


def _verify(made: MadeSet, *options: object) -> Result:
    command = ["verify", str(made.images), "--labels", str(made.labels), *QUICK, *map(str, options)]
    return CliRunner().invoke(app, command)


def test_protected_ends_with_0_and_a_table(made: MadeSet, cache: Path, tmp_path: Path) -> None:
    make_release(made, tmp_path / "release")
    target = tmp_path / "result.json"
    options = ["--protected", tmp_path / "release", "--epochs", 4, "--cache", cache]
    result = _verify(made, *options, "--json", target)
    assert result.exit_code == ExitCode.SUCCESS, result.output
    assert "PROTECTED: a victim learns" in result.stdout
    assert "largest change of a pixel value: 16/255 over 200 files" in result.stdout
    for word in ("green", "red", "average of 2", "noise %", "floor %", "learned"):
        assert word in result.stdout
    assert "device: cpu" in result.stderr
    assert re.search(r"^green +binary +.*measured$", result.stderr, re.MULTILINE)
    document = json.loads(target.read_text())
    assert (document["schema_version"], document["command"], document["verdict"]) == (2, "verify", "protected")
    fraction = document["conditions"][1]["average"]["learned_fraction"]["mean"]
    assert f"{fraction:.2f}" in result.stdout
    assert "not tested, countermeasure: jpeg-10" in result.stdout

    silent = _verify(made, *options, "--quiet")
    assert (silent.stdout, silent.stderr) == ("", "")
    piped = _verify(made, *options, "--json", "-")
    assert json.loads(piped.stdout)["digest"] == document["digest"]


def test_not_protected_ends_with_4(made: MadeSet, cache: Path, tmp_path: Path) -> None:
    make_release(made, tmp_path / "release", useless)
    options = ["--protected", tmp_path / "release", "--epochs", 4, "--cache", cache, "--no-control"]
    result = _verify(made, *options)
    assert result.exit_code == ExitCode.NOT_PROTECTED, result.output
    assert "NOT PROTECTED: a victim learns 1.00" in result.stdout
    assert "noise %" not in result.stdout
    # The gate is what the option says.
    assert _verify(made, *options, "--max-learned", 1.0).exit_code == ExitCode.SUCCESS
    sure = _verify(made, *options, "--max-learned", 0.5, "--confidence", 0.95)
    assert sure.exit_code == ExitCode.NOT_PROTECTED, sure.output


def test_an_audit_fault_ends_with_4_and_lists_the_faults(made: MadeSet, tmp_path: Path) -> None:
    manifest = make_release(made, tmp_path / "release")
    for record in manifest.files[:25]:
        (tmp_path / "release" / record.file_name).unlink()
    target = tmp_path / "result.json"
    result = _verify(made, "--protected", tmp_path / "release", "--no-cache", "--json", target)
    assert result.exit_code == ExitCode.NOT_PROTECTED
    assert result.stdout.count("missing in the release") == 5
    assert "... and 20 more like this (--json lists all)" in result.stdout
    assert "NOT PROTECTED: the audit of the release found 25 faults" in result.stdout
    assert len(json.loads(target.read_text())["audit"]["faults"]) == 25


def test_inconclusive_ends_with_5(tmp_path: Path) -> None:
    made = make_set(tmp_path / "random", count=60, seed=5, learnable=False)
    make_release(made, tmp_path / "release")
    options = ["--protected", tmp_path / "release", "--epochs", 1, "--learning-rate", "1e-7", "--no-cache"]
    result = _verify(made, *options, "--test-fraction", 0.5)
    assert result.exit_code == ExitCode.INCONCLUSIVE, result.output
    assert "INCONCLUSIVE: the victim trained on clean images" in result.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "exactly one of --protected and --weights"),
        (["--weights", "nowhere"], "no weights called 'nowhere'"),
        (["--protected", "missing-folder"], "--protected"),
        (["--weights", "w", "--test-fraction", "0"], "--test-fraction"),
        (["--weights", "w", "--test", "."], "belong together"),
        (["--weights", "w", "--batch-size", "1"], "--batch-size"),
        (["--weights", "w", "--confidence", "95"], "--confidence"),
        (["--weights", "w", "--confidence", "0.95", "--metric", "auroc"], "no interval of AUROC"),
    ],
)
def test_wrong_usage_ends_with_2(made: MadeSet, options: list[str], message: str) -> None:
    result = _verify(made, *options)
    assert result.exit_code == ExitCode.INPUT
    assert message in result.stderr


def test_variables_of_other_commands_are_none_of_its_business(
    made: MadeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_release(made, tmp_path / "release")
    (tmp_path / "release" / "a/000.png").unlink()
    for name in ("MTLUE_WEIGHTS", "MTLUE_PROTECT_WEIGHTS", "MTLUE_PROTECT_BATCH_SIZE", "MTLUE_TRAIN_EPOCHS"):
        monkeypatch.setenv(name, "auto")
    result = _verify(made, "--protected", tmp_path / "release", "--no-cache")
    assert result.exit_code == ExitCode.NOT_PROTECTED, result.output
    monkeypatch.setenv("MTLUE_VERIFY_WEIGHTS", "utkface")
    assert "exactly one of" in _verify(made, "--protected", tmp_path / "release", "--no-cache").stderr


def test_a_task_above_the_gate_is_shown_below_the_verdict() -> None:
    judgement = verdict_on({"a": 0.1, "b": 0.7, "c": 0.5})
    result = result_of(judgement)
    shown = CliRunner().invoke(bounded_app(lambda: show_verification(Terminal(), result)), []).stdout
    assert "PROTECTED: a victim learns" in shown
    assert "warning: taken alone, a victim learns more than 0.25 of: b (1.00)" in shown


def test_tables_say_which_victim_and_condition_they_show() -> None:
    one = result_of(verdict_on({"a": 0.1, "b": 0.2, "c": 0.5}))
    chain = countermeasure_named("jpeg:quality=30+grayscale+bit-depth+gaussian-blur+resize+low-pass")
    others = {Condition(VictimSpec()): {"a": 0.1, "b": 0.2, "c": 0.5}, Condition(SMALL, countermeasure=chain): FLOOR}
    two = result_of(verdict_on({"a": 0.1, "b": 0.2, "c": 0.5}, others=others))

    def shown(result: VerifyResult) -> str:
        return CliRunner().invoke(bounded_app(lambda: show_verification(Terminal(), result)), []).stdout

    alone, both = shown(one), shown(two)
    assert "task, victim small" in both
    assert "victim small" not in alone
    assert chain.variant.split("+")[-1] in both


def test_an_early_best_epoch_is_noted_below_the_verdict() -> None:
    judgement = early_verdict(epochs=(1, 2))
    result = result_of(judgement, "first")
    shown = CliRunner().invoke(bounded_app(lambda: show_verification(Terminal(), result)), []).stdout
    assert f"note: {judgement.early_note}" in " ".join(shown.split())
    brief = CliRunner().invoke(bounded_app(lambda: show_verification(Terminal(), result, brief=True)), []).stdout
    assert "note:" not in brief
    assert result.to_json()["notes"] == ["first", judgement.early_note]


def test_reports_are_written_whatever_the_verdict(made: MadeSet, cache: Path, tmp_path: Path) -> None:
    make_release(made, tmp_path / "release", useless)
    files = {name: tmp_path / f"result.{name}" for name in ("junit", "markdown", "report", "json")}
    options = [part for name, path in files.items() for part in (f"--{name}", path)]
    done = _verify(made, "--protected", tmp_path / "release", "--epochs", 4, "--cache", cache, *options)
    assert done.exit_code == ExitCode.NOT_PROTECTED, done.output
    assert "not protected" in files["markdown"].read_text().lower()
    assert files["report"].read_text().startswith("<!DOCTYPE html>")
    assert b"<testsuites" in files["junit"].read_bytes()
    document = json.loads(files["json"].read_text())
    assert msgspec.convert(document, VerifyDocument).to_json() == document


def test_a_dry_run_trains_nothing(made: MadeSet, tmp_path: Path) -> None:
    make_release(made, tmp_path / "release")
    cache = tmp_path / "cache"
    target = tmp_path / "plan.json"
    words = ("--tier", "smoke", "--dry-run", "--cache", cache, "--json", target)
    done = _verify(made, "--protected", tmp_path / "release", *words)
    assert done.exit_code == 0, done.output
    document = json.loads(target.read_text())
    assert (document["schema_version"], document["command"]) == (1, "verify --dry-run")
    assert msgspec.convert(document, DryRun).to_json() == document
    assert "small + grayscale" in done.stdout
    assert "24 epochs (384 steps)" in " ".join(done.stdout.split())
    assert "cached victims take no time" in done.stdout
    assert not cache.exists()


def test_a_report_that_cannot_be_written_is_found_before_any_work(made: MadeSet, tmp_path: Path) -> None:
    make_release(made, tmp_path / "release")
    done = _verify(made, "--protected", tmp_path / "release", "--junit", tmp_path / "none" / "x.xml")
    assert done.exit_code == ExitCode.INPUT
    assert "--junit: the folder of" in done.stderr


def result_of(judgement: Judgement, *notes: str) -> VerifyResult:
    """A finished verification of a release."""
    return verify_result(
        judgement,
        notes=notes,
        subject="release",
        tier=None,
        not_tested=(),
        settings={},
        device="cpu",
        versions={},
        epsilon=8,
        key_fingerprint=None,
        counts=None,
        flip=None,
        command_line="mtlue verify",
        seconds=1.0,
    )


def bounded_app(command: Callable[[], None]) -> typer.Typer:
    """An app of one command."""
    alone = typer.Typer(add_completion=False)
    alone.command()(command)
    return alone
