"""The adaptive tier: short runs of all attackers, longer ones of the best, and whole ones of those that are left.

Source:
    Successive halving: Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter
    Optimization", AISTATS 2016 (arXiv 1502.07943), with thirds in place of halves, as Li et al., "Hyperband", JMLR
    2018. Deviations: a limit of time decides too how many go on; the two best of the first round go on as one
    attacker, too, who does both.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise, permutations

from mtlue_cli.errors import InputError
from mtlue_cli.tasks.wording import counted
from mtlue_cli.verification.conditions import Condition, Role
from mtlue_cli.verification.countermeasures.in_order import ChoiceInOrder, in_order
from mtlue_cli.verification.figures import ConditionFigures
from mtlue_cli.verification.tiers import NotTested
from mtlue_cli.workflows.verify.plan import VerifyPlan

FEWER = 3
"""One of so many attackers goes on, for so many times the epochs."""

ROUNDS = 3
"""The last of whole length."""

Round = Callable[[VerifyPlan, int], tuple[Sequence[ConditionFigures], Sequence[NotTested]]]
"""Runs a plan for so many epochs; gives its figures, and what does not fit. What failed in training is in neither."""


def narrowed(
    plan: VerifyPlan,
    epochs: int,
    seconds: float,
    run: Round,
    now: Callable[[], float] = time.monotonic,
    seeds: int = 1,
) -> tuple[VerifyPlan, tuple[str, ...]]:
    """Keep of a plan's attackers the strongest, found in shorter runs against clean victims of the same length.

    Args:
        plan: Its conditions without a countermeasure stay.
        epochs: Of a whole run.
        seconds: Time for everything, the whole runs included, about: nothing that has begun is stopped, and at least
            one attacker is run whole.
        run: Runs one round.
        now: Clock in seconds.
        seeds: Of the whole runs; shorter ones have one.

    Returns:
        The plan of the whole runs, which says of every attacker that it leaves out why; and what to note.
    """
    started = now()
    attackers = [found for found in plan.conditions if found.role is Role.JUDGED and found.countermeasure is not None]
    basis = tuple(found for found in plan.conditions if found not in attackers)
    reference = next(found for found in basis if found.role is Role.REFERENCE)
    lengths = sorted({max(1, epochs // FEWER**left) for left in range(ROUNDS)} | {epochs})
    left_out, notes = list(plan.left_out), list[str]()
    for length, following in pairwise(lengths):
        if len(attackers) <= 1:
            break
        conditions = (reference, *attackers)
        figures, failed = run(replace(plan, conditions=conditions, asked=plan.asked.intersection(conditions)), length)
        learned = {found.name: found.learned.mean for found in figures if found.learned is not None}
        ranked = sorted((one for one in attackers if one.name in learned), key=lambda one: -learned[one.name])
        if not ranked:  # such as a clean victim that has not learned anything yet: the next length will tell
            continue
        unfit = {left.name for left in failed}.difference(one.name for one in plan.asked)
        required = [one for one in attackers if one.name not in learned and one.name not in unfit]
        left_out += [one for one in failed if one.name not in {other.name for other in required}]
        each = following / length * sum(found.seconds for found in figures) / len(figures)
        each *= seeds if following == epochs else 1
        rest = seconds - (now() - started)
        # The whole runs get at least half of what is left, and the basis is part of them.
        time_for = (rest / each - len(basis) if following == epochs else rest / 2 / each - 1) - len(required)
        count = max(1, min(math.ceil(len(ranked) / FEWER), int(time_for)))
        kept, dropped = ranked[:count], ranked[count:]
        listed = ", ".join(f"{one.name} {learned[one.name]:.2f}" for one in ranked)
        notes.append(f"tried for {length} of {counted(epochs, 'epoch')}, learned: {listed}")
        left_out += [
            NotTested(
                one.name, f"learned {learned[one.name]:.2f} in {counted(length, 'epoch')}; stronger attackers went on"
            )
            for one in dropped
        ]
        both = _both(ranked) if length == lengths[0] and count > 1 else None
        if both is not None and any(one.name == both.name for one in (*ranked, *required)):
            both = None
        attackers = [*kept, *([both] if both is not None else []), *required]
    asked = frozenset(one for one in (*basis, *attackers) if one in plan.asked)
    return replace(plan, conditions=(*basis, *attackers), left_out=tuple(left_out), asked=asked), tuple(notes)


def _both(ranked: Sequence[Condition]) -> Condition | None:
    """The two strongest as one attacker, in the order that fits; None if they do not fit together."""
    choices = [one.countermeasure for one in ranked[:2] if one.countermeasure is not None]
    steps = [choice.steps if isinstance(choice, ChoiceInOrder) else (choice,) for choice in choices]
    for first, second in permutations(steps):
        try:
            return replace(ranked[0], countermeasure=in_order((*first, *second)))
        except InputError:
            continue
    return None
