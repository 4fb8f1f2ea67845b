import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import torch
from msgspec import structs
from torch import Tensor

from mtlue_cli.choices import (
    BackboneName,
    CountermeasureName,
    ExitCode,
    LearnerName,
    MetricName,
    Tier,
    TrainingMethodName,
    WeightingName,
)
from mtlue_cli.errors import InputError
from mtlue_cli.keys import cache_key
from mtlue_cli.metrics.flip import SAMPLE
from mtlue_cli.release.records import FOLDER, read_run
from mtlue_cli.training import multitask_loop
from mtlue_cli.training.intervention import Mixture
from mtlue_cli.training.multitask_loop import steps_an_epoch
from mtlue_cli.training.pretrained import PretrainedStart, save_start
from mtlue_cli.verification.conditions import Role
from mtlue_cli.verification.countermeasures.base import Augmentation, CountermeasureChoice
from mtlue_cli.verification.countermeasures.registry import COUNTERMEASURES
from mtlue_cli.verification.report import VerifyResult
from mtlue_cli.verification.result_cache import ResultCache
from mtlue_cli.verification.split import Side, Sides, divide
from mtlue_cli.verification.tiers import TIERS, NotTested, TierSpec
from mtlue_cli.verification.training_images import uniform_noise
from mtlue_cli.verification.verdict import Verdict
from mtlue_cli.verification.victim_result import VictimResult
from mtlue_cli.workflows.progress import Progress, SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.run import protect_folder
from mtlue_cli.workflows.verify.config import VerifyConfig
from mtlue_cli.workflows.verify.dry_run import dry_run
from mtlue_cli.workflows.verify.plan import plan_verification, require_fit
from mtlue_cli.workflows.verify.run import verify_release
from tests.dense_sample import TASKS
from tests.small_set import write_checkpoint
from tests.tiny_network import build_tiny
from tests.verification.made_release import (
    EPSILON,
    MadeSet,
    make_release,
    make_set,
    quarantine_first,
    save_manifest,
    useless,
)

pytestmark = pytest.mark.usefixtures("tiny_small")
ROWS = ("small: clean images", "small", "small: noise")


def scores(result: VerifyResult) -> list[float]:
    """What the victim of the release reached, a task."""
    return [task.score.mean for task in result.conditions[1].tasks]


class RecordedProgress:
    """A progress that remembers stages, steps and notes."""

    def __init__(self) -> None:
        self.stages: dict[str, int | None] = {}
        self.steps: dict[str, int] = {}
        self.figures: dict[str, dict[str, float]] = {}
        self.notes: list[str] = []
        self._stage = ""

    def start(self, stage: str, total: int | None) -> None:
        self._stage = stage
        self.stages[stage] = total
        self.steps[stage] = 0

    def advance(self, steps: int = 1, figures: Mapping[str, float] | None = None) -> None:
        self.steps[self._stage] += steps
        self.figures.setdefault(self._stage, {}).update(figures or {})

    def finish(self) -> None:
        self._stage = ""

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeSet:
    return make_set(tmp_path_factory.mktemp("verify") / "clean")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished victims, so that the tests do not train the clean one again and again."""
    return tmp_path_factory.mktemp("victims")


@pytest.fixture
def config(made: MadeSet, cache: Path, tmp_path: Path) -> VerifyConfig:
    return VerifyConfig(
        clean=made.images,
        labels=made.labels,
        protected=tmp_path / "release",
        test_fraction=0.3,
        backbones=(BackboneName.SMALL,),
        epochs=4,
        size=16,
        batch_size=10,
        learning_rate=1e-2,
        cache=cache,
        device="cpu",
        workers=1,
    )


def test_a_release_that_misleads_is_protected(config: VerifyConfig, made: MadeSet, tmp_path: Path) -> None:
    make_release(made, tmp_path / "release")
    config = replace(config, cache=tmp_path / "cache")
    progress = RecordedProgress()
    result = verify_release(config, progress)
    assert result.verdict is Verdict.PROTECTED, result.reason
    assert result.exit_code is ExitCode.SUCCESS
    document = result.to_json()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["schema_version"] == 2
    assert [row["name"] for row in document["conditions"]] == list(ROWS)
    assert [row["role"] for row in document["conditions"]] == ["reference", "judged", "control"]
    assert [len(row["curves"][0]["epochs"]) for row in document["conditions"]] == [4, 4, 4]
    fractions = [row["average"]["learned_fraction"]["mean"] for row in document["conditions"]]
    assert fractions[0] == pytest.approx(1.0)
    assert fractions[1] < 0.1
    assert fractions[2] > 0.6
    reference, judged, control = result.conditions
    assert reference.learned is not None
    assert reference.learned.interval is None
    for found in (judged, control):
        assert found.average is not None
        assert found.average.interval is not None
        assert found.average.interval.low <= found.average.learned_fraction.mean <= found.average.interval.high
        assert found.average.interval.high - found.average.interval.low < 1
    assert judged.learned is not None
    assert judged.learned.interval is not None
    assert f"({judged.learned.interval.low:.2f} to {judged.learned.interval.high:.2f})" in result.reason
    assert {probe["name"] for probe in document["probes"]} == {"detectability", "label-recovery"}
    untried = {left["name"] for left in document["not_tested"]}
    assert {"backbone resnet18", "countermeasure jpeg-10", "learner stl"} <= untried
    assert "backbone small" not in untried
    assert document["counts"]["train_images"] + document["counts"]["test_images"] == 200
    assert document["settings"]["epochs"] == 4
    assert document["audit"]["max_change"] == EPSILON
    train = document["counts"]["train_images"]
    for row in ROWS:
        assert progress.stages[row] == 4 * train
        assert progress.steps[row] == 4 * train
        assert set(progress.figures[row]) == {"loss", "accuracy"}
    assert any(note.startswith("device: cpu") for note in progress.notes)

    again = RecordedProgress()
    repeated = verify_release(config, again)
    assert all(row["cached"] for row in repeated.to_json()["conditions"])
    assert repeated.reason == result.reason
    assert repeated.to_json()["digest"] == document["digest"]
    assert all("accuracy" not in again.figures[row] for row in ROWS)
    assert repeated.conditions[1].learned == judged.learned
    surely = verify_release(replace(config, confidence=0.95, max_learned=judged.learned.mean), SilentProgress())
    assert surely.verdict is Verdict.INCONCLUSIVE
    assert surely.conditions[1].undecided


def test_the_verdict_rests_on_what_the_cache_holds(config: VerifyConfig, made: MadeSet, tmp_path: Path) -> None:
    """An entry of other scores changes the figures, if the user's key made it; an edited one is not used."""
    make_release(made, tmp_path / "release", useless)
    quick = replace(config, control=False, epochs=2, cache=tmp_path / "cache")
    first = verify_release(quick, SilentProgress())
    entries = {path: json.loads(path.read_text()) for path in (tmp_path / "cache").iterdir()}
    entry, stored = next((path, found) for path, found in entries.items() if found["result"]["condition"] == "small")
    stored["result"]["scores"]["accuracy"] = {"green": 0.25, "red": 0.125}
    entry.write_text(json.dumps(stored))
    progress = RecordedProgress()
    assert scores(verify_release(quick, progress)) == scores(first)
    assert sum("that this key did not make are not used" in note for note in progress.notes) == 1
    result = msgspec.convert(stored["result"], VictimResult, strict=False)
    ResultCache(tmp_path / "cache", cache_key().key).store(stored["key"], result)
    assert scores(verify_release(quick, SilentProgress())) == [0.25, 0.125]
    assert scores(verify_release(replace(quick, cache=None), SilentProgress())) == scores(first)


