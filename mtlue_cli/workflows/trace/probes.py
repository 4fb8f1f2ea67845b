"""``mtlue trace probes``: clean images with true and decoy codes, and the sealed answers."""

import csv
import hashlib
import io
import os
import re
import secrets
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from mtlue_cli import __version__
from mtlue_cli.choices import MAX_EPSILON, ImageFormat, TaskKind
from mtlue_cli.devices import choose_device
from mtlue_cli.documents import Document
from mtlue_cli.errors import ImageError, InputError
from mtlue_cli.files import file_digest, synchronise, write_atomically
from mtlue_cli.generator.checkpoint import LoadedGenerator, load_checkpoint
from mtlue_cli.generator.code_patterns import painted_codes, pattern_dimension
from mtlue_cli.generator.codebook import CODE_VERSION, Codebook, Numbers
from mtlue_cli.generator.decoys import decoys
from mtlue_cli.generator.generator import Generator
from mtlue_cli.generator.shipped import DEFAULT
from mtlue_cli.images.decode import decode_image
from mtlue_cli.images.encode import encode_image
from mtlue_cli.images.folder import find_images, refuse_nesting
from mtlue_cli.keys import Key, find_key
from mtlue_cli.release.records import FOLDER, MANIFEST_NAME, RunRecord, read_manifest, record_path
from mtlue_cli.tasks.spec import UNLABELLED, Task, TaskSet, image_task
from mtlue_cli.tasks.wording import quoted
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.trace.config import ProbesConfig
from mtlue_cli.workflows.trace.plan import Plan, plan_probes
from mtlue_cli.workflows.trace.ranks import smallest_p
from mtlue_cli.workflows.trace.release_weights import require_key, weights_of
from mtlue_cli.workflows.trace.sealed import (
    COMMITMENT,
    TEMPLATE,
    TRUE_ARM,
    Probe,
    SealedAnswers,
    commitment_of,
    sealed_path,
)

_ROUNDS = 3
"""How often an image may be used, where there are few."""
_SAME_TIME = 946_684_800.0
"""When all probes were last changed: the year 2000, since a ZIP archive holds no time before 1980."""
_SEED = re.compile("[0-9a-f]{64}")


class ProbesResult(Document, frozen=True, tag_field="schema_version", tag=1):
    """What was made.

    Attributes:
        probes: The folder to send.
        sealed: The file to keep.
        commitment_sha256: Digest of the commitment, to publish before the model answers.
        count: Probes.
        stages, arms, images: The design.
        tasks: What the model is asked.
        smallest_p: The p-value if the model follows every true code and no decoy.
        notes: Remarks for the user.
    """

    probes: str
    sealed: str
    commitment_sha256: str
    count: int
    stages: int
    arms: int
    images: int
    tasks: Sequence[str]
    smallest_p: float
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class KeyedRelease:
    """The codes of a release, as its victims have seen them.

    Attributes:
        run: Its record.
        loaded: Its weights.
        tasks: Those that have codes.
        codes: ``(C, d)`` of each task, as they are painted but for their scale.
        shares: Of each class.
        released, originals: Digests of its images, and of what they were made from.
    """

    run: RunRecord
    loaded: LoadedGenerator
    tasks: TaskSet
    codes: Mapping[str, Numbers]
    shares: Mapping[str, Sequence[float]]
    released: frozenset[str] = frozenset()
    originals: frozenset[str] = frozenset()

    def with_codes_of(self, key: Key) -> Mapping[str, Numbers]:
        """The codes that ``key`` draws for the same tasks and classes."""
        return painted_codes(Codebook(key, self.tasks, pattern_dimension(1, self.run.code_cells)), self.shares)


@dataclass(frozen=True)
class Question:
    """What is shown on one image of a stage, in every arm.

    Attributes:
        stage: From 0.
        epsilon: Bound, in 255ths.
        classes: Class index by task; of other tasks no code is shown.
        tested: Tasks whose codes are new in this stage.
    """

    stage: int
    epsilon: int
    classes: Mapping[str, int]
    tested: tuple[str, ...]


