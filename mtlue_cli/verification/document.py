"""The result document of ``mtlue verify``; ``docs/verify-result.md`` is made from these types."""

from collections.abc import Mapping
from typing import Any, Literal

from mtlue_cli.choices import ExitCode, MetricName, Tier
from mtlue_cli.documents import Document
from mtlue_cli.metrics.flip import MeanFlip
from mtlue_cli.verification.audit import AuditReport
from mtlue_cli.verification.figures import ConditionFigures
from mtlue_cli.verification.probes.base import ProbeFigures
from mtlue_cli.verification.tiers import NotTested
from mtlue_cli.verification.verdict import Verdict


class Counts(Document, frozen=True):
    """Numbers of images.

    Attributes:
        train_images: Images that every victim trains on.
        test_images: Clean images that every victim is tested on.
    """

    train_images: int
    test_images: int


class VerifyDocument(Document, frozen=True, kw_only=True):
    """What ``--json`` writes.

    Attributes:
        schema_version, command: Which document this is.
        subject: What was judged, in words: a release or a generator.
        verdict: The outcome.
        reason: One sentence for a reader.
        warning: What a reader should know in spite of the verdict, such as a single task that is learned.
        max_learned: The gate: the highest average learned fraction of a judged condition that counts as protected.
        metric: What the victims are judged by.
        confidence: Of the intervals whose ends the gate is on; null: it is on the figures themselves.
        worst_condition: Name of the judged condition with the highest average learned fraction.
        exit_code: 0 protected, 4 not protected, 5 inconclusive.
        tier: What was asked for; null if the conditions were chosen one by one.
        conditions: What was trained; empty if the audit failed.
        probes: Measurements beside the verdict.
        not_tested: What this run left out; it did not pass.
        audit: What was found in the released files; null if a generator was judged without a release.
        settings: Every setting of the run, by name; ``epochs`` are those that every victim was trained for, also where
            ``least_steps`` decided them.
        device: Where it was computed, in words.
        versions: Package name to version.
        epsilon: Bound of the perturbation in 255ths, which the noise control shares.
        key_fingerprint: Names the key under which a keyed generator was judged; null without one, and for a release.
        notes: What a reader should know, above all what is not measured; a best epoch within the first 500 optimiser
            steps of a judged condition, if it beats the last.
        counts: Images; null if nothing was trained.
        flip: How visible the perturbation is; null if the audit failed, or no image could be compared.
        command_line: The command, to be run again.
        seconds: Wall time of the run.
        digest: Identity of figures and verdict, whenever and wherever they were computed.
    """

    schema_version: Literal[2] = 2
    command: Literal["verify"] = "verify"
    subject: str
    verdict: Verdict
    reason: str
    warning: str | None
    max_learned: float
    metric: MetricName
    confidence: float | None = None
    worst_condition: str | None
    exit_code: ExitCode
    tier: Tier | None
    conditions: tuple[ConditionFigures, ...]
    probes: tuple[ProbeFigures, ...]
    not_tested: tuple[NotTested, ...]
    audit: AuditReport | None
    settings: Mapping[str, Any]
    device: str
    versions: Mapping[str, str]
    epsilon: int
    key_fingerprint: str | None
    notes: tuple[str, ...]
    counts: Counts | None
    flip: MeanFlip | None
    command_line: str
    seconds: float
    digest: str

    @property
    def worst(self) -> ConditionFigures | None:
        """The condition that :attr:`worst_condition` names."""
        return next((found for found in self.conditions if found.name == self.worst_condition), None)
