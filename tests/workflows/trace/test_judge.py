"""From probes and answers to a verdict, with a linear victim on drawn images."""

import hashlib
import json
import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from typer.testing import CliRunner

import mtlue_cli as mtlue
from mtlue_cli.choices import ExitCode
from mtlue_cli.commands.app import app
from mtlue_cli.errors import InputError
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.trace.answers import Answers, TaskAnswers
from mtlue_cli.workflows.trace.config import JudgeConfig
from mtlue_cli.workflows.trace.judge import TraceVerdict, judge_answers, judge_model
from mtlue_cli.workflows.trace.models import PREPROCESSING
from mtlue_cli.workflows.trace.sealed import Probe, SealedAnswers
from tests.workflows.trace.linear_victim import (
    COLOURS,
    LinearVictim,
    Traced,
    make_release,
    train_victim,
    write_answers,
    write_rows,
)

SEED = "5" * 64  # of the probes: another draw may miss the strict limits below by chance
PREPARED = {"size": 16, "mean": [0, 0, 0], "std": [1, 1, 1], "outputs": ["colour", "round"]}


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Traced:
    made = make_release(tmp_path_factory.mktemp("trace"))
    made.probes("probes", 400, SEED)
    return made


@pytest.fixture(scope="module")
def victim(traced: Traced) -> LinearVictim:
    return train_victim(traced.release)


def test_a_victim_of_the_release_is_found(traced: Traced, victim: LinearVictim, tmp_path: Path) -> None:
    write_answers(traced.folder / "probes", victim, tmp_path / "answers.csv")
    result = judge_model(JudgeConfig(traced.folder / "probes", answers=tmp_path / "answers.csv"), SilentProgress())
    assert result.verdict is TraceVerdict.TRAINED
    assert result.p_value == result.p_labels <= 0.001
    assert result.basis == "labels"
    assert result.answers_sha256 == hashlib.sha256((tmp_path / "answers.csv").read_bytes()).hexdigest()
    assert result.answers_sha256 in result.html()
    for task in result.tasks:
        assert task.follow_true > task.follow_decoys


def test_a_victim_of_another_key_and_one_of_clean_images_are_not(traced: Traced, tmp_path: Path) -> None:
    other = make_release(traced.folder, "other", "fedcba9876543210" * 4)
    for images in (other.release, traced.folder / "photos"):
        write_answers(traced.folder / "probes", train_victim(images), tmp_path / "answers.csv")
        result = judge_model(JudgeConfig(traced.folder / "probes", answers=tmp_path / "answers.csv"), SilentProgress())
        assert result.verdict is not TraceVerdict.TRAINED


def test_scores_decide_where_there_are_scores(traced: Traced, victim: LinearVictim, tmp_path: Path) -> None:
    export(victim, tmp_path / "victim.pt")
    config = JudgeConfig(traced.folder / "probes", model=tmp_path / "victim.pt", device="cpu")
    result = judge_model(config, SilentProgress())
    assert result.basis == "scores"
    assert result.p_value == result.p_scores
    assert max(result.p_value, result.p_labels) < 1e-6
    assert result.verdict is TraceVerdict.TRAINED


def export(victim: LinearVictim, path: Path, described: dict[str, object] | None = None) -> None:
    text = json.dumps(PREPARED if described is None else described)
    example = torch.rand(2, 3, 16, 16)
    if path.suffix == ".pt":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # TorchScript will be replaced by torch.export
            traced = torch.jit.trace(victim, example)  # type: ignore[no-untyped-call]  # torch has no types for it
            torch.jit.save(traced, str(path), _extra_files={PREPROCESSING: text.encode()})
    elif path.suffix == ".pt2":
        batch = {"images": {0: torch.export.Dim("batch", min=1, max=64)}}
        torch.export.save(
            torch.export.export(victim, (example,), dynamic_shapes=batch), path, extra_files={PREPROCESSING: text}
        )
    else:
        onnx = pytest.importorskip("onnx")
        torch.onnx.export(victim, (example[:1],), str(path), input_names=["images"], output_names=["colour", "round"])
        model = onnx.load(str(path))
        entry = model.metadata_props.add()
        entry.key, entry.value = "preprocessing", text
        onnx.save(model, str(path))


@pytest.mark.parametrize("suffix", [".pt", ".pt2", ".onnx"])
@pytest.mark.filterwarnings("ignore")  # of exporters
def test_every_kind_of_file_answers_alike(traced: Traced, victim: LinearVictim, tmp_path: Path, suffix: str) -> None:
    if suffix == ".onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    export(victim, tmp_path / f"victim{suffix}")
    rows = write_answers(traced.folder / "probes", victim, tmp_path / "answers.csv")
    model = JudgeConfig(traced.folder / "probes", model=tmp_path / f"victim{suffix}", device="cpu")
    by_file = judge_model(model, SilentProgress())
    by_table = judge_model(replace(model, model=None, answers=tmp_path / "answers.csv"), SilentProgress())
    assert rows
    assert by_file.p_labels == by_table.p_labels
    assert [task.follow_true for task in by_file.tasks] == [task.follow_true for task in by_table.tasks]


