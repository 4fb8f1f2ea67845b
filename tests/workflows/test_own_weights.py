"""The plain command: weights that are trained on the images at hand, kept in private and found again."""

import csv
import re
import stat
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from PIL import Image

from mtlue_cli.choices import QUICK_EPSILON, Visibility
from mtlue_cli.errors import InputError
from mtlue_cli.generator.checkpoint import read_card
from mtlue_cli.release.records import read_run, write_run
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect import own_weights
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.own_weights import weights_store
from mtlue_cli.workflows.protect.run import ProtectResult, protect_folder
from mtlue_cli.workflows.train import run as training_run
from mtlue_cli.workflows.train.config import TrainConfig
from mtlue_cli.workflows.train.settings import THROUGH_ATTACKS
from tests.small_set import write_checkpoint, write_images

pytestmark = pytest.mark.usefixtures("tiny_small")

COUNT = 12


class Notes(SilentProgress):
    """Keeps every note; raises KeyboardInterrupt at a step of the generator if asked."""

    def __init__(self, stop_at: int = 0) -> None:
        self.notes: list[str] = []
        self.stage, self.steps, self.stop_at = "", 0, stop_at

    def note(self, message: str) -> None:
        self.notes.append(message)

    def start(self, stage: str, total: int | None) -> None:  # noqa: ARG002
        self.stage = stage

    def advance(self, steps: int = 1, figures: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
        if self.stage.startswith("generator"):
            self.steps += steps
            if self.stop_at and self.steps == self.stop_at:
                raise KeyboardInterrupt

    def has(self, part: str) -> bool:
        """Whether a note holds ``part``."""
        return any(part in note for note in self.notes)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProtectConfig:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(own_weights, "FEWEST_IMAGES", COUNT)
    monkeypatch.setattr(own_weights, "MOST_STEPS", 4)
    monkeypatch.setattr(own_weights, "LEAST_STEPS", 1)
    monkeypatch.setattr(training_run, "TRIAL_STEPS", 3)
    monkeypatch.setattr(own_weights, "TrainConfig", partial(TrainConfig, size=16))
    labels = write_images(tmp_path / "photos", COUNT)
    return ProtectConfig(tmp_path / "photos", labels, device="cpu", train_minutes=0.01)


def run(config: ProtectConfig, notes: Notes | None = None, **changes: Any) -> ProtectResult:  # noqa: ANN401
    return protect_folder(replace(config, **changes), notes or Notes())


def kept() -> list[Path]:
    return sorted(weights_store().glob("*.safetensors"))


def add_photo(config: ProtectConfig, name: str, colour: str = "red") -> None:
    pixels = np.random.default_rng(99).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(config.images / name)
    with config.labels.open("a", newline="") as stream:
        csv.writer(stream).writerow((name, colour, "1"))


def test_weights_are_trained_kept_in_private_and_used_again_for_new_photos(config: ProtectConfig) -> None:
    notes = Notes()
    first = run(config, notes)
    (weights,) = kept()
    assert notes.has(f"training weights for these {COUNT} images: about 0.01 minutes on cpu")
    assert any("training was short: 4 steps, and its surrogate follows" in warning for warning in first.warnings)
    assert first.protected + len(first.quarantine) == COUNT
    card = read_card(weights)
    assert read_run(first.release).weights_sha256 == card.digest
    assert card.generator["chroma"] == THROUGH_ATTACKS.chroma == 1
    assert card.settings["visibility"] == THROUGH_ATTACKS.visibility == "normal"
    assert stat.S_IMODE(weights.stat().st_mode) == 0o600
    assert stat.S_IMODE(weights.parent.stat().st_mode) == 0o700
    assert not weights.resolve().is_relative_to(first.release.resolve())

    named = replace(config, weights=str(weights), train_minutes=None, out=config.images.with_name("named"))
    assert any("train them for longer with mtlue train-generator" in warning for warning in run(named).warnings)

    add_photo(config, "late.png")
    later = Notes()
    second = run(config, later, train_minutes=None)
    assert later.steps == 0
    assert later.has(f"weights from an earlier run: {weights}")
    assert second.protected + len(second.quarantine) - len(first.quarantine) == 1
    assert read_run(second.release).weights_sha256 == card.digest


def test_an_interrupted_training_continues(config: ProtectConfig) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(config, Notes(stop_at=2))
    assert not config.release.exists()
    again = Notes()
    run(config, again)
    assert again.has("continuing the unfinished training")
    assert again.steps == 4 - 2
    assert len(kept()) == 1


def test_a_release_names_its_weights_wherever_the_photos_have_moved(config: ProtectConfig, tmp_path: Path) -> None:
    release = run(config).release
    moved = config.images.rename(tmp_path / "moved")
    notes = Notes()
    again = run(config, notes, images=moved, labels=moved / "labels.csv", out=release, train_minutes=None)
    assert notes.steps == again.protected == 0
    assert len(kept()) == 1


def test_labels_that_the_weights_do_not_know_need_overwrite(config: ProtectConfig) -> None:
    run(config)
    (before,) = kept()
    add_photo(config, "late.png", "violet")
    with pytest.raises(InputError, match="do not know all of the labels") as caught:
        run(config)
    assert any("violet" in fault for fault in caught.value.faults)
    run(config, overwrite=True)
    kept_before, new = kept()
    assert kept_before == before
    assert "violet" in read_card(new).tasks["colour"].classes


def test_overwrite_alone_keeps_the_weights_and_with_train_replaces_them(config: ProtectConfig) -> None:
    run(config)
    kept_notes, new_notes = Notes(), Notes()
    run(config, kept_notes, overwrite=True, train_minutes=None)
    assert kept_notes.steps == 0
    run(config, new_notes, overwrite=True)
    assert new_notes.steps == 4


def test_few_images_take_the_closed_form_and_say_what_that_gives_up(
    config: ProtectConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_weights, "FEWEST_IMAGES", COUNT + 1)
    notes = Notes()
    result = run(config, notes, train_minutes=None)
    assert result.weights == "default"
    assert notes.has("too few to train weights")
    assert any("turning the images grey undoes them" in warning for warning in result.warnings)
    assert kept() == []
    more = Notes()
    monkeypatch.setattr(own_weights, "FEWEST_IMAGES", COUNT)
    assert run(config, more, train_minutes=None).weights == "default"
    assert more.has("was made with ready-made patterns, and this run continues it")
    assert run(config, overwrite=True).weights != "default"


def test_quick_takes_the_closed_form_and_says_what_that_gives_up(config: ProtectConfig) -> None:
    notes = Notes()
    result = run(config, notes, quick=True, train_minutes=None)
    assert result.weights == "default"
    assert any("stop plain training only" in warning for warning in result.warnings)
    assert (result.epsilon, result.max_change) == (QUICK_EPSILON, QUICK_EPSILON)
    assert not any("was not measured" in warning for warning in result.warnings)
    assert run(config, overwrite=True, quick=True, train_minutes=None, epsilon=8).max_change == 8
    assert run(config, overwrite=True, weights="default", train_minutes=None).epsilon == 8
    weak = run(config, overwrite=True, quick=True, train_minutes=None, epsilon=4)
    assert any("was not measured" in warning for warning in weak.warnings)
    assert result.to_json()["warnings"] == list(result.warnings)
    assert kept() == []


def test_a_release_of_other_weights_is_refused_before_training(config: ProtectConfig, tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "other.safetensors")
    run(config, weights=str(other), train_minutes=None)
    notes = Notes()
    with pytest.raises(InputError, match="made with the weights other"):
        run(config, notes)
    assert notes.steps == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"quick": True},
        {"weights": "default"},
        {"quick": True, "weights": "default", "train_minutes": None},
        {"train_minutes": 0.0},
        {"train_minutes": float("nan")},
        {"train_minutes": float("inf")},
        {"key": Path("key"), "train_minutes": None},
    ],
)
def test_options_that_do_not_go_together_are_refused(config: ProtectConfig, changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="cannot be used together"):
        run(config, **changes)
    assert kept() == []


