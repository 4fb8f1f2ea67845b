"""The exact test: ranks of the true codes among decoys, stage by stage.

A stage shows codes that no earlier stage has shown: those of the release, and decoys that another key might have drawn
in their place (:mod:`mtlue_cli.generator.decoys`), on the same images and for the same classes. For a model that has
not seen the release all of them are alike, whatever it does with its images. So the rank of the true codes among all is
uniform, and is independent of the ranks in other stages. The sum of the ranks has a known distribution.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]

RESAMPLES = 2000
SIMULATIONS = 1000


def ranks(scores: Numbers, ties: Numbers) -> list[int]:
    """Rank of the true codes in each stage, 1 for the highest score.

    Args:
        scores: ``(stages, arms)``; the first arm is the true one.
        ties: Random numbers of the same shape; of equal scores, the one with the lower number ranks first.
    """
    better = (scores > scores[:, :1]) | ((scores == scores[:, :1]) & (ties < ties[:, :1]))
    found: list[int] = (1 + better.sum(axis=1)).tolist()
    return found


def rank_sum_p(found: Sequence[int], arms: int) -> float:
    """Probability that independent uniform ranks from 1 to ``arms`` sum to so little: the exact p-value.

    With two arms this is the sign test.
    """
    if not found:
        return 1.0
    least = sum(_ways(len(found), arms)[: sum(found) - len(found) + 1])
    return float(Fraction(least, arms ** len(found)))


def smallest_p(stages: int, arms: int) -> float:
    """The p-value when the true codes rank first in every stage."""
    return float(Fraction(1, arms**stages))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P-values after Holm's correction, in the order given.

    Source:
        Holm, Scandinavian Journal of Statistics 6, 1979.
    """
    adjusted: dict[str, float] = {}
    highest = 0.0
    for done, (name, p) in enumerate(sorted(p_values.items(), key=lambda pair: pair[1])):
        highest = max(highest, min(1.0, (len(p_values) - done) * p))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p_values}


def interval(differences: Sequence[float], rng: np.random.Generator) -> tuple[float, float] | None:
    """95 % interval of the mean of ``differences``, one per stage, by a bootstrap over stages; None for a single one.

    Stages are drawn again, not answers: answers to one code are not independent. It is a description; the verdict does
    not use it.
    """
    if len(differences) < 2:
        return None
    drawn = rng.choice(np.asarray(differences), (RESAMPLES, len(differences))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975]).tolist()
    return low, high


def power(
    counts: Sequence[Mapping[str, int]], arms: int, follow: Mapping[str, float], true: float, level: float
) -> float:
    """How often a model is found that answers the true code with the share ``true``, by simulation.

    Decoys are followed with the probability ``follow`` of their task, on all images of a stage or on none: a model that
    looks at the code alone. Seeded, so that the same answers give the same figure.

    Args:
        counts: Of each stage, how many images test each task.
        arms: True codes and decoys.
        follow: Share of answers that follow a decoy, by task.
        true: Share of answers that follow a true code.
        level: P-values up to this count as found.
    """
    rng = np.random.default_rng(0)
    most = _largest_sum(len(counts), arms, level)
    if most is None:
        return 0.0
    sums = np.zeros(SIMULATIONS)
    for stage in counts:
        scores = np.zeros((SIMULATIONS, arms))
        for task, images in stage.items():
            scores[:, 0] += rng.binomial(images, true, SIMULATIONS)
            scores[:, 1:] += images * (rng.random((SIMULATIONS, arms - 1)) < follow[task])
        sums += ranks(scores, rng.random(scores.shape))
    return float((sums <= most).mean())


def _largest_sum(stages: int, arms: int, level: float) -> int | None:
    """The largest sum of ranks whose p-value is within ``level``; None if there is none."""
    total, found = 0, None
    for less, count in enumerate(_ways(stages, arms)):
        total += count
        if Fraction(total, arms**stages) > Fraction(level):
            break
        found = less + stages
    return found


def _ways(stages: int, arms: int) -> list[int]:
    """Ways in which the ranks of ``stages`` stages sum to each number, from all 1 up."""
    ways = np.array([1], dtype=object)  # Python's integers, which have no limit
    for _ in range(stages):
        ways = np.convolve(ways, np.full(arms, 1, dtype=object))
    found: list[int] = ways.tolist()
    return found


def p_in_words(p: float) -> str:
    """A p-value for a reader."""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"