def test_what_a_file_does_not_say_is_stated_and_can_be_given(
    traced: Traced, victim: LinearVictim, tmp_path: Path
) -> None:
    class Notes(SilentProgress):
        lines: list[str] = []  # noqa: RUF012 - of this test alone

        def note(self, message: str) -> None:
            self.lines.append(message)

    export(victim, tmp_path / "victim.pt", {})
    config = JudgeConfig(
        traced.folder / "probes",
        model=tmp_path / "victim.pt",
        size=16,
        mean=("0", "0", "0"),
        std=("1", "1", "1"),
        device="cpu",
    )
    result = judge_model(config, Notes())
    assert result.verdict is TraceVerdict.TRAINED
    assert "scaled to 16 x 16 pixels, mean 0,0,0, std 1,1,1" in Notes.lines[0]
    assert Notes.lines[1] == "its outputs are colour, round (in the order of the release; --outputs)"
    with pytest.raises(InputError, match="the output for round"):
        judge_model(replace(config, outputs=("round", "colour")), SilentProgress())
    with pytest.raises(InputError, match="--mean"):
        judge_model(replace(config, mean=("0", "x", "0")), SilentProgress())


def test_a_model_whose_answers_are_no_numbers_is_not_accused(traced: Traced, tmp_path: Path) -> None:
    class Broken(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            shown = images.mean(dim=(1, 2, 3))[:, None]
            return (shown / 0 - shown / 0).expand(-1, len(COLOURS)), shown.expand(-1, 2)

    class Flat(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(1) @ torch.ones(3 * 16 * 16, 2)

    for model, said in (
        (Broken(), "output for colour is not a number for 384 probes"),
        (Flat(), "of 224 x 224 pixels"),
    ):
        path = tmp_path / "model.pt"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            script = torch.jit.trace(model, torch.rand(2, 3, 16, 16))  # type: ignore[no-untyped-call]  # no types
            torch.jit.save(script, str(path))
        with pytest.raises(InputError, match=said):
            judge_model(JudgeConfig(traced.folder / "probes", model=path, device="cpu"), SilentProgress())


def test_a_file_that_is_no_model_is_refused(traced: Traced, tmp_path: Path) -> None:
    (tmp_path / "fifo.onnx").touch()
    if hasattr(os, "mkfifo"):
        (tmp_path / "fifo.onnx").unlink()
        os.mkfifo(tmp_path / "fifo.onnx")
    for name in ("model.pt", "model.pt2", "model.onnx", "fifo.onnx"):
        if not name.startswith("fifo"):
            (tmp_path / name).write_bytes(b"nothing")
        with pytest.raises(InputError, match="cannot be read as a model"):
            judge_model(JudgeConfig(traced.folder / "probes", model=tmp_path / name, device="cpu"), SilentProgress())


def test_unknown_names(traced: Traced, victim: LinearVictim, tmp_path: Path) -> None:
    rows = write_answers(traced.folder / "probes", victim, tmp_path / "answers.csv")
    theirs = {name: f"x{number}" for number, name in enumerate(COLOURS)}
    write_rows(tmp_path / "theirs.csv", [row | {"colour": theirs[row["colour"]]} for row in rows])
    config = JudgeConfig(traced.folder / "probes", answers=tmp_path / "theirs.csv")
    with pytest.raises(InputError) as found:
        judge_model(config, SilentProgress())
    assert "--map" in str(found.value.hint)
    named = judge_model(replace(config, map=tuple(f"{name}={ours}" for ours, name in theirs.items())), SilentProgress())
    assert named.p_value == judge_model(replace(config, answers=tmp_path / "answers.csv"), SilentProgress()).p_value
    unnamed = judge_model(replace(config, unknown_names=True), SilentProgress())
    assert unnamed.unknown_names
    assert named.p_value <= unnamed.p_value < 1


def test_either_a_table_or_a_model(traced: Traced, tmp_path: Path) -> None:
    for given in (None, tmp_path):
        with pytest.raises(InputError, match="either"):
            judge_model(JudgeConfig(traced.folder / "probes", answers=given, model=given), SilentProgress())


def test_the_commands_and_the_page(traced: Traced, victim: LinearVictim, tmp_path: Path) -> None:
    made = ["trace", "probes", str(traced.clean), "--release", str(traced.release), "--key", str(traced.key)]
    made += ["--weights", str(traced.weights), "--seed", SEED]
    made += ["--out", str(tmp_path / "p"), "--queries", "400", "--json"]
    first = CliRunner().invoke(app, made)
    assert first.exit_code == 0, first.output
    document = json.loads(first.stdout)
    assert document["schema_version"] == 1
    assert document["count"] <= 400
    rows = write_answers(tmp_path / "p", victim, tmp_path / "answers.csv")
    asked = ["trace", "judge", str(tmp_path / "p"), "--answers", str(tmp_path / "answers.csv")]
    result = CliRunner().invoke(app, [*asked, "--json", str(tmp_path / "r.json"), "--report", str(tmp_path / "r.html")])
    assert result.exit_code == 0, result.output
    assert "trained on this release" in result.stdout
    page = (tmp_path / "r.html").read_text()
    for words in ("What was asked", "How to repeat it", document["commitment_sha256"], "Trained on this release"):
        assert words in page
    assert "<script" not in page
    assert json.loads((tmp_path / "r.json").read_text())["verdict"] == "trained on this release"
    write_rows(tmp_path / "one.csv", [row | {"colour": "red", "round": "0"} for row in rows])
    alike = CliRunner().invoke(app, [*asked[:-1], str(tmp_path / "one.csv")])
    assert alike.exit_code in (ExitCode.NOT_PROTECTED, ExitCode.INCONCLUSIVE), alike.output
    few = CliRunner().invoke(app, [*made[:-5], "--out", str(tmp_path / "few"), "--queries", "8"])
    assert few.exit_code == 0, few.output
    write_answers(tmp_path / "few", victim, tmp_path / "few.csv")
    answered = CliRunner().invoke(
        app, ["trace", "judge", str(tmp_path / "few"), "--answers", str(tmp_path / "few.csv")]
    )
    assert answered.exit_code == ExitCode.INCONCLUSIVE
    assert "too few queries" in answered.stdout


def test_the_functions(traced: Traced, victim: LinearVictim, tmp_path: Path) -> None:
    made = mtlue.trace.probes(
        traced.clean,
        release=traced.release,
        out=tmp_path / "p",
        key=traced.key,
        weights=traced.weights,
        queries=400,
        seed=SEED,
    )
    rows = write_answers(tmp_path / "p", victim, tmp_path / "answers.csv")
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    result = mtlue.trace.judge(made.probes, answers=columns)
    assert result.verdict == "trained on this release"
    assert (result.answers, result.answers_sha256) == ("answers", "")
    assert result.p_value == mtlue.trace.judge(tmp_path / "p", answers=tmp_path / "answers.csv").p_value
    assert result.html().startswith("<!DOCTYPE html>")
    with pytest.raises(InputError, match="the answers in answers cannot be used"):
        mtlue.trace.judge(made.probes, answers={"file": ["zz"], "colour": ["red"]})
    with pytest.raises(TypeError, match="did you mean 'queries'"):
        mtlue.trace.probes(traced.clean, release=traced.release, out=tmp_path / "q", querys=4)


STAGES, ARMS, IMAGES, CLASSES = 8, 10, 2, 5


def drawn_probes(seed: int) -> SealedAnswers:
    """The sealed answers of one task of five classes, without images."""
    probes = tuple(
        Probe(f"{stage}-{arm}-{image}.png", "0" * 64, f"{image}.jpg", stage, arm, 8, {"age": f"{stage % 5}"}, ("age",))
        for stage in range(STAGES)
        for arm in range(ARMS)
        for image in range(IMAGES)
    )
    tasks = {"age": tuple(map(str, range(CLASSES)))}
    return SealedAnswers(f"{seed:064x}", "", "0" * 64, "f", "0" * 64, 8, tasks, STAGES, ARMS, IMAGES, probes)


def answered(sealed: SealedAnswers, rng: np.random.Generator, true: float, noise: float = 0.0) -> float:
    """The p-value of a model that reads codes alone: it follows true ones, and any other code is some class to it."""
    meaning = {(stage, arm): str(rng.integers(CLASSES)) for stage in range(STAGES) for arm in range(ARMS)}
    labels: list[int] = []
    for probe in sealed.probes:
        follows = probe.arm == 0 and rng.random() < true
        answer = probe.classes["age"] if follows else meaning[probe.stage, probe.arm]
        labels.append(int(rng.integers(CLASSES)) if rng.random() < noise else int(answer))
    given = TaskAnswers(sealed.tasks["age"], np.array(labels, np.int64))  # type: ignore[arg-type]  # a tuple it is
    return judge_answers(sealed, Answers("simulation", {"age": given}), 0.001, Path("p"), "0" * 64).p_value


def test_random_answers_in_a_fifth_of_the_queries_do_not_hide_a_victim() -> None:
    rng = np.random.default_rng(0)
    honest = [answered(drawn_probes(number), rng, 0.95) for number in range(60)]
    hiding = [answered(drawn_probes(number), rng, 0.95, noise=0.2) for number in range(60)]
    assert np.median(honest) < 5e-4
    assert np.median(hiding) < 2e-3


def test_a_model_that_reads_codes_of_another_key_is_accused_as_often_as_the_level_says() -> None:
    rng = np.random.default_rng(1)
    found = np.array([answered(drawn_probes(number), rng, 0.0) for number in range(400)])
    assert 0.02 < (found <= 0.05).mean() < 0.085
    assert stats.kstest(found, "uniform").pvalue > 0.01