def make_probes(config: ProbesConfig, progress: Progress) -> ProbesResult:
    """Write probes, commitment and sealed answers.

    Raises:
        InputError: Release, key, weights or folders do not fit; nothing was written.
        OSError: A file cannot be written.
    """
    sealed_file = sealed_path(config.out)
    _check_target(config, sealed_file)
    seed = secrets.token_hex(32) if config.seed is None else config.seed.strip().lower()
    if not _SEED.fullmatch(seed):
        raise InputError("--seed is not a seed of probes", hint="it is in the sealed answers: 64 hexadecimal digits")
    release, notes = open_release(config.release, config.key, config.weights)
    plan = plan_probes(release.codes, release.shares, config.queries)
    if not plan.stages or plan.arms < 2:
        raise InputError(f"--queries {config.queries} is too few for a single comparison", hint="ask for at least 50")
    names = find_images(config.images)
    if not names:
        raise InputError(f"{config.images} holds no images", hint="give a folder of clean images")
    digest = hashlib.sha256(record_path(config.release, f"{FOLDER}/{MANIFEST_NAME}").read_bytes()).hexdigest()
    try:
        probes = _paint(release, plan, seed, config, names, progress)
        notes = (*notes, *_seen_originals(release, config.images, {probe.image for probe in probes}))
        sealed = SealedAnswers(
            seed=seed,
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            release_sha256=digest,
            key_fingerprint=str(release.run.key_fingerprint),
            weights_sha256=release.run.weights_sha256,
            epsilon=_epsilon(config, release.run),
            tasks={task.name: list(task.classes) for task in release.tasks},
            stages=len(plan.stages),
            arms=plan.arms,
            images=plan.images,
            probes=tuple(sorted(probes, key=lambda probe: probe.file)),
            versions={"mtlue": __version__, "numpy": np.__version__, "torch": str(torch.__version__)},
        )
        content = sealed.content()
        commitment = commitment_of(sealed, content).content()
        write_atomically(config.out / TEMPLATE, _template(sealed).encode())
        write_atomically(config.out / COMMITMENT, commitment)
        write_atomically(sealed_file, content, private=True)
    except BaseException:
        shutil.rmtree(config.out, ignore_errors=True)  # it was new or empty: nothing of it is of use
        raise
    return ProbesResult(
        str(config.out),
        str(sealed_file),
        hashlib.sha256(commitment).hexdigest(),
        len(probes),
        sealed.stages,
        sealed.arms,
        sealed.images,
        list(sealed.tasks),
        smallest_p(sealed.stages, sealed.arms),
        notes,
    )


def open_release(folder: Path, key_file: Path | None, weights: Path | None) -> tuple[KeyedRelease, tuple[str, ...]]:
    """The codes of a keyed release, and notes on the key.

    Raises:
        InputError: It is no release, has no codes of whole images, or key or weights are others.
    """
    manifest = read_manifest(folder)
    run = manifest.run
    if run.key_fingerprint is None:
        raise InputError(
            f"{folder} was made with the weights {run.weights_name}, which take no key: what they write is no random "
            "draw, so that no exact test is possible",
            hint="protect with --traceable, --quick or --weights default to make a release that can be traced",
        )
    if not run.complete:
        raise InputError(f"{folder} is unfinished", hint="run mtlue protect again to finish it")
    if dense := manifest.dense_tasks:
        raise InputError(
            f"{folder} protects masks or maps: {', '.join(map(quoted, sorted(dense)))}; only releases whose protected "
            "labels are all of whole images can be traced",
            hint="protect the other columns alone, with --tasks, to make a release that can be traced",
        )
    if run.code_version != CODE_VERSION:
        raise InputError(
            f"{folder} has codes of version {run.code_version}, this mtlue draws version {CODE_VERSION}",
            hint="use the version of mtlue that made the release",
        )
    tasks = TaskSet(tuple(image_task(name, run.classes[name]) for name in run.tasks))
    found = find_key(key_file, keep=False)  # a new key is not that of a release
    require_key(found, run, str(folder), "give the key of the release with --key FILE")
    coded_by = (run.weights_name, run.weights_sha256)
    if run.traceable is not None:
        coded_by = (DEFAULT, run.traceable.weights_sha256)
    loaded = load_checkpoint(weights_of(*coded_by, weights, "name them with --weights FILE"))
    released = frozenset(record.sha256 for record in manifest.files)
    originals = frozenset(record.source_sha256 for record in manifest.files)
    release = KeyedRelease(run, loaded, tasks, {}, run.shares, released, originals)
    return replace(release, codes=release.with_codes_of(found.key)), tuple(found.described())