def test_a_release_of_the_originals_is_not_protected(config: VerifyConfig, made: MadeSet, tmp_path: Path) -> None:
    make_release(made, tmp_path / "release", useless)
    result = verify_release(replace(config, control=False), SilentProgress())
    assert result.exit_code is ExitCode.NOT_PROTECTED
    learned = [task.learned_fraction.mean if task.learned_fraction else None for task in result.conditions[1].tasks]
    assert learned == [pytest.approx(1.0)] * 2
    assert [found.name for found in result.conditions] == ["small: clean images", "small"]


def test_an_audit_fault_ends_it_before_any_victim(config: VerifyConfig, made: MadeSet, tmp_path: Path) -> None:
    make_release(made, tmp_path / "release")
    (tmp_path / "release" / "a/004.png").unlink()
    result = verify_release(replace(config, cache=tmp_path / "cache"), SilentProgress())
    assert result.exit_code is ExitCode.NOT_PROTECTED
    assert result.to_json()["conditions"] == []
    assert result.to_json()["audit"]["faults"] == ["a/004.png: missing in the release"]
    assert result.to_json()["flip"] is None
    assert not (tmp_path / "cache").exists()


def test_clean_images_that_teach_nothing_are_inconclusive(config: VerifyConfig, tmp_path: Path) -> None:
    made = make_set(tmp_path / "random", count=80, seed=5, learnable=False)
    make_release(made, tmp_path / "release", useless)
    # One epoch at a vanishing rate: the victim stays at what its initial weights guess.
    config = replace(config, clean=made.images, labels=made.labels, epochs=1, learning_rate=1e-7, test_fraction=0.5)
    result = verify_release(config, SilentProgress())
    assert result.exit_code is ExitCode.INCONCLUSIVE
    assert [found.name for found in result.conditions] == ["small: clean images"]
    assert "learns nothing from clean images" in {left.name: left.reason for left in result.not_tested}["small"]


