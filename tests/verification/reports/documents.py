"""Made result documents of ``mtlue verify``, each after a round trip through JSON."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

MAX_LEARNED = 0.25
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""Number of values to the 97.5 % quantile of Student's t for their mean."""

HOSTILE = (
    "<script>alert(1)</script>",
    "a & b | c",
    "\"double\" 'single' `tick` ``two``",
    "smile \N{GRINNING FACE} _under_ *star* [link](https://example.org)",
    "line\nbreak\x00\x07 control",
    "half \ud83d surrogate ]]> {{ 7 * 7 }}",
)


def figure(*values: float) -> dict[str, Any]:
    """Mean, 95 % interval and values of a figure that was measured once a seed."""
    mean = sum(values) / len(values)
    if len(values) == 1:
        return {"mean": mean, "low": None, "high": None, "values": list(values)}
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    half = STUDENT[len(values)] * (variance / len(values)) ** 0.5
    return {"mean": mean, "low": mean - half, "high": mean + half, "values": list(values)}


def learned(last: Mapping[str, Any] | None, best: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Of ``fraction`` and ``score`` after the last and at the best epoch those of the higher fraction."""
    at_best = best is not None and (last is None or best["fraction"]["mean"] > last["fraction"]["mean"] + 1e-5)
    chosen = best if at_best else last
    return None if chosen is None else {**chosen, "at_best_epoch": at_best}


def _reached(fraction: Any, score: Any) -> dict[str, Any] | None:  # noqa: ANN401 - measures
    return None if fraction is None or score is None else {"fraction": fraction, "score": score}


def with_learned(one: Mapping[str, Any], role: str) -> dict[str, Any]:
    """A task with what it is said to have learned under a condition of this role."""
    best = None
    if role not in ("control", "reference"):
        best = _reached(one["best_epoch_learned_fraction"], one["best_epoch_accuracy"])
    return {**one, "learned": learned(_reached(one["learned_fraction"], one["score"]), best)}


def task(
    name: str,
    learned: float | None,
    *,
    best_gain: float | None = -0.05,
    clean: float = 0.9,
    floor: float = 0.5,
    judged: bool = True,
    seeds: int = 1,
) -> dict[str, Any]:
    """A task whose victim learned ``learned``; None makes it inconclusive. Seeds lie 0.01 apart.

    At the best epoch it learned ``best_gain`` more; None: that was not measured.
    """
    conclusive = learned is not None
    clean = clean if conclusive else floor + 0.01
    spread = [0.01 * (seed - (seeds - 1) / 2) for seed in range(seeds)]
    fractions = [(learned or 0.0) + step for step in spread]
    accuracy = [floor + fraction * (clean - floor) for fraction in fractions]
    best = None if best_gain is None else [fraction + best_gain for fraction in fractions]
    return {
        "task": name,
        "judged": judged,
        "conclusive": conclusive,
        "floor": floor,
        "place_floor": None,
        "clean": figure(*[clean] * seeds),
        "score": figure(*accuracy),
        "metric": "accuracy",
        "lower_is_better": False,
        "accuracy": figure(*accuracy),
        "balanced_accuracy": figure(*(value - 0.02 for value in accuracy)),
        "auroc": figure(*(value + 0.01 for value in accuracy)) if conclusive else None,
        "dense": None,
        "learned_fraction": figure(*fractions) if conclusive else None,
        "learned_beyond_place": None,
        "best_epoch_accuracy": figure(*(floor + fraction * (clean - floor) for fraction in best)) if best else None,
        "best_epoch_learned_fraction": figure(*best) if best and conclusive else None,
    }


def angles(name: str, learned: float, seeds: int = 1) -> dict[str, Any]:
    """A task of normals: floor 40 degrees, 30 by place alone, clean 20."""
    found = task(name, learned, clean=20.0, floor=40.0, seeds=seeds)
    beyond = figure(*((value - 30.0) / (20.0 - 30.0) for value in found["score"]["values"]))
    found |= {"place_floor": 30.0, "learned_beyond_place": beyond}
    none = dict.fromkeys(("balanced_accuracy", "auroc"))
    return {**found, **none, "metric": "mean_angle", "lower_is_better": True, "dense": {"mean_angle": found["score"]}}


def average(tasks: Sequence[Mapping[str, Any]], score: str = "score") -> dict[str, Any] | None:
    """Average over the judged, conclusive ones of ``tasks``; ``score`` names the figure of the last or best epoch."""
    kept = [one for one in tasks if one["judged"] and one["conclusive"]]
    if not kept or any(one[score] is None for one in kept):
        return None

    def means(name: str) -> list[float]:
        return [sum(values) / len(kept) for values in zip(*(one[name]["values"] for one in kept), strict=True)]

    floor = sum(one["floor"] for one in kept) / len(kept)
    reached, clean = means(score), means("clean")
    fractions = [(got - floor) / (best - floor) for got, best in zip(reached, clean, strict=True)]
    return {
        "tasks": [one["task"] for one in kept],
        "score": figure(*reached),
        "clean_score": figure(*clean),
        "floor": floor,
        "learned_fraction": figure(*fractions),
    }


def condition(
    name: str,
    tasks: Sequence[Mapping[str, Any]],
    *,
    role: str = "judged",
    title: str | None = None,
    countermeasure: str | None = None,
    source: str | None = None,
    epochs: int = 4,
) -> dict[str, Any]:
    """A condition with curves that climb to the accuracies of ``tasks``."""
    seeds = range(len(tasks[0]["accuracy"]["values"]))
    last, best = average(tasks), average(tasks, "best_epoch_accuracy")
    highest = max((one["learned_fraction"]["mean"] for one in (last, best) if one), default=None)
    reached_last, reached_best = (
        None if one is None else _reached(one["learned_fraction"], one["score"]) for one in (last, best)
    )

    def reached(one: Mapping[str, Any], seed: int, epoch: int) -> float:
        climb = (epoch / epochs) ** 0.5
        return float(one["floor"] + climb * (one["accuracy"]["values"][seed] - one["floor"]))

    return {
        "name": name,
        "role": role,
        "title": title or name,
        "victim": {
            "backbone": name.split(" + ")[0],
            "learner": "mtl",
            "weighting": "ls",
            "method": "scratch",
            "method_settings": {},
        },
        "countermeasure": countermeasure,
        "countermeasure_settings": None if countermeasure is None else {"quality": 10},
        "source": source,
        "protected_fraction": 1.0,
        "seeds": list(seeds),
        "tasks": [with_learned(one, role) for one in tasks],
        "average": last,
        "best_epoch_average": best,
        "best_epochs": [[epochs, epochs - 1] for _ in seeds],
        "steps_per_epoch": 50,
        "best_epoch_steps": [[50 * epochs, 50 * (epochs - 1)] for _ in seeds],
        "learned": learned(reached_last, None if role in ("control", "reference") else reached_best),
        "learned_fraction": highest,
        "above_gate": role == "judged" and highest is not None and highest > MAX_LEARNED,
        "recovers_half": role == "judged" and highest is not None and highest > 0.5,
        "curves": [
            {
                "seed": seed,
                "epochs": [
                    {
                        "epoch": epoch,
                        "train_loss": None if epoch == 1 else 1.0 / epoch,
                        "train_accuracy": {
                            one["task"]: None if epoch == 1 else min(1.0, 0.5 + 0.48 * epoch / epochs) for one in tasks
                        },
                        "test_accuracy": {one["task"]: reached(one, seed, epoch) for one in tasks},
                    }
                    for epoch in range(1, epochs + 1)
                ],
            }
            for seed in seeds
        ],
        "seconds": 42.5,
        "cached": False,
    }


def document(
    verdict: str,
    reason: str,
    conditions: Sequence[Mapping[str, Any]],
    **changes: Any,  # noqa: ANN401 - any field
) -> dict[str, Any]:
    """A whole document that survived JSON; ``changes`` replace top-level fields."""
    measured = [one for one in conditions if one["role"] == "judged" and one["learned_fraction"] is not None]
    worst = max(measured, key=lambda one: float(one["learned_fraction"]), default=None)
    made = {
        "schema_version": 2,
        "command": "verify",
        "subject": "release faces-protected",
        "verdict": verdict,
        "reason": reason,
        "warning": None,
        "max_learned": MAX_LEARNED,
        "metric": "accuracy",
        "tier": "smoke",
        "worst_condition": worst["name"] if worst else None,
        "exit_code": {"protected": 0, "not protected": 4, "inconclusive": 5}[verdict],
        "conditions": list(conditions),
        "probes": [
            {
                "name": "detector",
                "title": "Linear detector",
                "figures": {"auroc": 0.987, "accuracy": 0.951},
                "meaning": "how well a linear model tells protected from clean images; 0.5 is a coin toss",
            }
        ],
        "not_tested": [
            {"name": "pgd", "reason": "adversarial training takes hours; run --tier full"},
            {"name": "vit-b-16", "reason": "left out by --tier smoke"},
        ],
        "audit": _audit(),
        "key_fingerprint": None,
        "counts": {"train_images": 1600, "test_images": 400},
        "settings": {"epochs": 4, "size": 64, "backbone": ["resnet18"], "limit": None},
        "device": "cpu (2 threads)",
        "versions": {"mtlue": "0.1.0", "torch": "2.15.0"},
        "epsilon": 8,
        "flip": {"mean": 0.1503, "files": 24, "pixels_per_degree": 67.0},
        "notes": ["3 images are in quarantine, not in the release, and left out here"],
        "command_line": "mtlue verify faces --labels faces/labels.csv --protected faces-protected --tier smoke",
        "seconds": 412.3,
        "digest": "3f1c9a52",
        **changes,
    }
    again: dict[str, Any] = json.loads(json.dumps(made, allow_nan=False))
    return again


def protected() -> dict[str, Any]:
    """Two judged conditions below the gate; one task above it taken alone, one inconclusive, one not judged."""
    return document(
        "protected",
        "a victim learns 0.14 of what clean images teach on average under the worst condition",
        [
            condition(
                "resnet18", [task(name, 1.0) for name in ("age", "race")], role="reference", title="Clean images"
            ),
            condition("resnet18 + noise", [task("age", 0.97), task("race", 0.99)], role="control", title="Noise"),
            condition(
                "resnet18 + none",
                [task("age", -0.4), task("race", 0.1), task("gender", None), task("glasses", 0.9, judged=False)],
                title="As released",
            ),
            condition(
                "resnet18 + jpeg-10",
                [task("age", -0.02), task("race", 0.3), task("gender", None), task("glasses", 1.02, judged=False)],
                title="JPEG, quality 10",
                countermeasure="jpeg-10",
                source="Liu et al., ICML 2023",
            ),
        ],
        warning="taken alone, a victim learns more than 0.25 of: race (0.30)",
    )


def not_protected(seeds: int = 2) -> dict[str, Any]:
    """Three judged conditions, the last above the gate and over half; several seeds."""
    names = ("age", "race", "gender")

    def row(*learned: float) -> list[dict[str, Any]]:
        return [task(name, one, seeds=seeds) for name, one in zip(names, learned, strict=True)]

    return document(
        "not protected",
        "a victim learns 0.62 of what clean images teach on average under resnet18 + regression",
        [
            condition("resnet18", row(1.0, 1.0, 1.0), role="reference", title="Clean images"),
            condition("resnet18 + none", row(-0.4, -0.1, 0.1), title="As released"),
            condition("resnet18 + jpeg-10", row(-0.1, 0.2, 0.3), title="JPEG, quality 10", countermeasure="jpeg-10"),
            condition(
                "resnet18 + regression",
                row(0.2, 0.71, 0.95),
                title="Label regression",
                countermeasure="regression",
                source="pixels regressed on the published labels",
            ),
            condition("resnet18 + noise", row(0.99, 0.98, 1.0), role="control", title="Noise of the same size"),
        ],
    )


def stopped_early(seeds: int = 1) -> dict[str, Any]:
    """A judged condition above the gate at its best epoch alone: below the gate, and below another, after the last."""
    return document(
        "not protected",
        "under the worst of 2 conditions, small, a victim learns 0.75 of what clean images teach on average when it "
        "stops at its best epoch",
        [
            condition("resnet18", [task("age", 1.0, best_gain=0.07, seeds=seeds)], role="reference"),
            condition("resnet18 + noise", [task("age", 0.9, best_gain=0.07, seeds=seeds)], role="control"),
            condition("resnet18 + none", [task("age", 0.2, seeds=seeds), task("race", 0.2, seeds=seeds)]),
            condition(
                "small",
                [
                    task("age", 0.03, best_gain=1.002, seeds=seeds),
                    task("race", 0.23, best_gain=0.24, seeds=seeds),
                    task("glasses", 0.1, best_gain=0.2, judged=False, seeds=seeds),
                ],
            ),
        ],
    )


def other_metric() -> dict[str, Any]:
    """One judged condition under a metric for which no best epoch is measured."""
    rows = [task("age", 0.4, best_gain=None), task("race", None, best_gain=None)]
    metric = "balanced-accuracy"
    rows = [{**row, "metric": metric} for row in rows]
    return document("not protected", "too much", [condition("resnet18 + none", rows)], metric=metric)


def inconclusive() -> dict[str, Any]:
    """A clean victim that learned nothing, and the one judged condition that was run all the same."""
    return document(
        "inconclusive",
        "the victim trained on clean images beats the floor by 2 points on no judged task",
        [
            condition("resnet18", [task("age", None), task("race", None)], role="reference", title="Clean images"),
            condition("resnet18 + none", [task("age", None), task("race", None)], title="As released"),
        ],
        probes=[],
    )


def failed_audit(faults: int = 2) -> dict[str, Any]:
    """A release whose files already fail; nothing was trained."""
    lines = [f"{number:05d}.png: its bytes are not those of the manifest" for number in range(faults)]
    return document(
        "not protected",
        f"the audit of the release found {faults} faults; no victim was trained",
        [],
        probes=[],
        counts=None,
        flip=None,
        audit=_audit(lines),
    )


def generator() -> dict[str, Any]:
    """A generator that was judged without a release: no audit, no tier, nothing left out, no notes."""
    made = protected()
    return {**made, "subject": "generator utkface", "audit": None, "tier": None, "not_tested": [], "notes": []}


def large(tasks: int = 40, conditions: int = 25, name: str = "attribute {}", *, epochs: int = 4) -> dict[str, Any]:
    """Many tasks and conditions, with every kind of cell; the last condition is far above the gate."""

    def learned(row: int, column: int) -> float | None:
        if row % 13 == 12:
            return None
        return round(-0.6 + 1.7 * column / conditions + 0.3 * ((row * 7 + column * 3) % 11 - 5) / 5, 3)

    made = [
        condition("resnet18", [task(name.format(row), 1.0) for row in range(tasks)], role="reference", epochs=epochs)
    ]
    for column in range(conditions):
        rows = [task(name.format(row), learned(row, column), judged=row % 17 != 16) for row in range(tasks)]
        named = f"resnet18 + {name.format(column)} measure"
        made.append(condition(named, rows, countermeasure=f"measure-{column}", epochs=epochs))
    return document("not protected", "a victim learns far too much under the last condition", made)


def hostile() -> dict[str, Any]:
    """Names and texts that break out of careless XML, Markdown and HTML."""
    evil = " ".join(HOSTILE)
    rows = [task(name, 0.4) for name in HOSTILE]
    made = [condition(f"{name} + x", rows, title=name, countermeasure=name, source=evil) for name in HOSTILE]
    return document(
        "not protected",
        evil,
        made,
        subject=evil,
        warning=evil,
        worst_condition=made[0]["name"],
        probes=[{"name": evil, "title": evil, "figures": {evil: 0.5}, "meaning": evil}],
        not_tested=[{"name": evil, "reason": evil}],
        notes=[evil],
        settings={evil: evil},
        device=evil,
        versions={evil: evil},
        command_line=f"mtlue verify {evil} ```` </pre>",
        audit={**_audit(), "notes": [evil], "quarantined": {evil: evil}},
    )


def _audit(faults: Sequence[str] = ()) -> dict[str, Any]:
    return {
        "manifest": True,
        "epsilon": 8,
        "weights": {"name": "utkface", "sha256": "ab" * 32},
        "protected_tasks": ["age", "race", "gender"],
        "format": "png",
        "files": 2000,
        "measured": 2000,
        "maps": 0,
        "max_change": 8.0,
        "quarantined": {"00017.jpg": "truncated"},
        "faults": list(faults),
        "notes": ["12 files of the release have no row in the labels: checked all the same, but not trained on"],
    }
