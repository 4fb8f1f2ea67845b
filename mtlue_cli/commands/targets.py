"""Where results may be written: never over what a command reads, keeps or releases."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from mtlue_cli.errors import InputError
from mtlue_cli.options import OptionField


def results_of(options: Iterable[OptionField], values: Mapping[str, object]) -> dict[str, Path]:
    """Option to the file that a command is to write with its result; checked. Values are given by field name.

    Raises:
        InputError: A result would replace an input, an original, a key, or anything of a release; says which.
    """
    results: dict[str, Path] = {}
    inputs: list[tuple[str, Path]] = []
    for found in options:
        value = values.get(found.name)
        if found.option.result:
            if isinstance(value, Path) and str(value) != "-":
                results[found.option.flag] = value
        else:
            named = found.option.flag if found.option.flags else str(found.option.metavar)
            inputs += [(named, path) for path in _paths(found, value)]
    if not results:
        return {}
    for named, path in (*inputs, *(("your key", path) for path in _own_keys())):
        refuse_overwriting(results, named, path)
    for flag, target in results.items():
        if (release := _release_of(target)) is not None:
            raise InputError(
                f"{flag}: {target} lies in the release {release}, which holds nothing but its own files",
                hint="give a file outside it",
            )
    twice = [flag for flag, target in results.items() if list(map(_real, results.values())).count(_real(target)) > 1]
    if twice:
        raise InputError(f"{' and '.join(twice)} name the same file", hint="give each its own")
    return results


def refuse_overwriting(results: Mapping[str, Path], named: str, path: Path) -> None:
    """Refuse results that would replace ``path``, or a photo in it, which messages call ``named``.

    Raises:
        InputError: One would.
    """
    for flag, target in results.items():
        if (reason := _reason(target, named, path)) is not None:
            raise InputError(f"{flag}: {target} {reason}", hint="give another file")


def _reason(target: Path, named: str, path: Path) -> str | None:
    """Why a result would replace something of an input; None if it would not."""
    if not os.path.exists(target):
        return None
    if os.path.exists(path) and os.path.samefile(target, path):
        return f"is the file of {named}"
    if path.is_dir() and _real(path) in _real(target).parents and _is_photo(target):
        return f"is a photo of {named}"
    return None


def _is_photo(path: Path) -> bool:
    from mtlue_cli.images.folder import may_be_photo

    return may_be_photo(path)


def _paths(found: OptionField, value: object) -> Iterator[Path]:
    if isinstance(value, Path):
        yield value
    elif isinstance(value, str) and found.option.file_or_name:
        yield Path(value)


def _own_keys() -> Iterator[Path]:
    from mtlue_cli.keys import CACHE_VARIABLE, VARIABLE, own_key_path

    for name in (VARIABLE, CACHE_VARIABLE):
        if os.path.lexists(given := os.environ.get(name, "").strip()):
            yield Path(given)
    try:
        yield own_key_path(os.environ)
    except RuntimeError:  # no home folder
        return


def _release_of(target: Path) -> Path | None:
    """The release that a file lies in, or in whose records it lies."""
    from mtlue_cli.release.records import FOLDER, RUN_NAME

    def is_of_release(folder: Path) -> bool:
        beside = folder.name.casefold().endswith(FOLDER) and (folder / RUN_NAME).exists()
        return beside or os.path.lexists(folder / FOLDER)

    return next(filter(is_of_release, _real(target).parents), None)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