def test_noise_that_protects_is_inconclusive(
    config: VerifyConfig, made: MadeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def louder(images: Tensor, epsilon: int, seed: int) -> Tensor:
        return uniform_noise(images, 50 * epsilon, seed)  # which leaves nothing of the images

    monkeypatch.setattr("mtlue_cli.verification.training_images.uniform_noise", louder)
    make_release(made, tmp_path / "release")
    result = verify_release(replace(config, cache=tmp_path / "cache"), SilentProgress())
    control = result.conditions[2].average
    assert control is not None
    assert control.learned_fraction.mean < 0.5
    assert result.exit_code is ExitCode.INCONCLUSIVE
    assert "unreliable" in result.reason


def test_tasks_left_open_and_quarantined_images(config: VerifyConfig, made: MadeSet, tmp_path: Path) -> None:
    release = tmp_path / "release"

    def only_red(green: int, red: int) -> tuple[int, int, int]:  # noqa: ARG001 - a Shift
        return EPSILON * (1 - 2 * red), 0, 0

    manifest = make_release(made, release, only_red)
    manifest = replace(manifest, run=structs.replace(manifest.run, tasks=("red",)))
    name = quarantine_first(release, manifest)
    progress = RecordedProgress()
    result = verify_release(replace(config, control=False), progress)
    assert result.exit_code is ExitCode.SUCCESS
    assert [task.task for task in result.conditions[0].tasks] == ["red"]
    counts = result.to_json()["counts"]
    assert counts["train_images"] + counts["test_images"] == 199
    assert result.to_json()["audit"]["quarantined"] == {name: "damaged"}
    assert "not protected by design and left out: green" in progress.notes
    assert result.to_json()["notes"][0] == "not protected by design and left out: green"


def test_a_kept_column_is_measured_by_all_victims(
    config: VerifyConfig, made: MadeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multitask_loop, "build_network", build_tiny)

    def only_red(green: int, red: int) -> tuple[int, int, int]:  # noqa: ARG001 - a Shift
        return EPSILON * (1 - 2 * red), 0, 0

    manifest = make_release(made, tmp_path / "release", only_red)
    save_manifest(tmp_path / "release", replace(manifest, run=structs.replace(manifest.run, tasks=("red",))))
    progress = RecordedProgress()
    config = replace(
        config,
        keep=("green",),
        control=False,
        probes=False,
        methods=("scratch", "res-cbm:target=green"),
        countermeasures=("early-stop",),
        gradual=(1.0, 0.0),
        learning_rate=2e-2,
        cache=None,
    )
    result = verify_release(config, progress)
    assert "res-cbm predicts green through red: 2 concepts and 8 residual vectors" in progress.notes
    assert result.notes[1].startswith("res-cbm predicts green")
    assert all([task.judged for task in one.tasks] == [False, True] for one in result.conditions)
    by_name = {one.name: one for one in result.conditions}
    names = ["small", "small + early-stop", "small: 100, 0 % protected", "small res-cbm:target=green"]
    for name in names:
        utility = by_name[name].utility
        assert utility is None or utility.tasks == ("green",)
    released = by_name["small"]
    assert released.utility is not None
    assert released.average is not None
    assert released.utility.learned_fraction.mean > 0.8 > released.average.learned_fraction.mean
    assert by_name[names[2]].role is Role.COMPARISON
    assert len(by_name[names[2]].trajectory) == 2
    assert by_name[names[1]].stopped_epochs != (None,)
    assert by_name[names[3]].concepts is not None
    assert 'id="trade-off"' in result.html()


def test_columns_that_are_no_tasks_do_not_stop_it(config: VerifyConfig, made: MadeSet, tmp_path: Path) -> None:
    def widened(path: Path) -> Path:
        head, *rows = path.read_text().splitlines()
        wide = [f"{head},id,site", *(f"{row},{row.split(',')[0]},lab" for row in rows)]
        target = tmp_path / f"{path.parent.name}.csv"
        target.write_text("\n".join(wide) + "\n")
        return target

    make_release(made, tmp_path / "release")
    wide = widened(made.labels)
    shutil.copy(wide, tmp_path / "release" / "labels.csv")
    test = make_set(tmp_path / "test", count=40, seed=9)  # it has no such columns
    config = replace(config, labels=wide, test=test.images, test_labels=test.labels, control=False, epochs=1)
    progress = RecordedProgress()
    result = verify_release(config, progress)
    assert result.audit is not None
    assert result.audit.faults == ()
    assert [task.task for task in result.conditions[0].tasks] == ["green", "red"]
    assert "not protected by design and left out: id, site" in progress.notes

    shutil.rmtree(tmp_path / "release" / FOLDER)
    again = RecordedProgress()
    foreign = verify_release(replace(config, test=None, test_labels=None, limit=60), again)
    assert [task.task for task in foreign.conditions[0].tasks] == ["green", "red"]
    left_out = [note.split()[0] for note in again.notes if " left out: it " in note]
    assert left_out == ["id", "site"]


def test_a_generator_gets_the_labels_of_a_task_that_cannot_be_measured(
    config: VerifyConfig, made: MadeSet, tmp_path: Path
) -> None:
    weights = write_checkpoint(tmp_path / "hand.safetensors", made.table.tasks)
    constant = tmp_path / "labels.csv"
    head, *rows = made.labels.read_text().splitlines()
    constant.write_text("\n".join([head, *(f"{row.rsplit(',', 1)[0]},1" for row in rows)]) + "\n")
    config = replace(config, labels=constant, protected=None, weights=str(weights), epochs=1, control=False)
    result = verify_release(config, SilentProgress())
    assert [task.task for task in result.conditions[0].tasks] == ["green"]
    assert any("column 'red' holds only one class" in note for note in result.to_json()["notes"])


def test_a_release_without_a_manifest_and_test_images_of_their_own(
    config: VerifyConfig, made: MadeSet, tmp_path: Path
) -> None:
    make_release(made, tmp_path / "release")
    shutil.rmtree(tmp_path / "release" / FOLDER)
    test = make_set(tmp_path / "test", count=60, seed=9)
    config = replace(config, test=test.images, test_labels=test.labels, limit=120, control=False)
    progress = RecordedProgress()
    result = verify_release(config, progress)
    assert result.exit_code is ExitCode.SUCCESS
    assert result.to_json()["counts"] == {"train_images": 120, "test_images": 60}
    assert any("no manifest" in note for note in progress.notes)
    assert result.epsilon == math.ceil(result.audit.max_change) if result.audit and result.audit.max_change else False
    assert any(f"attackers use {result.epsilon}/255, since the largest measured" in note for note in progress.notes)


def test_usage_faults_are_found_first(config: VerifyConfig, made: MadeSet, tmp_path: Path) -> None:
    make_release(made, tmp_path / "release")
    for wrong, message in (
        ({"protected": None}, "exactly one"),
        ({"weights": "w"}, "exactly one"),
        ({"test": made.images}, "belong together"),
        ({"test_fraction": 1.0}, "test-fraction"),
        ({"protected": tmp_path / "none"}, "not a folder"),
        ({"protected": made.images}, "same folder"),
        ({"fractions": (0.5, 1.5)}, "protected-fraction is 1.5"),
        (
            {"methods": (TrainingMethodName.HEAD,)},
            "head starts from a pretrained backbone, and none is given for small",
        ),
        (
            {"methods": ("head",), "backbones": (BackboneName.EFFICIENTNET_LITE0, BackboneName.RESNET18), "size": 32},
            "none is given for resnet18",
        ),
        ({"pretrain_images": made.images}, "belong together"),
        ({"seeds": 0}, "--seeds is 0"),
        ({"gradual": (0.5, 0.8)}, "--gradual is 0.5,0.8, expected"),
        ({"gradual": (1.0, 0.0), "metric": MetricName.BALANCED}, "--metric accuracy only"),
        ({"gradual": (1.0, 0.0), "methods": ("staged",)}, "--gradual and --method staged"),
        ({"keep": ("red",)}, "columns of --keep cannot be measured"),
    ):
        with pytest.raises(InputError, match=message):
            verify_release(replace(config, **wrong), SilentProgress())


def test_unknown_test_classes_and_columns_are_faults(config: VerifyConfig, made: MadeSet, tmp_path: Path) -> None:
    make_release(made, tmp_path / "release")
    test = make_set(tmp_path / "test", count=4, seed=9)
    test.labels.write_text("file_name,green\na/000.png,0\nb/001.png,7\n")
    with pytest.raises(InputError, match="do not fit") as caught:
        verify_release(replace(config, test=test.images, test_labels=test.labels), SilentProgress())
    assert "unknown classes '7' (row 3)" in caught.value.faults[0]
    assert "'red' is missing" in caught.value.faults[1]


def test_a_release_for_other_tasks_is_a_fault(config: VerifyConfig, made: MadeSet, tmp_path: Path) -> None:
    manifest = make_release(made, tmp_path / "release")
    records = tuple(structs.replace(record, labels={}) for record in manifest.files)
    save_manifest(
        tmp_path / "release", replace(manifest, run=structs.replace(manifest.run, tasks=("age",)), files=records)
    )
    with pytest.raises(InputError, match="no label column is a protected task"):
        verify_release(config, SilentProgress())


def test_a_generator_is_judged_on_images_protected_in_memory(
    config: VerifyConfig, made: MadeSet, tmp_path: Path
) -> None:
    weights = write_checkpoint(tmp_path / "hand.safetensors", made.table.tasks)
    config = replace(config, protected=None, weights=str(weights), epochs=1, control=False)
    progress = RecordedProgress()
    result = verify_release(config, progress)
    assert result.audit is None
    assert result.subject == "generator hand"
    assert result.to_json()["epsilon"] == 8
    assert progress.steps["protecting in memory"] == result.to_json()["counts"]["train_images"]
    assert 0 < result.to_json()["flip"]["mean"] < 0.3
    assert result.to_json()["flip"]["files"] == SAMPLE
    assert any("no released file is checked" in note for note in progress.notes)


def test_what_protect_makes_passes_the_audit(config: VerifyConfig, made: MadeSet, tmp_path: Path) -> None:
    small = make_set(tmp_path / "small", count=30, seed=3)
    weights = write_checkpoint(tmp_path / "hand.safetensors", small.table.tasks)
    release = tmp_path / "release"
    protect_folder(
        ProtectConfig(small.images, small.labels, out=release, weights=str(weights), device="cpu"), SilentProgress()
    )
    quick = replace(config, clean=small.images, labels=small.labels, epochs=1, control=False)
    result = verify_release(replace(quick, test=made.images, test_labels=made.labels), SilentProgress())
    assert result.audit is not None
    assert result.audit.faults == ()
    assert result.audit.measured == 30
    assert 0 < (result.audit.max_change or 0) <= 8
    assert result.flip == read_run(release).measured_flip


def test_everything_that_is_asked_for_is_run(config: VerifyConfig, made: MadeSet, tmp_path: Path) -> None:
    make_release(made, tmp_path / "release")
    config = replace(
        config,
        epochs=1,
        learners=(LearnerName.MTL, LearnerName.STL),
        weightings=(WeightingName.LS, WeightingName.UW),
        countermeasures=(CountermeasureName.GRAYSCALE, CountermeasureName.CUTMIX),
        fractions=(0.5,),
        methods=(TrainingMethodName.SCRATCH, TrainingMethodName.HEAD),
        pretrain_images=made.images.parent / "other",
        pretrain_labels=make_set(made.images.parent / "other", count=40, seed=8).labels,
        control=False,
        metric=MetricName.BALANCED,
        seeds=2,
    )
    result = verify_release(config, SilentProgress())
    document = result.to_json()
    run = {row["name"] for row in document["conditions"]}
    skipped = {left["name"] for left in document["not_tested"] if "learns nothing" in left["reason"]}
    assert run | skipped >= {
        *("small: clean images", "small", "small + grayscale", "small + cutmix", "small: 50 % protected"),
        *("small: the clean part of 50 % protected alone", "small uw", "small stl", "small head", "small stl head"),
    }
    assert all(row["seeds"] == [0, 1] for row in document["conditions"])
    assert document["metric"] == "balanced-accuracy"
    assert document["conditions"][0]["tasks"][0]["floor"] == 0.5


def test_a_tier_brings_its_own_budget_and_options_go_before_it(config: VerifyConfig) -> None:
    plan = plan_verification(replace(config, tier=Tier.SMOKE, epochs=None, batch_size=None, backbones=None))
    names = [condition.name for condition in plan.conditions]
    assert names[:3] == list(ROWS)
    assert {"small + jpeg-10", "small + label-regression"} <= set(names)
    assert (plan.epochs, plan.least_steps, plan.batch_size, plan.limit) == (3, 375, 64, 8000)
    changed = plan_verification(replace(config, tier=Tier.SMOKE, epochs=3, limit=50, countermeasures=()))
    assert [condition.name for condition in changed.conditions] == list(ROWS)
    assert (changed.epochs, changed.batch_size, changed.limit) == (3, 10, 50)
    standard = plan_verification(replace(config, tier=Tier.STANDARD, backbones=None))
    assert len(standard.conditions) > 2 * len(plan.conditions)
    with_start = plan_verification(replace(config, tier=Tier.STANDARD, backbones=None, start="x"))
    assert "resnet18 head" in {condition.name for condition in with_start.conditions}
    assert "efficientnet-lite0 head" not in {condition.name for condition in with_start.conditions}


def test_the_packaged_start_is_tried(config: VerifyConfig) -> None:
    plain = replace(config, backbones=None, learners=None, weightings=None, methods=None)
    standard = plan_verification(replace(plain, tier=Tier.STANDARD))
    names = {condition.name for condition in standard.conditions}
    assert {f"efficientnet-lite0 {method}" for method in ("full", "head", "gps")} <= names
    assert not {"method full", "method head", "method gps"} & {left.name for left in standard.left_out}
    assert "efficientnet-lite2" not in names
    assert "backbone efficientnet-lite2" in {left.name for left in standard.left_out}
    tuned = plan_verification(replace(plain, methods=("full",), start="efficientnet-lite0"))
    assert [victim.name for victim in tuned.victims] == ["efficientnet-lite0 full"]
    assert plan_verification(replace(plain, methods=("full",), backbones=(BackboneName.EFFICIENTNET_LITE0,))) == tuned
    other = plan_verification(replace(plain, methods=("head",), start="efficientnet-lite2"))
    assert [victim.name for victim in other.victims] == ["efficientnet-lite2 head"]


def converged(config: VerifyConfig, **changes: Any) -> VerifyConfig:  # noqa: ANN401 - any field
    """``config`` under the converged tier, with the tier's own length and victim."""
    return replace(config, tier=Tier.CONVERGED, **{"epochs": None, "batch_size": None, "backbones": None, **changes})


@pytest.mark.parametrize(
    ("images", "epochs", "steps"), [(100, 1500, 2), (2000, 94, 32), (8000, 24, 125), (20000, 24, 313)]
)
def test_the_converged_tier_takes_as_many_epochs_as_its_steps_need(
    config: VerifyConfig, images: int, epochs: int, steps: int
) -> None:
    plan = plan_verification(converged(config))
    assert (plan.batch_size, plan.limit) == (64, None)
    assert steps_an_epoch(images, plan.batch_size) == steps
    assert plan.epochs_with(images) == epochs
    assert epochs * steps >= 3000
    assert plan_verification(converged(config, epochs=5)).epochs_with(images) == 5
    assert plan_verification(converged(config, batch_size=32)).epochs_with(8000) == 24


@pytest.mark.parametrize(("images", "epochs"), [(100, 188), (2000, 12), (8000, 3)])
def test_the_smoke_tier_has_fewer_epochs_of_the_same_length(config: VerifyConfig, images: int, epochs: int) -> None:
    long = converged(config)
    plan = plan_verification(replace(long, tier=Tier.SMOKE))
    assert plan.epochs_with(images) == epochs < plan_verification(long).epochs_with(images)
    assert plan.batch_size == plan_verification(long).batch_size


def test_the_converged_tier_tries_the_release_noise_and_grayscale(config: VerifyConfig) -> None:
    def names(**changes: Any) -> list[str]:  # noqa: ANN401 - any field
        return [condition.name for condition in plan_verification(converged(config, **changes)).conditions]

    assert names() == [*ROWS, "small + grayscale"]
    assert names(control=False) == ["small: clean images", "small", "small + grayscale"]
    assert names(control=False, countermeasures=("jpeg-10",)) == ["small: clean images", "small", "small + jpeg-10"]
    assert "countermeasure jpeg-10" in {left.name for left in plan_verification(converged(config)).left_out}


def test_a_dry_run_tells_the_epochs_that_the_steps_need(config: VerifyConfig, made: MadeSet, tmp_path: Path) -> None:
    make_release(made, tmp_path / "release")
    planned = dry_run(converged(config), SilentProgress())
    assert (planned.images, planned.epochs, planned.steps) == (140, 1000, 3000)
    assert (planned.to_json()["epochs"], planned.to_json()["steps"]) == (1000, 3000)
    short = dry_run(converged(config, epochs=5), SilentProgress())
    assert (short.epochs, short.steps) == (5, 15)


def test_a_run_trains_the_epochs_that_its_steps_need(
    config: VerifyConfig, made: MadeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brief = replace(TIERS[Tier.CONVERGED], epochs=1, least_steps=10)
    monkeypatch.setitem(cast("dict[Tier, TierSpec]", TIERS), Tier.CONVERGED, brief)
    make_release(made, tmp_path / "release")
    progress = RecordedProgress()
    result = verify_release(converged(config, countermeasures=(), control=False, probes=False), progress)
    document = result.to_json()
    train = document["counts"]["train_images"]
    assert 128 < train <= 192
    assert document["settings"]["epochs"] == 4
    assert progress.steps["small"] == progress.stages["small"] == 4 * train
    release = document["conditions"][1]
    assert release["steps_per_epoch"] == 3
    assert release["best_epoch_steps"] == [[3 * epoch for epoch in release["best_epochs"][0]]]
    other = verify_release(converged(config, countermeasures=(), control=False, probes=False, epochs=2), progress)
    assert not any(row["cached"] for row in other.to_json()["conditions"])


def test_a_dry_run_names_every_condition_and_estimates_time(
    config: VerifyConfig, made: MadeSet, tmp_path: Path
) -> None:
    make_release(made, tmp_path / "release")
    planned = dry_run(replace(config, tier=Tier.SMOKE, seeds=2), SilentProgress())
    assert [row.name for row in planned.conditions] == [
        condition.name for condition in plan_verification(replace(config, tier=Tier.SMOKE)).conditions
    ]
    assert all(row.seconds > 0 for row in planned.conditions)
    assert planned.images == 140
    assert planned.to_json()["seconds"] == pytest.approx(planned.seconds, abs=0.1)
    twice = dry_run(replace(config, tier=Tier.SMOKE, seeds=2, learners=(LearnerName.STL,)), SilentProgress())
    assert [row.victims for row in twice.conditions] == [4] * len(twice.conditions)


def test_a_dry_run_counts_the_training_of_a_start(config: VerifyConfig, made: MadeSet, tmp_path: Path) -> None:
    make_release(made, tmp_path / "release")
    other = make_set(tmp_path / "other", count=40, seed=8)
    tuned = replace(
        config,
        methods=("scratch", "gps:connections=3"),
        pretrain_images=other.images,
        pretrain_labels=other.labels,
        countermeasures=("jpeg:quality=20", "jpeg:quality=75"),
    )
    planned = dry_run(tuned, SilentProgress())
    assert [(start.backbone, start.images) for start in planned.starts] == [(BackboneName.SMALL, 40)]
    a_victim = planned.conditions[0].seconds
    assert planned.starts[0].seconds == pytest.approx(a_victim * 40 / planned.images, abs=0.06)  # both are rounded
    assert planned.seconds == pytest.approx(
        planned.starts[0].seconds + sum(row.seconds for row in planned.conditions), abs=0.1
    )
    assert planned.to_json()["starts"][0]["backbone"] == "small"
    names = {row.name for row in planned.conditions}
    assert {"small gps:connections=3", "small + jpeg:quality=20", "small + jpeg-75"} <= names


@pytest.mark.parametrize("run", [verify_release, dry_run])
@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"keep": ("green",)}, "green is protected"),
        ({"keep": ("gone",)}, "no label column is called gone"),
        ({"countermeasures": ("early-stop:share=0.01",)}, "small + early-stop:share=0.01: 1 validation images are too"),
        ({"fractions": (0.999,)}, "small: the clean part of 99.9 % protected alone: too little to learn from: 0 of"),
    ],
)
def test_a_dry_run_refuses_what_the_run_refuses(
    config: VerifyConfig,
    made: MadeSet,
    tmp_path: Path,
    run: Callable[[VerifyConfig, Progress], object],
    more: dict[str, Any],
    fault: str,
) -> None:
    make_release(made, tmp_path / "release")
    with pytest.raises(InputError) as caught:
        run(replace(config, **more), SilentProgress())
    assert any(fault in line for line in caught.value.faults)


