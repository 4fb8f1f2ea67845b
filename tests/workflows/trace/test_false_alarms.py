"""Models that never saw a release are accused of it as often as the level says: minutes long."""

from pathlib import Path

import numpy as np
import pytest
from msgspec import structs
from scipy import stats

from mtlue_cli.keys import Key
from mtlue_cli.release.records import read_run, write_run
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.trace.config import JudgeConfig
from mtlue_cli.workflows.trace.judge import judge_model
from mtlue_cli.workflows.trace.ranks import rank_sum_p
from tests.workflows.trace.linear_victim import make_release, train_victim, write_answers

TESTS = 120


@pytest.mark.slow
@pytest.mark.parametrize("images", ["release", "photos"])
def test_p_values_of_models_that_never_saw_the_release_are_uniform(tmp_path: Path, images: str) -> None:
    traced = make_release(tmp_path)
    victim = train_victim(tmp_path / images)  # of another key's release, or of clean images
    run = read_run(traced.release)
    rng = np.random.default_rng(0)
    found: list[float] = []
    for number in range(TESTS):
        digits = rng.bytes(32).hex()
        traced.key.write_text(digits)
        write_run(traced.release, structs.replace(run, key_fingerprint=Key(bytes.fromhex(digits)).fingerprint))
        traced.probes(f"p{number}", 50)
        write_answers(tmp_path / f"p{number}", victim, tmp_path / "answers.csv")
        config = JudgeConfig(tmp_path / f"p{number}", answers=tmp_path / "answers.csv")
        result = judge_model(config, SilentProgress())
        total = sum(stage.rank for stage in result.stages) - 1
        each, more = divmod(total, len(result.stages))
        ranks = [each + (stage < more) for stage in range(len(result.stages))]
        below = rank_sum_p(ranks, result.arms) if min(ranks) > 0 else 0.0
        found.append(below + float(rng.random()) * (result.p_value - below))  # sums of ranks leave gaps
    # Decoys are drawn anew in every run: by chance alone these fail once in thousands of runs.
    assert stats.kstest(found, "uniform").pvalue > 1e-4
    assert np.mean(np.array(found) <= 0.05) < 0.15
