"""A finished verification: its document, its pictures, and the files that it is written to."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mtlue_cli.choices import ExitCode
from mtlue_cli.documents import part_of
from mtlue_cli.errors import InputError, MtlueError
from mtlue_cli.files import write_atomically
from mtlue_cli.notebook import html_table
from mtlue_cli.verification.audit import Audit, AuditReport
from mtlue_cli.verification.document import VerifyDocument
from mtlue_cli.verification.probes.base import ProbeFigures
from mtlue_cli.verification.reports.html import draw_samples, write_html
from mtlue_cli.verification.reports.junit import write_junit
from mtlue_cli.verification.reports.markdown import write_markdown
from mtlue_cli.verification.result_cache import document_digest
from mtlue_cli.verification.verdict import Judgement, Verdict

EXIT_CODES = {
    Verdict.PROTECTED: ExitCode.SUCCESS,
    Verdict.NOT_PROTECTED: ExitCode.NOT_PROTECTED,
    Verdict.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
}


class VerifyResult(VerifyDocument, frozen=True, kw_only=True):
    """A finished verification: the document, and what is not part of it.

    Attributes:
        early_note: The last of the notes, if it is about early best epochs.
        samples: A few originals, and their protected versions, ``(S, S, 3)`` uint8 each, for a picture.
        sample_maps: Of each of the samples its masks and maps, ``(S, S, 3)`` uint8, coloured, by task.
    """

    early_note: str | None = None
    samples: tuple[list[npt.NDArray[np.uint8]], list[npt.NDArray[np.uint8]]] = ([], [])
    sample_maps: Sequence[Mapping[str, npt.NDArray[np.uint8]]] = ()

    @property
    def document(self) -> VerifyDocument:
        """The document alone."""
        return part_of(self, VerifyDocument)

    def to_json(self) -> dict[str, Any]:
        """The document as a JSON reader gets it."""
        return self.document.to_json()

    def html(self) -> str:
        """One page with a picture of the samples."""
        return write_html(self, draw_samples(*self.samples, maps=self.sample_maps))

    def save(self, path: str | Path) -> None:
        """Write the result as its suffix says: ``.html``, ``.md``, ``.xml`` (JUnit) or ``.json``; replaces a file.

        Raises:
            InputError: Another suffix.
            MtlueError: The file cannot be written.
        """
        target = Path(path)
        renderers: dict[str, Callable[[], str | bytes]] = {
            ".html": self.html,
            ".md": lambda: write_markdown(self),
            ".xml": lambda: write_junit(self),
            ".json": lambda: json.dumps(self.to_json(), indent=2) + "\n",
        }
        if target.suffix.lower() not in renderers:
            raise InputError(f"{target}: a report ends in {', '.join(renderers)}")
        content = renderers[target.suffix.lower()]()
        try:
            write_atomically(target, content.encode() if isinstance(content, str) else content)
        except OSError as error:
            raise MtlueError(f"{target} cannot be written: {error.strerror}") from error

    def _repr_html_(self) -> str:
        return html_table(
            f"Verification of {self.subject}",
            {
                "verdict": self.verdict.value,
                "reason": self.reason,
                "warning": self.warning,
                "metric": self.metric.value,
                "gate (learned at most)": self.max_learned,
                "worst condition": self.worst_condition,
                "learned there": self.worst and self.worst.learned_fraction,
                "conditions": len(self.conditions),
                "not tested": len(self.not_tested),
                "seconds": self.seconds,
            },
        )


def verify_result(
    judgement: Judgement,
    *,
    victims: Sequence[str] = (),
    audit: Audit | None = None,
    probes: Sequence[ProbeFigures] = (),
    notes: Sequence[str] = (),
    **others: Any,  # noqa: ANN401 - fields of VerifyResult, each of its own type
) -> VerifyResult:
    """Put a result together.

    Args:
        judgement: The verdict and the figures of every condition.
        victims: Digests of all victims, condition after condition.
        audit: What was found in the release; None if a generator was judged.
        probes: What was measured without a victim.
        notes: What a reader should know.
        others: The other fields of the result.
    """
    report = None if audit is None else part_of(audit, AuditReport)
    early = judgement.early_note
    decided: dict[str, Any] = {
        "verdict": judgement.verdict,
        "reason": judgement.reason,
        "warning": judgement.warning,
        "max_learned": judgement.max_learned,
        "metric": judgement.metric,
        "confidence": judgement.confidence,
        "worst_condition": judgement.worst.name if judgement.worst else None,
    }
    identity = {
        **decided,
        "audit": report and report.to_json(),
        "probes": [probe.to_json() for probe in probes],
        "victims": victims,
    }
    return VerifyResult(
        **decided,
        exit_code=EXIT_CODES[judgement.verdict],
        conditions=judgement.conditions,
        probes=tuple(probes),
        audit=report,
        notes=(*notes, *([early] if early else ())),
        early_note=early,
        digest=document_digest(identity),
        **others,
    )