@pytest.mark.parametrize("run", [verify_release, dry_run])
def test_a_start_is_opened_before_any_work(
    config: VerifyConfig,
    made: MadeSet,
    tmp_path: Path,
    run: Callable[[VerifyConfig, Progress], object],
) -> None:
    make_release(made, tmp_path / "release")
    wrong = tmp_path / "start.safetensors"
    tuned = replace(config, methods=("head",), start=str(wrong))
    progress = RecordedProgress()
    with pytest.raises(InputError, match="cannot be read as a backbone"):
        run(tuned, progress)
    save_start(wrong, PretrainedStart(BackboneName.RESNET50, {"x": torch.zeros(1)}, "a test"))
    with pytest.raises(InputError, match="holds the backbone 'resnet50', expected 'small'"):
        run(tuned, progress)
    with pytest.raises(InputError, match="not every backbone can begin with --start") as caught:
        run(replace(tuned, backbones=(BackboneName.SMALL, BackboneName.RESNET18)), progress)
    assert len(caught.value.faults) == 2
    assert progress.stages == {}


def test_settings_at_fault_are_reported_together(config: VerifyConfig) -> None:
    (config.protected or Path()).mkdir()
    wrong = replace(config, methods=("sparse:share=2", "gps"), countermeasures=("jpeg:size=3", "mist"))
    with pytest.raises(InputError, match="some settings are not valid") as caught:
        verify_release(wrong, SilentProgress())
    assert caught.value.faults == (
        "--method 'sparse:share=2' cannot be used: "
        "the share of trained weights is 2, expected more than 0 and at most 1",
        "--countermeasure 'jpeg:size=3' cannot be used: there is no setting 'size'",
        "there is no --countermeasure 'mist'",
    )
    assert "settings of jpeg: quality=10 (a whole number)" in str(caught.value.hint)


