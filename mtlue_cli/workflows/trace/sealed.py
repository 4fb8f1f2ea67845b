"""The files of a set of probes: the sealed answers, which stay with the owner, and the commitment, which is sent along.

The commitment holds the digest of the sealed answers. So nobody can change, once the model has answered, which probes
show true codes, which classes they stand for, or which of them count.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from mtlue_cli.documents import Document
from mtlue_cli.errors import InputError
from mtlue_cli.files import file_digest, read_regular
from mtlue_cli.tasks.paths import path_fault

SCHEMA_VERSION = 1
COMMITMENT = "commitment.json"
TEMPLATE = "answers.csv"
TRUE_ARM = 0

Positive = Annotated[int, Meta(ge=1)]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
DocumentT = TypeVar("DocumentT", bound=Document)


class Probe(Document, frozen=True, forbid_unknown_fields=True):
    """One probe.

    Attributes:
        file: Its name.
        sha256: Of its bytes.
        image: The clean image, relative to the folder of clean images.
        stage: From 0.
        arm: 0 for the true codes, any other for decoys.
        epsilon: Its bound, in 255ths.
        classes: Class of each task whose code is shown; of other tasks none is.
        tested: The tasks whose codes are new in this stage. The others show the same codes in all arms.
    """

    file: str
    sha256: Digest
    image: str
    stage: Annotated[int, Meta(ge=0)]
    arm: Annotated[int, Meta(ge=0)]
    epsilon: Positive
    classes: Mapping[str, str]
    tested: Sequence[str]


class SealedAnswers(Document, frozen=True, forbid_unknown_fields=True, tag_field="schema_version", tag=SCHEMA_VERSION):
    """What the owner keeps.

    Attributes:
        seed: 64 hexadecimal digits, from which decoys, classes, images, names and order are drawn.
        made: Time in UTC.
        release_sha256: Digest of the release's manifest.
        key_fingerprint: Of the key of the release.
        weights_sha256: Of its weights.
        epsilon: Largest bound of a probe, in 255ths.
        tasks: Classes of each task, in the order of the codes.
        stages, arms, images: The design: stages, true codes and decoys, and images per stage.
        probes: All of them, by name.
        versions: Of the program and of what it computed with.
    """

    seed: Digest
    made: str
    release_sha256: Digest
    key_fingerprint: str
    weights_sha256: str
    epsilon: Positive
    tasks: Mapping[str, Sequence[str]]
    stages: Positive
    arms: Annotated[int, Meta(ge=2)]
    images: Positive
    probes: Sequence[Probe]
    versions: Mapping[str, str] = {}

    def content(self) -> bytes:
        """The file."""
        return (json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n").encode()


class Commitment(Document, frozen=True, forbid_unknown_fields=True, tag_field="schema_version", tag=SCHEMA_VERSION):
    """What is sent along with the probes, and may be published.

    Attributes:
        sealed_sha256: Digest of the file of sealed answers.
        seed_sha256: Digest of the seed's 32 bytes.
        made: Time in UTC.
        tasks: What the model is asked, with the classes that an answer may name.
        probes: SHA-256 of each probe.
    """

    sealed_sha256: Digest
    seed_sha256: Digest
    made: str
    tasks: Mapping[str, Sequence[str]]
    probes: Mapping[str, Digest]

    def content(self) -> bytes:
        """The file."""
        return (json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n").encode()


def sealed_path(probes: Path) -> Path:
    """Where the sealed answers of a folder of probes stand: beside it, so that the folder can be sent as it is."""
    absolute = probes.absolute()
    return absolute.with_name(f"{absolute.name}.sealed.json")


def commitment_of(sealed: SealedAnswers, content: bytes) -> Commitment:
    """The commitment to sealed answers whose file has this content."""
    return Commitment(
        hashlib.sha256(content).hexdigest(),
        hashlib.sha256(bytes.fromhex(sealed.seed)).hexdigest(),
        sealed.made,
        sealed.tasks,
        {probe.file: probe.sha256 for probe in sealed.probes},
    )


def opened(probes: Path, sealed: Path | None = None) -> tuple[SealedAnswers, str]:
    """The sealed answers of a folder of probes, checked against its commitment and its files; the commitment's digest.

    Args:
        probes: The folder.
        sealed: Their file; None: the one beside the folder.

    Raises:
        InputError: A file is missing, damaged, or not what was committed to; lists every probe that was changed.
    """
    path = sealed_path(probes) if sealed is None else sealed
    committed = probes / COMMITMENT
    answers, content = _read(path, SealedAnswers, "give the file of sealed answers with --sealed")
    commitment, committed_content = _read(committed, Commitment, "give a folder made by mtlue trace probes")
    if commitment != commitment_of(answers, content):
        raise InputError(
            f"{path} is not what {committed} commits to: one of them was changed, or they belong to different probes",
            hint="nothing can be concluded from these answers; use the files as mtlue trace probes wrote them",
        )
    faults = _design_faults(answers)
    for probe in answers.probes if not faults else ():
        try:
            if file_digest(probes / probe.file) != probe.sha256:
                faults.append(f"{probe.file}: is not the probe that was made")
        except OSError as error:
            faults.append(f"{probe.file}: cannot be read: {error.strerror or error}")
    if faults:
        raise InputError(
            f"the probes in {probes} are not those that were made", faults, "use the folder as it was sent to the model"
        )
    return answers, hashlib.sha256(committed_content).hexdigest()


def _design_faults(sealed: SealedAnswers) -> list[str]:
    """What is wrong with the design that the probes follow, one per line."""
    faults: list[str] = []
    if sealed.stages * sealed.arms > len(sealed.probes):
        return ["there are fewer probes than stages and arms"]
    cells: dict[tuple[int, int], list[tuple[str, int, tuple[tuple[str, str], ...], tuple[str, ...]]]] = {}
    for probe in sealed.probes:
        if path_fault(probe.file) is not None or "/" in probe.file:
            faults.append(f"{probe.file!r}: is not the name of a probe")
        if any(name not in sealed.tasks or shown not in sealed.tasks[name] for name, shown in probe.classes.items()):
            faults.append(f"{probe.file}: shows a class that the release does not have")
        shown = tuple(sorted(probe.classes.items()))
        cells.setdefault((probe.stage, probe.arm), []).append(
            (probe.image, probe.epsilon, shown, tuple(sorted(probe.tested)))
        )
    wanted = {(stage, arm) for stage in range(sealed.stages) for arm in range(sealed.arms)}
    if set(cells) != wanted or any(sorted(cells[stage, arm]) != sorted(cells[stage, 0]) for stage, arm in cells):
        faults.append("the arms of a stage do not ask the same questions")
    faults += _repeated_codes(sealed)
    if len({probe.file for probe in sealed.probes}) < len(sealed.probes):
        faults.append("two probes have the same name")
    return faults


def _repeated_codes(sealed: SealedAnswers) -> list[str]:
    """Codes that a stage tests and an earlier one has shown, one per line: their ranks are not independent."""
    stages: list[dict[tuple[str, str], bool]] = [{} for _ in range(sealed.stages)]
    for probe in sealed.probes:
        if probe.arm == TRUE_ARM and probe.stage < sealed.stages:
            stages[probe.stage] |= {code: code[0] in probe.tested for code in probe.classes.items()}
    seen: set[tuple[str, str]] = set()
    faults: list[str] = []
    for number, shown in enumerate(stages):
        faults += [
            f"stage {number + 1} tests the code of {name} {label!r}, which an earlier one has shown"
            for (name, label), is_tested in shown.items()
            if is_tested and (name, label) in seen
        ]
        seen |= shown.keys()
    return faults


def _read(path: Path, kind: type[DocumentT], hint: str) -> tuple[DocumentT, bytes]:
    try:
        content = read_regular(path)
        return msgspec.json.decode(content, type=kind), content
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing", hint=hint) from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be used: {error}", hint=hint) from error