def test_a_photo_that_cannot_be_read_is_left_out_of_training_and_of_the_release(config: ProtectConfig) -> None:
    (config.images / "photo1.png").write_bytes(b"no picture")
    notes = Notes()
    result = run(config, notes)
    assert notes.has("training leaves out 1 image that cannot be read")
    assert "photo1.png" in {record.source for record in result.quarantine}


def test_columns_that_cannot_be_protected_are_named_and_not_trained_on(config: ProtectConfig) -> None:
    lines = config.labels.read_text().splitlines()
    config.labels.write_text("\n".join([lines[0] + ",same", *(line + ",x" for line in lines[1:])]) + "\n")
    notes = Notes()
    result = run(config, notes)
    assert result.tasks == ("colour", "round")
    assert result.unprotected_tasks == ("same",)
    assert notes.has("left out: it holds only one class, 'x': there is nothing to learn")


def test_weights_of_another_release_are_never_replaced(config: ProtectConfig, tmp_path: Path) -> None:
    first = run(config, out=tmp_path / "a")
    run(config, out=tmp_path / "b", overwrite=True)
    assert len(kept()) == 2
    again = Notes()
    assert run(config, again, out=tmp_path / "a", train_minutes=None).kept == first.protected
    assert again.steps == 0


def test_a_training_that_is_far_too_short_releases_nothing(
    config: ProtectConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_weights, "LEAST_STEPS", 5)
    with pytest.raises(InputError, match="training ended after 4 steps, and at least 5 are needed"):
        run(config)
    assert kept() == []
    assert not config.release.exists()


