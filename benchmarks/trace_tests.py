"""Many tests of ``mtlue trace`` on one model, in memory: how often it is found, and how often falsely accused.

Under ``--key random`` each test has a true key of its own, which the model cannot have seen: its p-values must be
uniform. Under ``--key FILE`` each test has other probes of the same key. Beside the exact test the sign test over pairs
is computed, each pair with a decoy key of its own: its p-values are not uniform, since all pairs share the true key.
"""

import argparse
import json
import secrets
from pathlib import Path

import numpy as np
from scipy import stats

from mtlue_cli.choices import TaskKind
from mtlue_cli.devices import choose_device
from mtlue_cli.generator.checkpoint import load_checkpoint
from mtlue_cli.generator.generator import Generator
from mtlue_cli.generator.shipped import DEFAULT, find_weights
from mtlue_cli.images.dataset import load_square_images
from mtlue_cli.images.folder import find_images
from mtlue_cli.keys import Key, read_key
from mtlue_cli.perturbation.bound import protect_pixels
from mtlue_cli.perturbation.resize import quantised
from mtlue_cli.release.records import read_run
from mtlue_cli.tasks.spec import Task, TaskSet
from mtlue_cli.workflows.trace.answers import LEAST_COUNTED, as_scores
from mtlue_cli.workflows.trace.models import LoadedModel, load_model
from mtlue_cli.workflows.trace.plan import plan_probes
from mtlue_cli.workflows.trace.probes import Drawn, KeyedRelease
from mtlue_cli.workflows.trace.ranks import rank_sum_p, ranks

BATCH = 64


def without_gaps(found: list[int], arms: int, rng: np.random.Generator) -> float:
    """A p-value that is uniform although sums of ranks are whole numbers."""
    p = rank_sum_p(found, arms)
    less = sum(found) - 1
    each, more = divmod(less, len(found))
    below = rank_sum_p([each + (stage < more) for stage in range(len(found))], arms) if less >= len(found) else 0.0
    return below + float(rng.random()) * (p - below)


class Bench:
    """A release, a model and clean images."""

    def __init__(self, release: Path, model: Path, images: Path, count: int, epsilon: int | None) -> None:
        run = read_run(release)
        self.tasks = TaskSet(tuple(Task(name, TaskKind.CATEGORICAL, tuple(run.classes[name])) for name in run.tasks))
        self.loaded = load_checkpoint(find_weights(run.weights_name if run.traceable is None else DEFAULT))
        self.base = KeyedRelease(run, self.loaded, self.tasks, {}, run.shares)
        self.model: LoadedModel = load_model(model, "cpu")
        self.size = int(self.model.described["size"])
        self.epsilon = epsilon or 2 * run.epsilon
        self.order = list(self.model.described["outputs"])
        names = find_images(images)[:count]
        squares = load_square_images(images, names, self.size).permute(0, 2, 3, 1).numpy()
        grey = np.ptp(squares.astype(int), axis=3).mean(axis=(1, 2)) < 8
        self.images = squares[~grey]

    def test(self, key: Key, queries: int, random_answers: float = 0.0) -> dict[str, float]:
        """One test: p-values by labels, by scores, and of the sign test; follow rates."""
        release = KeyedRelease(self.base.run, self.loaded, self.tasks, self.base.with_codes_of(key), self.base.shares)
        plan = plan_probes(release.codes, release.shares, queries)
        drawn = Drawn(release, plan, secrets.token_hex(32), self.epsilon)
        tasks = TaskSet(
            tuple(
                Task(name, TaskKind.CATEGORICAL, tuple(map(str, range(len(own))))) for name, own in drawn.tables.items()
            )
        )
        self.loaded.generator.codes.take(tasks, drawn.tables, drawn.scale)
        generator = Generator(self.loaded, choose_device("cpu"), tasks)
        rng = np.random.default_rng(int.from_bytes(secrets.token_bytes(8), "big"))
        chosen = rng.choice(len(self.images), len(drawn.questions), replace=len(drawn.questions) > len(self.images))
        pixels, rows = [], {name: [] for name in drawn.tables}
        for question, image in zip(drawn.questions, chosen.tolist(), strict=True):
            for arm in range(plan.arms):
                pixels.append(self.images[image])
                for name, row in drawn.rows(question, arm).items():
                    rows[name].append(row)
        bounds = [question.epsilon for question in drawn.questions for _ in range(plan.arms)]
        scores = self._ask(generator, pixels, rows, bounds, rng, random_answers)
        stages, arms = len(plan.stages), plan.arms
        followed, logs = np.zeros((stages, arms)), np.zeros((stages, arms))
        position = 0
        true_rate, decoy_rate = [], []
        for question in drawn.questions:
            for arm in range(arms):
                for name in question.tested:
                    own = scores[name][position]
                    hit = float(own.argmax() == question.classes[name])
                    followed[question.stage, arm] += hit
                    logs[question.stage, arm] += max(own[question.classes[name]], LEAST_COUNTED)
                    if question.epsilon == self.epsilon:
                        (decoy_rate if arm else true_rate).append(hit)
                position += 1
        ties = rng.random((stages, arms))
        by_label, by_score = ranks(followed, ties), ranks(logs, ties)
        found = {
            "labels": rank_sum_p(by_label, arms),
            "scores": rank_sum_p(by_score, arms),
            "labels, gaps filled": without_gaps(by_label, arms, rng),
            "scores, gaps filled": without_gaps(by_score, arms, rng),
            "true": float(np.mean(true_rate)),
            "decoys": float(np.mean(decoy_rate)),
        }
        return found

    def sign_test(self, key: Key, pairs: int) -> dict[str, float]:
        """P-values of the sign test over pairs of the true key and a fresh key each, by task."""
        rng = np.random.default_rng(int.from_bytes(secrets.token_bytes(8), "big"))
        tables = [self.base.with_codes_of(key)]
        tables += [self.base.with_codes_of(Key(secrets.token_bytes(32))) for _ in range(pairs)]
        stacked = {own: np.concatenate([table[own] for table in tables]) for own in self.tasks.names}
        tasks = TaskSet(
            tuple(Task(own, TaskKind.CATEGORICAL, tuple(map(str, range(len(rows))))) for own, rows in stacked.items())
        )
        scale = self.loaded.generator.codes.unit_scale(tables[0], self.base.shares)
        self.loaded.generator.codes.take(tasks, stacked, scale)
        generator = Generator(self.loaded, choose_device("cpu"), tasks)
        pixels, rows = [], {own: [] for own in self.tasks.names}
        coded = {own: [] for own in self.tasks.names}
        for pair in range(pairs):
            image = self.images[int(rng.integers(len(self.images)))]
            classes = {task.name: int(rng.integers(task.num_classes)) for task in self.tasks}
            for own, index in classes.items():
                coded[own].append(index)
            for table in (0, pair + 1):
                pixels.append(image)
                for task in self.tasks:
                    rows[task.name].append(table * task.num_classes + classes[task.name])
        scores = self._ask(generator, pixels, rows, [self.epsilon] * len(pixels), rng, 0.0)
        found = {}
        for name, own in scores.items():
            hits = (own.argmax(axis=1) == np.repeat(coded[name], 2)).reshape(-1, 2)
            won, lost = int((hits[:, 0] & ~hits[:, 1]).sum()), int((~hits[:, 0] & hits[:, 1]).sum())
            found[name] = float(stats.binomtest(won, won + lost, alternative="greater").pvalue) if won + lost else 1.0
        return found

    def _ask(self, generator, pixels, rows, bounds, rng, random_answers):  # noqa: ANN001, ANN202
        squares = [generator.square(image) for image in pixels]
        deltas = generator.perturb(squares, rows, generator.card.epsilon)
        each = zip(pixels, deltas, bounds, strict=True)
        scale = 1 / generator.card.epsilon
        shown = np.stack(
            [protect_pixels(image, quantised(delta * bound * scale), bound) for image, delta, bound in each]
        )
        shown = np.ascontiguousarray(shown.transpose(0, 3, 1, 2)).astype(np.float32) / 255
        parts = [self.model.run(shown[start : start + BATCH]) for start in range(0, len(shown), BATCH)]
        found = {}
        for place, name in enumerate(self.order):
            scores, _ = as_scores(np.concatenate([part[place][1] for part in parts]))
            if random_answers:
                odd = rng.random(len(scores)) < random_answers
                scores[odd] = rng.permuted(scores[odd], axis=1)
            found[name] = scores
        return found