def test_a_weighting_that_is_not_installed_is_named(config: VerifyConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtlue_cli.weightings.find_spec", lambda _: None)
    (config.protected or Path()).mkdir()
    with pytest.raises(InputError, match="fairgrad needs scipy") as caught:
        verify_release(replace(config, weightings=(WeightingName.FAIRGRAD,)), SilentProgress())
    assert "mtlue[weightings]" in (caught.value.hint or "")
    plan = plan_verification(replace(config, tier=Tier.STANDARD, backbones=None))
    assert "resnet18 fairgrad" not in {condition.name for condition in plan.conditions}
    assert "needs scipy" in {left.name: left.reason for left in plan.left_out}["weighting fairgrad"]


def test_victims_that_diverge_are_not_taken_for_protected(config: VerifyConfig, made: MadeSet, tmp_path: Path) -> None:
    make_release(made, tmp_path / "release")
    result = verify_release(replace(config, learning_rate=1e30, epochs=1, control=False, cache=None), SilentProgress())
    assert result.exit_code is ExitCode.INCONCLUSIVE
    reasons = {left.name: left.reason for left in result.not_tested}
    assert "diverged" in reasons["small: clean images"]
    assert "cannot be trained on clean images" in reasons["small"]
    assert result.to_json()["conditions"] == []


def break_countermeasure(monkeypatch: pytest.MonkeyPatch, name: CountermeasureName) -> None:
    """Let every victim that is trained under it diverge."""

    @dataclass(frozen=True)
    class Spoil(Augmentation):
        def augment(self, images: Tensor, labels: Mapping[str, Tensor], rng: torch.Generator) -> Mixture:  # noqa: ARG002 - shared signature
            return Mixture(images * math.nan, labels)

    broken = replace(COUNTERMEASURES[name], settings=Spoil())
    monkeypatch.setitem(cast("dict[str, CountermeasureChoice]", COUNTERMEASURES), name, broken)
    converged = replace(TIERS[Tier.CONVERGED], epochs=2, least_steps=0, countermeasures=(broken,))
    monkeypatch.setitem(cast("dict[Tier, TierSpec]", TIERS), Tier.CONVERGED, converged)


def test_a_countermeasure_that_fails_in_training_ends_no_run_and_leaves_it_inconclusive(
    config: VerifyConfig, made: MadeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_countermeasure(monkeypatch, CountermeasureName.GRAYSCALE)
    make_release(made, tmp_path / "release")
    config = replace(config, control=False, cache=tmp_path / "cache", probes=False)
    of_tier = verify_release(converged(config, epochs=4, batch_size=10), SilentProgress())
    assert of_tier.exit_code is ExitCode.INCONCLUSIVE  # it might have learned something
    assert "diverged" in {left.name: left.reason for left in of_tier.not_tested}["small + grayscale"]
    progress = RecordedProgress()
    asked = verify_release(replace(config, countermeasures=("grayscale",)), progress)
    assert asked.exit_code is ExitCode.INCONCLUSIVE
    assert asked.reason.startswith("some conditions could not be tested: small + grayscale (its training")
    assert [found.name for found in asked.conditions] == ["small: clean images", "small"]
    assert any(note.startswith("not tested: small + grayscale") for note in progress.notes)
    shutil.rmtree(tmp_path / "release")
    make_release(made, tmp_path / "release", useless)
    unprotected = verify_release(replace(config, countermeasures=("grayscale",)), SilentProgress())
    assert unprotected.exit_code is ExitCode.NOT_PROTECTED


def test_a_noise_control_that_fails_is_inconclusive(
    config: VerifyConfig, made: MadeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object) -> Tensor:  # noqa: ARG001 - what the noise is made from
        raise InputError("no noise today")

    monkeypatch.setattr("mtlue_cli.verification.training_images.uniform_noise", fail)
    make_release(made, tmp_path / "release")
    result = verify_release(replace(config, epochs=3, cache=tmp_path / "cache"), SilentProgress())
    assert result.exit_code is ExitCode.INCONCLUSIVE
    assert result.reason.endswith("small: noise (no noise today)")


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        ({"fractions": (0.999,)}, "small: the clean part of 99.9 % protected alone: too little to learn from: 0 of"),
        ({"countermeasures": ("gaussian-blur:sigma=9",)}, "small + gaussian-blur:sigma=9: it needs images of at least"),
        ({"countermeasures": ("pair-remover",), "limit": 60}, "small + pair-remover: "),
        ({"countermeasures": ("early-stop",), "limit": 60}, "small + early-stop: "),
        ({"methods": ("res-cbm:target=blue",)}, "small res-cbm:target=blue: clean images: res-cbm: no measured column"),
    ],
)
def test_what_was_asked_for_and_cannot_be_run_is_refused_before_training(
    config: VerifyConfig, made: MadeSet, tmp_path: Path, asked: dict[str, Any], fault: str
) -> None:
    make_release(made, tmp_path / "release")
    progress = RecordedProgress()
    with pytest.raises(InputError, match="some requested conditions cannot be run") as caught:
        verify_release(replace(config, **asked), progress)
    (found,) = caught.value.faults
    assert found.startswith(fault)
    assert not set(ROWS) & set(progress.stages)