class Drawn:
    """Everything that is drawn for a set of probes, from its seed of 64 hexadecimal digits.

    The release is one with its codes; ``epsilon`` is the largest bound, in 255ths.
    """

    def __init__(self, release: KeyedRelease, plan: Plan, seed: str, epsilon: int) -> None:
        self._seed = seed
        self.questions = self._draw_questions(plan, epsilon)
        self._rows: dict[tuple[int, int, str, int], int] = {}
        self.tables = self._draw_codes(release.codes, plan)
        # That of the release depends on all of its codes: an earlier stage would tell of those that later ones show.
        other = release.with_codes_of(Key(self._bytes("scale")))
        self.scale = release.loaded.generator.codes.unit_scale(other, release.shares)

    def rows(self, question: Question, arm: int) -> dict[str, int]:
        """Row of the code of each task in :attr:`tables`; negative where none is shown."""
        found: dict[str, int] = {}
        for name in self.tables:
            index = question.classes.get(name)
            own_arm = arm if name in question.tested else TRUE_ARM
            stage = question.stage if own_arm != TRUE_ARM else 0
            found[name] = UNLABELLED if index is None else self._rows[stage, own_arm, name, index]
        return found

    def order(self, names: Sequence[str]) -> list[str]:
        """Images in the order in which they are taken."""
        return [names[index] for index in self._rng("images").permutation(len(names))]

    def file_names(self, count: int) -> list[str]:
        """Names that say nothing."""
        rng, found = self._rng("names"), dict[str, None]()
        while len(found) < count:
            found[f"{rng.bytes(5).hex()}.png"] = None
        return list(found)

    def _bytes(self, what: str) -> bytes:
        return hashlib.sha256(bytes.fromhex(self._seed) + what.encode()).digest()

    def _rng(self, what: str) -> np.random.Generator:
        return np.random.default_rng(int.from_bytes(self._bytes(what), "big"))

    def _draw_questions(self, plan: Plan, epsilon: int) -> list[Question]:
        """A question for each image, stage after stage; tasks that are not tested show codes of earlier stages."""
        rng = self._rng("classes")
        shown: dict[str, list[int]] = {}
        found: list[Question] = []
        for stage, tested in enumerate(plan.stages):
            starts = {name: int(rng.integers(len(classes))) for name, classes in tested.items()}
            for image in range(plan.images):
                classes = {name: own[(starts[name] + image) % len(own)] for name, own in tested.items()}
                others = {name: own for name, own in shown.items() if name not in tested}
                background = {name: own[int(rng.integers(len(own)))] for name, own in others.items()}
                found.append(Question(stage, plan.epsilon(image, epsilon), {**background, **classes}, tuple(tested)))
            for name, own in tested.items():
                shown.setdefault(name, []).extend(own)
        return found

    def _draw_codes(self, codes: Mapping[str, Numbers], plan: Plan) -> dict[str, Numbers]:
        """The codes of each task, those of the release first, then the decoys; fills the index of rows."""
        tables: dict[str, list[Numbers]] = {name: [] for name in codes}

        def keep(stage: int, arm: int, name: str, index: int, code: Numbers) -> None:
            self._rows[stage, arm, name, index] = len(tables[name])
            tables[name].append(code)

        rng = self._rng("decoys")
        known: list[Numbers] = []
        for stage, tested in enumerate(plan.stages):
            places = [(name, index) for name, classes in tested.items() for index in classes]
            true = np.stack([codes[name][index] for name, index in places])
            before = np.stack(known) if known else np.empty((0, true.shape[1]))
            for (name, index), code in zip(places, true, strict=True):
                keep(0, TRUE_ARM, name, index, code)
            for arm, drawn in enumerate(decoys(true, before, plan.arms - 1, rng), TRUE_ARM + 1):
                for (name, index), code in zip(places, drawn, strict=True):
                    keep(stage, arm, name, index, code)
            known.extend(true)
        return {name: np.stack(own) for name, own in tables.items() if own}


