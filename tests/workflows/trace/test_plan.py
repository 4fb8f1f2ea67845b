"""The design: which codes are tested when."""

import numpy as np
import pytest

from mtlue_cli.choices import TaskKind
from mtlue_cli.generator.code_patterns import painted_codes, pattern_dimension
from mtlue_cli.generator.codebook import Codebook
from mtlue_cli.generator.decoys import decoys
from mtlue_cli.keys import Key
from mtlue_cli.tasks.spec import Task, TaskSet
from mtlue_cli.workflows.trace.plan import MOST_STAGES, plan_probes

FACES = {
    "age": [0.07, 0.06, 0.07, 0.3, 0.2, 0.1, 0.1, 0.04, 0.06],
    "race": [0.14, 0.19, 0.17, 0.07, 0.43],
    "sex": [0.48, 0.52],
}


def codes_of(shares: dict[str, list[float]], key: bytes = bytes(32)) -> dict[str, np.ndarray]:
    tasks = TaskSet(
        tuple(Task(name, TaskKind.CATEGORICAL, tuple(map(str, range(len(own))))) for name, own in shares.items())
    )
    return dict(painted_codes(Codebook(Key(key), tasks, pattern_dimension(1, 7)), shares))


@pytest.mark.parametrize("queries", [2, 7, 25, 50, 200, 1000, 5000])
def test_no_more_is_asked_than_allowed_and_nearly_that(queries: int) -> None:
    plan = plan_probes(codes_of(FACES), FACES, queries)
    assert plan.probes <= queries
    assert plan.probes > 0.8 * queries or queries < 25
    assert plan.arms >= 2
    assert all(plan.stages)


def test_every_code_is_tested_once_but_for_a_class_that_has_next_to_none() -> None:
    plan = plan_probes(codes_of(FACES), FACES, 400)
    tested = [(name, index) for stage in plan.stages for name, own in stage.items() for index in own]
    rarest = {(name, int(np.argmin(own))) for name, own in FACES.items()}
    assert len(tested) == len(set(tested))
    assert set(tested) == {(name, index) for name, own in FACES.items() for index in range(len(own))} - rarest


def test_forty_columns_of_two_classes_share_the_stages() -> None:
    shares = {f"c{index}": [0.5, 0.5] for index in range(12)}
    plan = plan_probes(codes_of(shares), shares, 200)
    assert len(plan.stages) == 10
    assert sum(map(len, plan.stages)) == 12


def test_a_column_of_many_classes_is_tested_on_some() -> None:
    shares = {"make": [1 / 60] * 60}
    assert len(plan_probes(codes_of(shares), shares, 1000).stages) == MOST_STAGES


def test_decoys_have_the_lengths_and_angles_of_the_true_codes() -> None:
    codes = codes_of(FACES)
    known, own = codes["race"], codes["age"][:3]
    drawn = decoys(own, known, 5, np.random.default_rng(0))
    assert drawn.shape == (5, 3, own.shape[1])
    for other in drawn:
        assert other @ other.T == pytest.approx(own @ own.T, abs=1e-9)
        assert other @ known.T == pytest.approx(own @ known.T, abs=1e-9)
        assert abs(other - own).max() > 0.1


def test_decoys_given_what_settles_the_code_are_the_code() -> None:
    codes = codes_of({"sex": [0.5, 0.5]})["sex"]
    assert decoys(codes[1:], codes[:1], 3, np.random.default_rng(0)) == pytest.approx(np.stack([codes[1:]] * 3))


def test_true_codes_and_decoys_have_one_distribution() -> None:
    # What a model sees of a code along any direction: over keys as over decoys, given nothing.
    rng = np.random.default_rng(0)
    direction = rng.standard_normal(pattern_dimension(1, 7))
    keys = [bytes([number % 256, number // 256]) + bytes(30) for number in range(300)]
    true = [codes_of(FACES, key)["age"][3] @ direction for key in keys]
    own = codes_of(FACES)["age"][3:4]
    drawn = decoys(own, own[:0], 300, rng)[:, 0] @ direction
    from scipy import stats

    assert stats.ks_2samp(true, drawn).pvalue > 0.01