def test_what_a_tier_brings_along_is_not_asked_for(config: VerifyConfig) -> None:
    def asked(**changes: Any) -> set[str]:  # noqa: ANN401 - any field
        plan = plan_verification(replace(config, tier=Tier.STANDARD, **{"backbones": None, **changes}))
        return {condition.name for condition in plan.asked}

    always = {"resnet18: clean images", "resnet18", "resnet18: noise"}
    assert asked() == always
    assert asked(countermeasures=("jpeg:quality=20",)) == {*always, "resnet18 + jpeg:quality=20"}
    half = {"resnet18: 70 % protected", "resnet18: the clean part of 70 % protected alone"}
    assert asked(fractions=(0.7,)) == always | half
    assert asked(backbones=(BackboneName.SMALL, BackboneName.RESNET18)) == {*ROWS, *always} - {"resnet18: noise"}


def test_a_failed_audit_leaves_everything_untested(config: VerifyConfig, made: MadeSet, tmp_path: Path) -> None:
    make_release(made, tmp_path / "release")
    (tmp_path / "release" / "a/004.png").unlink()
    result = verify_release(replace(config, cache=None), SilentProgress())
    reasons = {left.name: left.reason for left in result.not_tested}
    assert reasons["small"] == "the audit failed"
    assert reasons["probe detectability"] == "the audit failed"


