"""The result of a verification as one document."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mtlue_cli.choices import ExitCode
from mtlue_cli.verification.audit import Audit
from mtlue_cli.verification.experiment import VictimResult
from mtlue_cli.verification.result_cache import document_digest
from mtlue_cli.verification.verdict import Judgement, Verdict

SCHEMA_VERSION = 1

EXIT_CODES = {
    Verdict.PROTECTED: ExitCode.SUCCESS,
    Verdict.NOT_PROTECTED: ExitCode.NOT_PROTECTED,
    Verdict.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
}


@dataclass(frozen=True)
class VerifyResult:
    """A finished verification.

    Attributes:
        judgement: The verdict and its figures.
        audit: What was found in the release; None if a generator was judged.
        victims: Row name to victim, in the order they were trained; empty if the audit failed.
        subject: What was judged, in words.
        setting: Settings, counts, device and versions, JSON-ready.
        seconds: Wall time.
    """

    judgement: Judgement
    audit: Audit | None
    victims: Mapping[str, VictimResult]
    subject: str
    setting: Mapping[str, Any]
    seconds: float

    @property
    def exit_code(self) -> ExitCode:
        """What the process should say."""
        return EXIT_CODES[self.judgement.verdict]

    def to_json(self) -> dict[str, Any]:
        """The result document; its digest names figures and verdict, whenever and wherever they were computed."""
        judgement = self.judgement.to_json()
        audit = self.audit.to_json() if self.audit else None
        victims = {name: victim.to_json() for name, victim in self.victims.items()}
        content = {
            "judgement": judgement,
            "audit": audit,
            "victims": {name: victim.digest for name, victim in self.victims.items()},
        }
        return {
            "schema_version": SCHEMA_VERSION,
            "command": "verify",
            "subject": self.subject,
            **judgement,
            "audit": audit,
            "victims": victims,
            **self.setting,
            "seconds": self.seconds,
            "digest": document_digest(content),
        }
