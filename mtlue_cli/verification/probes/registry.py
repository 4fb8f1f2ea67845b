"""All probes by name, with their usual settings."""

from collections.abc import Mapping

from mtlue_cli.choices import ProbeName
from mtlue_cli.verification.probes.base import Probe
from mtlue_cli.verification.probes.detectability import Detectability
from mtlue_cli.verification.probes.label_recovery import LabelRecovery

PROBES: Mapping[ProbeName, Probe] = {
    ProbeName.DETECTABILITY: Detectability(),
    ProbeName.LABEL_RECOVERY: LabelRecovery(),
}