def test_a_start_must_not_have_seen_the_judged_images(config: VerifyConfig, made: MadeSet, tmp_path: Path) -> None:
    make_release(made, tmp_path / "release")
    shutil.copytree(made.images, tmp_path / "copy")
    copied = replace(
        config,
        methods=(TrainingMethodName.HEAD,),
        pretrain_images=tmp_path / "copy",
        pretrain_labels=tmp_path / "copy" / made.labels.relative_to(made.images),
    )
    with pytest.raises(InputError, match="among those that are judged"):
        verify_release(copied, SilentProgress())
    released = replace(
        copied, pretrain_images=tmp_path / "release", pretrain_labels=tmp_path / "release" / "labels.csv"
    )
    with pytest.raises(InputError, match="or in the release"):
        verify_release(released, SilentProgress())
    with pytest.raises(InputError, match="no victim of this plan uses a start"):
        verify_release(replace(copied, methods=(TrainingMethodName.SPARSE,)), SilentProgress())


def test_an_attacker_purifies_with_images_of_his_own(config: VerifyConfig, made: MadeSet, tmp_path: Path) -> None:
    make_release(made, tmp_path / "release")
    other = make_set(tmp_path / "other", count=12, seed=8)
    named = replace(
        config, control=False, probes=False, epochs=1, countermeasures=("purification:examples=64,coarse=4",)
    )
    with pytest.raises(InputError, match="coarse=4: the attacker needs clean images of his own") as caught:
        verify_release(named, SilentProgress())
    assert caught.value.hint == "give them with --attacker-images DIR"
    given = replace(named, attacker_images=other.images)
    result = verify_release(given, SilentProgress())
    assert [found.name for found in result.conditions] == [*ROWS[:2], "small + purification:examples=64,coarse=4"]
    assert "the attacker has 12 clean images of his own" in result.notes
    # Others give another victim.
    fewer = make_set(tmp_path / "fewer", count=10, seed=9)
    changed = verify_release(replace(given, attacker_images=fewer.images), SilentProgress())
    assert [found.cached for found in changed.conditions] == [True, True, False]
    shutil.copytree(made.images, tmp_path / "copy")
    with pytest.raises(InputError, match="among those that are judged"):
        verify_release(replace(given, attacker_images=tmp_path / "copy"), SilentProgress())
    with pytest.raises(InputError, match="or in the release"):
        verify_release(replace(given, attacker_images=tmp_path / "release"), SilentProgress())
    with pytest.raises(InputError, match="no countermeasure of this plan uses --attacker-images"):
        verify_release(replace(given, countermeasures=()), SilentProgress())
    few = make_set(tmp_path / "few", count=3, seed=10)
    with pytest.raises(InputError, match="holds 3 images, expected at least 8"):
        verify_release(replace(given, attacker_images=few.images), SilentProgress())


