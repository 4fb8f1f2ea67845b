"""All probes by name."""

from collections.abc import Mapping
from dataclasses import dataclass

from mtlue_cli.choices import ProbeName
from mtlue_cli.verification.probes.base import Probe
from mtlue_cli.verification.probes.detectability import Detectability
from mtlue_cli.verification.probes.label_recovery import LabelRecovery


@dataclass(frozen=True)
class ProbeSpec:
    """One probe.

    Attributes:
        title: For a reader, a few words.
        run: The probe with its usual settings.
    """

    title: str
    run: Probe


PROBES: Mapping[ProbeName, ProbeSpec] = {
    ProbeName.DETECTABILITY: ProbeSpec("linear detector of protected images", Detectability()),
    ProbeName.LABEL_RECOVERY: ProbeSpec("labels read off the perturbation", LabelRecovery()),
}