def _paint(
    release: KeyedRelease, plan: Plan, seed: str, config: ProbesConfig, names: Sequence[str], progress: Progress
) -> list[Probe]:
    """Write the probes into their folder.

    Raises:
        InputError: Too few images can be used.
        OSError: A file cannot be written.
    """
    epsilon = _epsilon(config, release.run)
    drawn = Drawn(release, plan, seed, epsilon)
    tasks = TaskSet(
        tuple(Task(name, TaskKind.CATEGORICAL, tuple(map(str, range(len(own))))) for name, own in drawn.tables.items())
    )
    release.loaded.generator.codes.take(tasks, drawn.tables, drawn.scale)
    generator = Generator(release.loaded, choose_device(config.device), tasks)
    files = iter(drawn.file_names(plan.probes))
    queue = iter(drawn.order(names) * _ROUNDS)
    faults: list[str] = []

    def next_image(question: Question) -> tuple[str, list[bytes]]:
        """The next image that can carry the codes of all arms, and its probes."""
        for image in queue:
            try:
                if file_digest(config.images / image) in release.released:
                    raise ImageError("is a file of the release, which has codes already")
                return image, _arms(generator, drawn, question, plan.arms, config.images / image, epsilon)
            except (ImageError, OSError) as error:
                faults.append(f"{image}: {error}")
        raise InputError(
            f"too few images in {config.images} can carry a code: {len(drawn.questions)} are needed",
            list(dict.fromkeys(faults)),
            "give more photos in colour, or ask for fewer with --queries",
        )

    probes: list[Probe] = []
    progress.start("making probes", plan.probes)
    for question in drawn.questions:
        image, contents = next_image(question)
        for arm, content in enumerate(contents):
            name = next(files)
            write_atomically(config.out / name, content, keep_name=False)
            shown = {task: release.tasks[task].classes[index] for task, index in question.classes.items()}
            digest = hashlib.sha256(content).hexdigest()
            probes.append(Probe(name, digest, image, question.stage, arm, question.epsilon, shown, question.tested))
        progress.advance(len(contents))
    progress.finish()
    for probe in probes:  # the time of writing would tell the arms apart
        os.utime(config.out / probe.file, (_SAME_TIME, _SAME_TIME))
    synchronise(config.out)
    return probes


def _arms(generator: Generator, drawn: Drawn, question: Question, arms: int, path: Path, epsilon: int) -> list[bytes]:
    """A clean image with the codes of each arm, as PNG files.

    Raises:
        ImageError: It cannot be read, or cannot carry the codes of every arm.
    """
    photo = decode_image(path)
    square = generator.square(photo.pixels)
    rows = [drawn.rows(question, arm) for arm in range(arms)]
    labels = {name: [own[name] for own in rows] for name in drawn.tables}
    contents: list[bytes] = []
    for delta in generator.perturb([square] * arms, labels, epsilon):
        _, lacking = generator.added(photo.pixels, delta, epsilon, photo.alpha)
        if lacking is not None:
            raise ImageError(lacking.value)
    for delta in generator.perturb([square] * arms, labels, question.epsilon):
        changed, _ = generator.added(photo.pixels, delta, question.epsilon, photo.alpha)
        contents.append(encode_image(changed, photo, ImageFormat.PNG))
    return contents


def _seen_originals(release: KeyedRelease, images: Path, used: Collection[str]) -> tuple[str, ...]:
    """A note if probes were made of originals of the release.

    A false alarm stays as rare: without the key no model can tell true codes from decoys, whatever the photo.
    """
    seen = sum(file_digest(images / name) in release.originals for name in used)
    if not seen:
        return ()
    return (
        f"{seen} of {len(used)} images of the probes are originals of the release: a model that was trained on it may "
        "remember their labels in place of reading the codes, and then the test misses it; a false alarm stays as "
        "rare. Give photos that are not in the release, if you have any",
    )


def _epsilon(config: ProbesConfig, run: RunRecord) -> int:
    """Bound of the probes, in 255ths."""
    return config.epsilon or min(2 * run.epsilon, MAX_EPSILON)


def _check_target(config: ProbesConfig, sealed: Path) -> None:
    """Refuse to overwrite, and to write among images.

    Raises:
        InputError: It would be so.
    """
    if os.path.lexists(config.out) and not (config.out.is_dir() and not any(config.out.iterdir())):
        raise InputError(f"{config.out} is there already", hint="give a new folder with --out")
    if os.path.lexists(sealed):
        raise InputError(f"{sealed} is there already", hint="give another folder with --out")
    for folder in (config.images, config.release):
        refuse_nesting(folder, config.out)
    images, release = config.images.resolve(), config.release.resolve()
    if images == release or release in images.parents:
        raise InputError(f"{config.images} is the release", hint="give a folder of clean images")


def _template(sealed: SealedAnswers) -> str:
    """A table to fill in: a row per probe, a column per task."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["file", *sealed.tasks])
    writer.writerows([probe.file, *("" for _ in sealed.tasks)] for probe in sealed.probes)
    return stream.getvalue()
