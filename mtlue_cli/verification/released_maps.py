"""Whether the masks and maps of a release are those of its manifest and of its labels."""

from collections.abc import Mapping
from pathlib import Path

from mtlue_cli.files import file_digest
from mtlue_cli.manifest import FileRecord
from mtlue_cli.tasks.paths import path_fault


def map_faults(release: Path, record: FileRecord) -> list[str]:
    """Maps of a released image that are missing or have other bytes than the manifest says, a line each."""
    faults: list[str] = []
    for name, digest in record.maps.items():
        unsafe = path_fault(name)
        if unsafe is not None:
            faults.append(f"{record.source}: in the manifest, {unsafe}")
        elif not (release / name).is_file():
            faults.append(f"{name}: missing in the release, it is a map of {record.file_name}")
        elif digest == record.source_sha256:
            faults.append(f"{name}: is the original of {record.file_name}, released as its map")
        elif _digest(release / name) != digest:
            faults.append(f"{name}: its bytes are not those of the manifest")
    return faults


def changed_maps(record: FileRecord, given: Mapping[str, Path]) -> list[str]:
    """Maps that an image was protected with and that are not what its labels hold now, a line each.

    Args:
        record: What the manifest says of the image.
        given: The original of each map that its labels name.
    """
    faults = [f"{record.source}: {name} is in its labels and was not released" for name in given.keys() - record.maps]
    return sorted(faults) + [
        f"{record.source}: protected with other bytes of {name} than its labels hold"
        for name in record.maps
        if name in given and _digest(given[name]) != record.maps[name]
    ]


def _digest(path: Path) -> str | None:
    """SHA-256 of a file; None if it cannot be read."""
    try:
        return file_digest(path)
    except OSError:
        return None
