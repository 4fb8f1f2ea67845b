"""The settings of a release, in ``.mtlue/run.json``."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mtlue_cli.choices import MAX_PATTERN_CELLS, ImageFormat
from mtlue_cli.errors import InputError
from mtlue_cli.files import write_atomically

SCHEMA_VERSION = 1
ANEW = "protect the originals into a new folder"
FOLDER = ".mtlue"
RUN_NAME = "run.json"
_KINDS: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("epsilon", "code_version", "code_cells"), (int,)),
    **dict.fromkeys(("weights_name", "weights_sha256", "image_format"), (str,)),
    **dict.fromkeys(("keep_metadata", "complete"), (bool,)),
    **dict.fromkeys(("versions", "counts", "digests", "classes", "shares", "flip"), (dict,)),
    **dict.fromkeys(("file_column", "key_fingerprint"), (str, type(None))),
}
"""Types of the fields of a run record as it is read; tasks aside."""
_FLIP = {"mean", "files", "pixels_per_degree"}


@dataclass(frozen=True)
class RunRecord:
    """The settings of a release.

    Attributes:
        epsilon: Bound in 255ths.
        weights_name, weights_sha256: The generator.
        tasks: Names of the protected tasks.
        image_format: How files were written: ``png``, ``webp`` or ``keep``.
        keep_metadata: Whether EXIF data, XMP and text were kept.
        complete: Whether the run reached its end.
        versions: Versions of the program and of what it computed with.
        counts: Figures of the last run, for people.
        file_column: Header of the file column in the release's label file; None in releases of older versions.
        digests: SHA-256 of manifest and label file by their names, once the run is complete; empty in releases of
            older versions.
        key_fingerprint: Of the key, for weights that take one.
        classes: Classes of each task in the order of their codes, for weights that take a key; else empty.
        shares: Share of each of these classes by which codes and tints were drawn; empty in releases of older versions.
        code_version: Number of the construction of codes, for weights that draw them from a key; else, and in releases
            of older versions, 0.
        code_cells: Side in cells of their patterns; 0 where there are none.
        flip: ``mean`` FLIP of a sample, its number of ``files`` and ``pixels_per_degree``, once the run is complete;
            empty in releases of older versions, and where no file could be compared.
    """

    epsilon: int
    weights_name: str
    weights_sha256: str
    tasks: tuple[str, ...]
    image_format: str
    keep_metadata: bool
    complete: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    file_column: str | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    key_fingerprint: str | None = None
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    shares: Mapping[str, Sequence[float]] = field(default_factory=dict)
    code_version: int = 0
    code_cells: int = 0
    flip: Mapping[str, float] = field(default_factory=dict)

    def differences(self, other: "RunRecord") -> list[str]:
        """Settings that decide about the released bytes and differ, a line each."""
        names = ("epsilon", "weights_sha256", "key_fingerprint", "tasks", "image_format", "keep_metadata")
        pairs = [(name, getattr(other, name), getattr(self, name)) for name in names]
        found = [f"{name}: the release has {old}, this run {new}" for name, old, new in pairs if old != new]
        keyed = self.key_fingerprint is not None and other.key_fingerprint is not None
        if keyed and self.code_version != other.code_version:
            age = "an older" if other.code_version < self.code_version else "a newer"
            found.append(f"codes: the release has those of {age} version, which draws them otherwise")
        return found


def is_release(folder: Path) -> bool:
    """Whether ``folder`` holds a run record."""
    return (folder / FOLDER / RUN_NAME).is_file()


def read_run(release: Path) -> RunRecord:
    """The settings of a release.

    Raises:
        InputError: There is none, it is damaged, or it is of a newer schema.
    """
    path = release / FOLDER / RUN_NAME
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        version = document.pop("schema_version")
        if version != SCHEMA_VERSION:
            raise InputError(
                f"{path} has schema version {version!r}, this mtlue reads {SCHEMA_VERSION}", hint="upgrade mtlue"
            )
        run = RunRecord(**{**document, "tasks": tuple(document["tasks"])})
        wrong = [name for name, kinds in _KINDS.items() if type(getattr(run, name)) not in kinds]
        wrong += [] if all(isinstance(name, str) for name in run.tasks) else ["tasks"]
        wrong += [] if "code_cells" in wrong or 0 <= run.code_cells <= MAX_PATTERN_CELLS else ["code_cells"]
        lists = {"classes": _is_list_of_text, "shares": _is_list_of_shares}
        right = (name for name in lists if name not in wrong)
        wrong += [name for name in right if not all(map(lists[name], getattr(run, name).values()))]
        wrong += [] if "flip" in wrong or not run.flip or _is_flip(run.flip) else ["flip"]
        if wrong:
            raise TypeError(f"{', '.join(wrong)} of another type than expected")
        ImageFormat(run.image_format)
        return run
    except FileNotFoundError as error:
        raise InputError(f"{release} is no release: {FOLDER}/{RUN_NAME} is missing") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}", hint=ANEW) from error


def write_run(release: Path, run: RunRecord) -> None:
    """Write the settings, atomically; the folders are made if need be."""
    document = {"schema_version": SCHEMA_VERSION, **asdict(run), "tasks": list(run.tasks)}
    write_atomically(release / FOLDER / RUN_NAME, (json.dumps(document, indent=2) + "\n").encode())


def _is_flip(value: Mapping[str, float]) -> bool:
    return value.keys() == _FLIP and all(
        type(figure) in (int, float) and 0 <= figure < 1e9 for figure in value.values()
    )


def _is_list_of_text(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _is_list_of_shares(value: object) -> bool:
    return isinstance(value, list) and all(type(entry) is float and 0 < entry <= 1 for entry in value)
