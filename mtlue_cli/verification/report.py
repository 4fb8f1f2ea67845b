"""The result of a verification as one document."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mtlue_cli.choices import ExitCode, MetricName, Tier
from mtlue_cli.errors import InputError, MtlueError
from mtlue_cli.files import write_atomically
from mtlue_cli.metrics.repeated import Repeated
from mtlue_cli.notebook import html_table
from mtlue_cli.verification.audit import Audit
from mtlue_cli.verification.conditions import Role
from mtlue_cli.verification.figures import Average, ConditionFigures, Learned, TaskFigures
from mtlue_cli.verification.probes.base import ProbeResult
from mtlue_cli.verification.probes.registry import PROBES
from mtlue_cli.verification.reports.html import draw_samples, write_html
from mtlue_cli.verification.reports.junit import write_junit
from mtlue_cli.verification.reports.markdown import write_markdown
from mtlue_cli.verification.result_cache import document_digest
from mtlue_cli.verification.tiers import NotTested
from mtlue_cli.verification.verdict import HALF, Judgement, Verdict

SCHEMA_VERSION = 2

EXIT_CODES = {
    Verdict.PROTECTED: ExitCode.SUCCESS,
    Verdict.NOT_PROTECTED: ExitCode.NOT_PROTECTED,
    Verdict.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
}


@dataclass(frozen=True)
class VerifyResult:
    """A finished verification.

    Attributes:
        judgement: The verdict and the figures of every condition; without conditions if the audit failed.
        audit: What was found in the release; None if a generator was judged.
        probes: What was measured without a victim.
        not_tested: What the laboratory offers and this run left out.
        subject: What was judged, in words.
        tier: The tier that was asked for, if any.
        setting: Settings, counts, device and versions, JSON-ready.
        command_line: What was typed, or how to type it.
        samples: A few originals, and their protected versions, ``(S, S, 3)`` uint8 each, for a picture.
        seconds: Wall time.
        sample_maps: Of each of the samples its masks and maps, ``(S, S, 3)`` uint8, coloured, by task.
    """

    judgement: Judgement
    audit: Audit | None
    probes: tuple[ProbeResult, ...]
    not_tested: tuple[NotTested, ...]
    subject: str
    tier: Tier | None
    setting: Mapping[str, Any]
    command_line: str
    samples: tuple[list[npt.NDArray[np.uint8]], list[npt.NDArray[np.uint8]]]
    seconds: float
    sample_maps: Sequence[Mapping[str, npt.NDArray[np.uint8]]] = ()

    @property
    def exit_code(self) -> ExitCode:
        """What the process should say."""
        return EXIT_CODES[self.judgement.verdict]

    def to_json(self) -> dict[str, Any]:
        """The result document; its digest names figures and verdict, whenever and wherever they were computed."""
        judgement = self.judgement
        conditions = [condition_to_json(found, judgement.max_learned) for found in judgement.conditions]
        audit = self.audit.to_json() if self.audit else None
        probes = [_probe(found) for found in self.probes]
        verdict = {
            "verdict": judgement.verdict.value,
            "reason": judgement.reason,
            "warning": judgement.warning,
            "max_learned": judgement.max_learned,
            "metric": judgement.metric.value,
            "worst_condition": judgement.worst.condition.name if judgement.worst else None,
        }
        victims = [victim.digest for found in judgement.conditions for victim in found.victims]
        return {
            "schema_version": SCHEMA_VERSION,
            "command": "verify",
            "subject": self.subject,
            **verdict,
            "exit_code": int(self.exit_code),
            "tier": self.tier.value if self.tier else None,
            "conditions": conditions,
            "probes": probes,
            "not_tested": [{"name": left.name, "reason": left.reason} for left in self.not_tested],
            "audit": audit,
            **self.setting,
            "notes": [*self.setting.get("notes", ()), *([judgement.early_note] if judgement.early_note else ())],
            "command_line": self.command_line,
            "seconds": self.seconds,
            "digest": document_digest({**verdict, "audit": audit, "probes": probes, "victims": victims}),
        }

    def save(self, path: str | Path) -> None:
        """Write the result as its suffix says: ``.html``, ``.md``, ``.xml`` (JUnit) or ``.json``; replaces a file.

        Raises:
            InputError: Another suffix.
            MtlueError: The file cannot be written.
        """
        target, document = Path(path), self.to_json()
        renderers: dict[str, Callable[[], str | bytes]] = {
            ".html": lambda: write_html(document, draw_samples(*self.samples, maps=self.sample_maps)),
            ".md": lambda: write_markdown(document),
            ".xml": lambda: write_junit(document),
            ".json": lambda: json.dumps(document, indent=2, allow_nan=False, default=str) + "\n",
        }
        if target.suffix.lower() not in renderers:
            raise InputError(f"{target}: a report ends in {', '.join(renderers)}")
        content = renderers[target.suffix.lower()]()
        try:
            write_atomically(target, content.encode() if isinstance(content, str) else content)
        except OSError as error:
            raise MtlueError(f"{target} cannot be written: {error.strerror}") from error

    def _repr_html_(self) -> str:
        judgement = self.judgement
        worst = judgement.worst
        return html_table(
            f"Verification of {self.subject}",
            {
                "verdict": judgement.verdict.value,
                "reason": judgement.reason,
                "warning": judgement.warning,
                "metric": judgement.metric.value,
                "gate (learned at most)": judgement.max_learned,
                "worst condition": worst.condition.name if worst else None,
                "learned there": worst.learned if worst else None,
                "conditions": len(judgement.conditions),
                "not tested": len(self.not_tested),
                "seconds": self.seconds,
            },
        )


def condition_to_json(found: ConditionFigures, max_learned: float) -> dict[str, Any]:
    """One condition, JSON-ready."""
    condition = found.condition
    countermeasure = condition.countermeasure
    learned, judged = found.learned, condition.role is Role.JUDGED
    early = found.has_early_stop
    return {
        "name": condition.name,
        "title": f"{condition.victim.name} + {countermeasure.title}" if countermeasure else condition.name,
        "role": condition.role.value,
        "victim": condition.victim.to_json(),
        "countermeasure": str(countermeasure.name) if countermeasure else None,
        "countermeasure_settings": countermeasure.settings_to_json() if countermeasure else None,
        "source": countermeasure.source if countermeasure else None,
        "protected_fraction": condition.protected_fraction,
        "seeds": [victim.seed for victim in found.victims],
        "tasks": [_task(task, early=early) for task in found.tasks],
        "average": _average(found.average),
        "best_epoch_average": _average(found.best_average),
        "best_epochs": [list(victim.best_epochs) if victim.best_epochs else None for victim in found.victims],
        "steps_per_epoch": found.steps_per_epoch,
        "best_epoch_steps": [list(steps) if steps else None for steps in found.best_steps],
        "learned": _learned(found.stronger if early else found.after_last_epoch),
        "learned_fraction": learned,
        "above_gate": judged and learned is not None and learned > max_learned,
        "recovers_half": judged and learned is not None and learned > HALF,
        "curves": [{"seed": victim.seed, "epochs": victim.to_json()["curve"]} for victim in found.victims],
        "seconds": round(sum(victim.seconds for victim in found.victims), 2),
        "cached": all(victim.cached for victim in found.victims),
    }


def _probe(found: ProbeResult) -> dict[str, Any]:
    return {
        "name": found.probe.value,
        "title": PROBES[found.probe].title,
        "figures": dict(found.figures),
        "meaning": found.finding,
    }


def _task(task: TaskFigures, *, early: bool) -> dict[str, Any]:
    return {
        "task": task.name,
        "judged": task.judged,
        "conclusive": task.conclusive,
        "floor": task.floor,
        "place_floor": task.place_floor,
        "clean": task.clean.to_json(),
        "score": task.score.to_json(),
        "metric": task.measure,
        "lower_is_better": task.lower_is_better,
        "accuracy": _figure(task.others.get(MetricName.ACCURACY)),
        "balanced_accuracy": _figure(task.others.get(MetricName.BALANCED)),
        "auroc": _figure(task.others.get(MetricName.AUROC)),
        "dense": {name: _figure(found) for name, found in task.others.items() if name not in set(MetricName)} or None,
        "learned": _learned(task.stronger if early else task.after_last_epoch),
        "learned_fraction": _figure(task.learned),
        "learned_beyond_place": _figure(task.learned_beyond_place),
        "best_epoch_accuracy": _figure(task.best),
        "best_epoch_learned_fraction": _figure(task.best_learned),
    }


def _learned(learned: Learned | None) -> dict[str, Any] | None:
    if learned is None:
        return None
    return {
        "fraction": learned.fraction.to_json(),
        "score": learned.score.to_json(),
        "at_best_epoch": learned.at_best_epoch,
    }


def _average(average: Average | None) -> dict[str, Any] | None:
    if average is None:
        return None
    return {
        "tasks": list(average.tasks),
        "score": average.score.to_json(),
        "clean_score": average.clean.to_json(),
        "floor": average.floor,
        "learned_fraction": average.learned.to_json(),
    }


def _figure(figure: Repeated | None) -> dict[str, Any] | None:
    return None if figure is None else figure.to_json()
