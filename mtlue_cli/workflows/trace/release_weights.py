"""The generator that a release was made with: found by the digest of its weights, bound to its key."""

from collections.abc import Iterator
from pathlib import Path

from mtlue_cli.choices import TaskKind
from mtlue_cli.errors import CheckpointError, InputError
from mtlue_cli.generator.checkpoint import read_card
from mtlue_cli.generator.codebook import CODE_VERSION
from mtlue_cli.generator.generator import Generator
from mtlue_cli.generator.shipped import SUFFIX, shipped_weights
from mtlue_cli.keys import FoundKey, Key
from mtlue_cli.release.records import RunRecord
from mtlue_cli.tasks.spec import Task, TaskSet
from mtlue_cli.workflows.protect.keyed import key_for
from mtlue_cli.workflows.protect.own_weights import weights_store


def weights_of(run: RunRecord, named: Path | None, hint: str) -> Path:
    """The weights of a release: those that are named, or shipped ones or own ones with the digest of its record.

    ``hint`` says what to do if none are found.

    Raises:
        InputError: The named ones are others, or none are found.
    """
    if named is not None:
        card = read_card(named)
        if card.digest != run.weights_sha256:
            raise InputError(
                f"{named} holds other weights than those of the release, {run.weights_name}",
                [f"digest {card.digest[:16]}, the release has {run.weights_sha256[:16]}"],
                "name the weights that the release was made with",
            )
        return named
    unreadable: list[str] = []
    for path in _known():
        try:
            if read_card(path).digest == run.weights_sha256:
                return path
        except CheckpointError as error:
            unreadable.append(str(error))
    raise InputError(
        f"the release was made with the weights {run.weights_name}, which are neither shipped nor in {weights_store()}",
        unreadable,
        hint,
    )


def generator_of(run: RunRecord, weights: Path, key: Path | None, device: str) -> Generator:
    """The generator of a release, with the codes of its key if it has one.

    Raises:
        InputError: The key is not that of the release, or the labels are those of every pixel.
    """
    card = read_card(weights)
    if not card.universal:
        key_for(card, key)  # refuses one
        return Generator.load(weights, device=device)
    found = key_for(card, key, keep=False)
    assert found is not None  # universal weights take one
    require_key(
        found,
        run,
        "the release",
        "give the key of the release with --key FILE, or the folder of the originals with --against",
    )
    if run.code_version not in (0, CODE_VERSION):
        raise InputError(
            f"the release has codes of version {run.code_version}, and this mtlue draws those of {CODE_VERSION}",
            hint="give the folder of the originals with --against",
        )
    return _bound(run, weights, found.key, device)


def require_key(found: FoundKey, run: RunRecord, release: str, hint: str) -> None:
    """Refuse a key that is not that of ``release``, which messages name so.

    Raises:
        InputError: It was made just now, or its fingerprint is another.
    """
    if found.made:
        raise InputError(
            f"{release} was made with the key {run.key_fingerprint}; no key was given, and there is none in "
            f"{found.origin}",
            hint=hint,
        )
    if found.key.fingerprint != run.key_fingerprint:
        raise InputError(
            f"the key of {found.origin} is not that of {release}: its fingerprint is {found.key.fingerprint}, "
            f"expected {run.key_fingerprint}",
            hint=hint,
        )


def _bound(run: RunRecord, weights: Path, key: Key, device: str) -> Generator:
    tasks = TaskSet(
        tuple(
            Task(name, TaskKind.BINARY if len(classes) <= 2 else TaskKind.CATEGORICAL, tuple(classes))
            for name, classes in run.classes.items()
        )
    )
    shares = {name: list(own) for name, own in run.shares.items()} or None
    return Generator.load(weights, key=key, tasks=tasks, shares=shares, cells=run.code_cells, device=device)


def _known() -> Iterator[Path]:
    yield from shipped_weights().values()
    yield from sorted(weights_store().glob(f"*{SUFFIX}"))