def test_an_attacker_has_his_own_images_protected(config: VerifyConfig, made: MadeSet, tmp_path: Path) -> None:
    """A generator that keeps one column useful is judged; its service makes the pairs."""
    other = make_set(tmp_path / "other", count=12, seed=8)
    weights = write_checkpoint(tmp_path / "g.safetensors", made.table.tasks.subset(["green"]), keep=("red",))
    named = replace(
        config,
        protected=None,
        weights=str(weights),
        control=False,
        probes=False,
        epochs=1,
        attacker_images=other.images,
        countermeasures=("pair-purification:steps=2,pairs=10",),
    )
    result = verify_release(named, SilentProgress())
    assert result.conditions[2].name == "small + pair-purification:steps=2,pairs=10"
    assert "the owner protected 10 images for the attacker, as a service" in result.notes
    assert {task.task: task.judged for task in result.conditions[1].tasks} == {"green": True, "red": False}
    assert result.conditions[1].average is None or result.conditions[1].average.tasks == ("green",)
    assert "kept useful by design, so learned too and not judged: red" in result.notes
    assert any(note.startswith("kept useful, share of what clean images teach") for note in result.notes)
    more = replace(named, countermeasures=("pair-purification:steps=2,pairs=8",), cache=config.cache)
    assert [found.cached for found in verify_release(more, SilentProgress()).conditions] == [True, True, False]
    with pytest.raises(InputError, match="judge the generator with --weights"):
        verify_release(replace(named, weights=None, protected=tmp_path), SilentProgress())


def test_confidence_is_refused_where_tasks_label_every_pixel(config: VerifyConfig) -> None:
    config = replace(config, confidence=0.95)
    plan = plan_verification(config)
    require_fit(config, plan, TASKS.image_level)
    with pytest.raises(InputError, match=r"these label every pixel: .*depth"):
        require_fit(config, plan, TASKS)


def test_a_tier_purifies_where_there_are_images(config: VerifyConfig, made: MadeSet) -> None:
    without = plan_verification(replace(config, tier=Tier.STANDARD))
    assert NotTested("countermeasure purification", "needs --attacker-images: clean images") in without.left_out
    plan = plan_verification(replace(config, tier=Tier.STANDARD, attacker_images=made.images))
    assert "purification" in {
        condition.countermeasure and condition.countermeasure.name for condition in plan.conditions
    }


def test_a_start_is_trained_once(config: VerifyConfig, made: MadeSet, tmp_path: Path) -> None:
    make_release(made, tmp_path / "release")
    other = make_set(tmp_path / "other", count=40, seed=8)
    tuned = replace(
        config,
        methods=(TrainingMethodName.HEAD,),
        pretrain_images=other.images,
        pretrain_labels=other.labels,
        epochs=1,
        control=False,
        probes=False,
        cache=tmp_path / "cache",
    )
    verify_release(tuned, SilentProgress())
    progress = RecordedProgress()
    verify_release(tuned, progress)
    assert "start for small: trained earlier, taken from the cache" in progress.notes


def test_a_tier_draws_its_images_and_a_limit_takes_the_first(config: VerifyConfig, made: MadeSet) -> None:
    names = list(made.table.file_names)
    first = divide(Side(made.images, made.table), None, limit=30, seed=0)
    drawn = divide(Side(made.images, made.table), None, limit=30, drawn=True, seed=0)

    def used(sides: Sides) -> set[str]:
        return {*sides.train.table.file_names, *sides.test.table.file_names}

    assert used(first) == set(names[:30])
    assert len(used(drawn)) == 30
    assert used(drawn) != used(first)
    assert config.limit is None