def test_a_time_limit_that_is_too_short_is_refused_with_the_minutes_it_takes(
    config: ProtectConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_weights, "LEAST_STEPS", 10**6)
    notes = Notes()
    with pytest.raises(InputError, match=r"would end after \d+ steps, and at least 1000000 are needed") as caught:
        run(config, notes)
    assert re.match(r"give it more time with --train [1-9]\d+, ", caught.value.hint or "")
    assert notes.steps == 0
    assert [path.suffix for path in weights_store().iterdir()] == [".lock"]


def test_everything_beside_the_weights_is_private_too(config: ProtectConfig) -> None:
    run(config)
    assert {path.suffix for path in weights_store().iterdir()} == {".safetensors", ".png", ".lock"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in weights_store().iterdir()} == {0o600}


@pytest.mark.parametrize("obstacle", ["file", "strangers", "protected"])
def test_an_output_that_cannot_take_the_release_is_refused_before_training(
    config: ProtectConfig, tmp_path: Path, obstacle: str
) -> None:
    out = tmp_path / "out"
    if obstacle == "file":
        out.write_text("")
    elif obstacle == "strangers":
        out.mkdir()
        (out / "mine.txt").write_text("")
    else:
        release = run(config, quick=True, train_minutes=None).release
        config = replace(config, images=release, labels=release / "labels.csv")
    notes = Notes()
    with pytest.raises(InputError):
        run(config, notes, out=out)
    assert notes.steps == 0


def test_weights_that_cannot_be_read_are_not_trained_anew(config: ProtectConfig) -> None:
    run(config)
    (weights,) = kept()
    weights.write_bytes(b"damaged")
    with pytest.raises(InputError):
        run(config, out=config.images.with_name("other"))
    assert kept() == [weights]


def test_an_interrupted_training_continues_with_another_length(config: ProtectConfig) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(config, Notes(stop_at=2))
    again = Notes()
    run(config, again, train_minutes=0.02)
    assert again.steps == 4 - 2


def test_an_interrupted_release_of_new_weights_continues_with_these(config: ProtectConfig) -> None:
    run(config)
    release = run(config, overwrite=True).release
    record = read_run(release)
    write_run(release, structs.replace(record, complete=False))
    again = Notes()
    run(config, again, overwrite=True)
    assert again.steps == 0
    assert read_run(release).weights_sha256 == record.weights_sha256
    assert len(kept()) == 2


def add_eight_columns(config: ProtectConfig) -> None:
    header, *rows = config.labels.read_text().splitlines()
    more = [f"{header}," + ",".join(f"t{index}" for index in range(8))]
    more += [f"{row}," + ",".join(str((at + index) % 2) for index in range(8)) for at, row in enumerate(rows)]
    config.labels.write_text("\n".join(more) + "\n")


def test_many_columns_are_warned_of(config: ProtectConfig) -> None:
    add_eight_columns(config)
    assert any("weights for more than 8 columns" in warning for warning in run(config).warnings)


def test_ready_made_patterns_for_many_columns_take_the_whole_bound(config: ProtectConfig) -> None:
    add_eight_columns(config)
    assert run(config, quick=True, train_minutes=None).epsilon == 8


def test_visibility_is_that_of_the_training_and_never_changes_silently(config: ProtectConfig) -> None:
    result = run(config, visibility=Visibility.LOW)
    card = read_card(kept()[0])
    assert card.settings["visibility"] == "low"
    assert 0 < card.settings["flip"] < 1
    with pytest.raises(InputError, match="have the visibility low"):
        run(config, visibility=Visibility.HIGH)
    assert run(config).weights == result.weights  # without the option the earlier weights serve
    run(config, visibility=Visibility.HIGH, overwrite=True)
    assert read_card(kept()[-1]).settings["visibility"] == "high"


@pytest.mark.parametrize("changes", [{"quick": True}, {"weights": "default"}, {"train_minutes": None}])
def test_visibility_is_refused_where_nothing_is_trained(
    config: ProtectConfig, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_weights, "FEWEST_IMAGES", COUNT + 1)
    with pytest.raises(InputError, match="visibility"):
        run(config, visibility=Visibility.LOW, **({"train_minutes": None} | changes))