def main() -> None:
    """Run the tests, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--release", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--key", default="random")
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--tests", type=int, default=100)
    parser.add_argument("--count", type=int, default=500, help="clean images that are read")
    parser.add_argument("--sign-pairs", type=int, default=0)
    parser.add_argument("--random-answers", type=float, default=0.0)
    parser.add_argument("--epsilon", type=int)
    given = parser.parse_args()
    bench = Bench(given.release, given.model, given.images, given.count, given.epsilon)
    results, signs = [], []
    for _ in range(given.tests):
        key = Key(secrets.token_bytes(32)) if given.key == "random" else read_key(Path(given.key)).key
        if given.queries:
            results.append(bench.test(key, given.queries, given.random_answers))
        if given.sign_pairs:
            signs.append(bench.sign_test(key, given.sign_pairs))
    summary = {"model": str(given.model), "key": given.key, "queries": given.queries, "tests": given.tests}
    summary |= {"random_answers": given.random_answers, "epsilon": bench.epsilon}
    for name in ("labels", "scores", "labels, gaps filled", "scores, gaps filled"):
        if results:
            values = np.array([one[name] for one in results])
            summary[name] = {
                "median": float(np.median(values)),
                "below 0.05": float((values <= 0.05).mean()),
                "below 1e-3": float((values <= 1e-3).mean()),
                "below 1e-6": float((values <= 1e-6).mean()),
                "quantiles": np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]).tolist(),
                "KS p": float(stats.kstest(values, "uniform").pvalue),
            }
    if results:
        summary["follow true"] = float(np.mean([one["true"] for one in results]))
        summary["follow decoys"] = float(np.mean([one["decoys"] for one in results]))
    if signs:
        summary["sign test"] = {"pairs": given.sign_pairs} | {
            name: {
                "below 0.05": float(np.mean([one[name] <= 0.05 for one in signs])),
                "below 1e-6": float(np.mean([one[name] <= 1e-6 for one in signs])),
                "smallest": float(min(one[name] for one in signs)),
            }
            for name in bench.tasks.names
        }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
