"""The generator that a release was made with: found by the digest of its weights, bound to its key."""

from pathlib import Path

from mtlue_cli.errors import CheckpointError, InputError
from mtlue_cli.generator.checkpoint import read_card
from mtlue_cli.generator.codebook import CODE_VERSION
from mtlue_cli.generator.generator import Generator
from mtlue_cli.generator.shipped import DEFAULT, SUFFIX, find_weights, shipped_weights
from mtlue_cli.keys import FoundKey
from mtlue_cli.release.records import RunRecord
from mtlue_cli.tasks.spec import TaskSet, image_task
from mtlue_cli.workflows.protect.keyed import key_for
from mtlue_cli.workflows.protect.own_weights import weights_store


def weights_of(name: str, digest: str, named: Path | None, hint: str) -> Path:
    """The weights of a release: those that are named, or shipped ones or own ones with the digest of its record.

    ``name`` and ``digest`` are those of its record; ``hint`` says what to do if none are found.

    Raises:
        InputError: The named ones are others, or none are found.
    """
    if named is not None:
        card = read_card(named)
        if card.digest != digest:
            raise InputError(
                f"{named} holds other weights than those of the release, {name}",
                [f"digest {card.digest[:16]}, the release has {digest[:16]}"],
                "name the weights that the release was made with",
            )
        return named
    unreadable: list[str] = []
    for path in (*shipped_weights().values(), *sorted(weights_store().glob(f"*{SUFFIX}"))):
        try:
            if read_card(path).digest == digest:
                return path
        except CheckpointError as error:
            unreadable.append(str(error))
    raise InputError(
        f"the release was made with the weights {name}, which are neither shipped nor in {weights_store()}",
        unreadable,
        hint,
    )


def generator_of(run: RunRecord, weights: Path, key: Path | None, device: str) -> Generator:
    """The generator of a release, with the codes of its key if it has one.

    Raises:
        InputError: The key is not that of the release, or the labels are those of every pixel.
    """
    card = read_card(weights)
    found = key_for(card, key, traceable=run.traceable is not None, keep=False)
    if found is None:
        return Generator.load(weights, device=device)
    if run.traceable is not None and run.traceable.weights_sha256 != read_card(find_weights(DEFAULT)).digest:
        raise InputError(
            "the release has codes of other ready-made weights than this mtlue has",
            hint="give the folder of the originals with --against",
        )
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
    # The classes of a keyed release are in the order of the codes.
    coded = TaskSet(tuple(image_task(name, classes) for name, classes in run.classes.items()))
    return Generator.load(
        weights,
        key=found.key,
        tasks=coded if run.traceable is None else card.tasks.subset(run.tasks),
        shares=run.shares or None,
        cells=run.code_cells,
        traceable=0 if run.traceable is None else run.traceable.levels,
        device=device,
    )


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
