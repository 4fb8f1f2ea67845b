"""The generator of a verification: the one that is judged, and the one that an attacker has."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mtlue_cli.errors import InputError
from mtlue_cli.generator.checkpoint import LoadedGenerator, load_checkpoint, read_card
from mtlue_cli.generator.code_embedding import shares_for_codes
from mtlue_cli.generator.shipped import is_shipped, resolve_weights, shipped_weights
from mtlue_cli.keys import FoundKey
from mtlue_cli.release.records import read_run
from mtlue_cli.tasks.labels import LabelFile
from mtlue_cli.workflows.protect.keyed import key_for, offered_tasks


@dataclass(frozen=True)
class JudgedGenerator:
    """A generator ready to protect the labels at hand.

    Attributes:
        loaded: Bound to the key, if it takes one; its card holds the tasks that it protects.
        key: That key.
        notes: What a reader should know.
    """

    loaded: LoadedGenerator
    key: FoundKey | None
    notes: Sequence[str]


def load_judged(weights: str, key: Path | None, given: LabelFile) -> JudgedGenerator:
    """The generator called ``weights``, for these labels.

    Raises:
        InputError: There is none, it does not fit, or its key cannot be read.
    """
    labels = given.table
    loaded = load_checkpoint(resolve_weights(weights, labels.tasks))
    offered = offered_tasks(loaded.card, labels.tasks, None, given.left_out)
    found = key_for(loaded.card, key)
    notes = [] if found is None else found.described()
    if found is not None:
        loaded = loaded.bound(found.key, offered.tasks, shares_for_codes(labels, offered.tasks, loaded.card.image_size))
    return JudgedGenerator(loaded, found, notes)


def published_weights(weights: str | None, protected: Path | None) -> Path | None:
    """The generator that is judged, or made the release, if it comes with the program, so that anyone has it."""
    shipped = shipped_weights()
    if weights is not None:
        path = shipped.get(weights, Path(weights))
        return path if weights in shipped or is_shipped(path) else None
    if protected is None:
        return None
    try:
        used = read_run(protected).weights_sha256
    except InputError:
        return None
    return next((path for path in shipped.values() if read_card(path).digest == used), None)


def attackers_weights(weights: str | None, protected: Path | None) -> Path | None:
    """The generator that an attacker is given: the one that is judged, published or not, or a release's if it is."""
    if weights is not None:
        return shipped_weights().get(weights, Path(weights))
    return published_weights(weights, protected)
