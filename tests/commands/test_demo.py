import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from mtlue_cli.choices import ExitCode
from mtlue_cli.commands.app import app
from mtlue_cli.errors import InputError
from mtlue_cli.release.records import read_manifest
from mtlue_cli.workflows.demo import MARKER, DemoResult, claim_folder, run_demo
from mtlue_cli.workflows.demo_config import DemoConfig
from mtlue_cli.workflows.progress import SilentProgress

pytestmark = pytest.mark.usefixtures("tiny_small")

DENSE = ("segmentation", "depth", "normals")


def tiny(out: Path) -> DemoConfig:
    return DemoConfig(
        out,
        minutes=0.02,
        train_count=32,
        test_count=16,
        image_size=32,
        generator_size=32,
        victim_size=28,
        surrogate_epochs=1,
        victim_epochs=1,
        scene_count=8,
        scene_test_count=4,
        scene_size=32,
        scene_epochs=1,
        judge_scenes=True,
        device="cpu",
    )


class Stages(SilentProgress):
    """Remembers which stages began."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    def start(self, stage: str, total: int | None) -> None:  # noqa: ARG002 - the protocol's signature
        self.begun.append(stage)


def test_folder_is_claimed_once_and_known_again(tmp_path: Path) -> None:
    config = tiny(tmp_path / "new" / "demo")
    claim_folder(config)
    claim_folder(config)
    assert [path.name for path in config.out.iterdir()] == [MARKER]


@pytest.mark.parametrize(
    "field",
    ["seed", "minutes", "train_count", "test_count", "image_size", "generator_size", "scene_count", "scene_size"],
)
def test_folder_of_a_demo_with_other_settings_is_refused(tmp_path: Path, field: str) -> None:
    config = tiny(tmp_path / "demo")
    claim_folder(config)
    with pytest.raises(InputError, match="other settings"):
        claim_folder(dataclasses.replace(config, **{field: getattr(config, field) + 1}))


def test_damaged_marker_is_refused(tmp_path: Path) -> None:
    (tmp_path / MARKER).write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="other settings"):
        claim_folder(tiny(tmp_path))


def test_foreign_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.txt").write_text("mine", encoding="utf-8")
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path)])
    assert result.exit_code == ExitCode.INPUT
    assert "not a folder of the demo" in result.stderr
    assert "choose another --out" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.txt"]


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "file")]).exit_code == ExitCode.INPUT


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[DemoConfig, Stages, DemoResult, DemoResult]:
    """A demo whose scenes are not judged, the same with these judged, and the stages of both."""
    config, stages = tiny(tmp_path_factory.mktemp("demo") / "demo"), Stages()
    unjudged = run_demo(dataclasses.replace(config, judge_scenes=False), stages)
    return config, stages, unjudged, run_demo(config, stages)


def test_second_run_continues_with_what_is_there(ran: tuple[DemoConfig, Stages, DemoResult, DemoResult]) -> None:
    config, first_stages, _, first = ran
    second_stages = Stages()
    for found, count in ((first.shapes, config.train_count), (first.scenes, config.scene_count)):
        manifest = read_manifest(found.release)
        assert len(manifest.files) == count
        assert max(record.max_change for record in manifest.files) <= 8
    made = [path for found in (first.shapes, first.scenes) for path in (found.checkpoint, found.labels)]
    stamps = {
        path: path.stat().st_mtime_ns
        for path in (*made, *first.shapes.images.glob("*.png"), *first.scenes.images.rglob("*.*"))
    }

    # As if killed after drawing: labels are written last, so the set without them is drawn again, to the same bytes.
    (config.out / "test" / "labels.csv").unlink()
    second = run_demo(config, second_stages)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    for before, after in ((first.shapes, second.shapes), (first.scenes, second.scenes)):
        assert before.verification is not None
        assert after.verification is not None
        assert after.verification.to_json()["digest"] == before.verification.to_json()["digest"]
    assert {f"draw {what}: {part}" for what in ("shapes", "scenes") for part in ("train", "test")} <= set(
        first_stages.begun
    )
    assert [stage for stage in second_stages.begun if stage.startswith("draw")] == ["draw shapes: test"]


def test_scenes_are_judged_only_if_asked(ran: tuple[DemoConfig, Stages, DemoResult, DemoResult]) -> None:
    _, _, result, with_scenes = ran
    assert result.scenes.verification is None
    assert result.to_json()["scenes"]["verification"] is None
    judged = with_scenes.scenes.verification
    assert judged is not None
    assert [task.task for task in judged.conditions[0].tasks] == list(DENSE)


def test_the_worst_of_both_sets_is_the_exit_code() -> None:
    codes = ExitCode

    def reported(shapes: ExitCode, scenes: ExitCode | None, left_out: ExitCode = ExitCode.SUCCESS) -> ExitCode:
        protection, judged = (SimpleNamespace(exit_code=code) for code in (left_out, scenes))
        drawn = SimpleNamespace(
            protection=SimpleNamespace(exit_code=codes.SUCCESS), verification=SimpleNamespace(exit_code=shapes)
        )
        rendered = SimpleNamespace(protection=protection, verification=None if scenes is None else judged)
        return DemoResult(drawn, rendered, 0.0).exit_code  # type: ignore[arg-type]  # as much of a set as is asked for

    assert reported(codes.SUCCESS, None) == codes.SUCCESS
    assert reported(codes.SUCCESS, None, codes.QUARANTINE) == codes.QUARANTINE
    assert reported(codes.INCONCLUSIVE, codes.NOT_PROTECTED, codes.QUARANTINE) == codes.NOT_PROTECTED
    assert reported(codes.SUCCESS, codes.INCONCLUSIVE) == codes.INCONCLUSIVE
