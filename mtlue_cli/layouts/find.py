"""Where the labels of a folder are when no option names them."""

from collections.abc import Sequence
from pathlib import Path

from mtlue_cli.choices import LabelFormat
from mtlue_cli.errors import InputError
from mtlue_cli.files import RECORDS
from mtlue_cli.images.folder import FolderFiles, find_images, list_folder
from mtlue_cli.layouts.shards import Shards, find_shards, shards_among
from mtlue_cli.tasks.readers.image_folder import doubt
from mtlue_cli.tasks.readers.registry import READERS, layout_of
from mtlue_cli.tasks.wording import counted, listed

METADATA_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Label files as the ImageFolder of Hugging Face's ``datasets`` has them."""

LABEL_NAMES = ("labels.csv", *METADATA_NAMES)
"""Label files that are found beside the images."""


def find_labels(folder: Path, wanted: LabelFormat | None = None, names: Sequence[str] = ()) -> Path:
    """The label file beside the images; the folder itself where the labels are in its names.

    Args:
        folder: Image folder.
        wanted: Format that the user names, or None.
        names: Names that the label file may have beside the usual ones, the first that is there counts.

    Raises:
        InputError: There are none, more than one, or it is not clear what the names of folders mean.
    """
    if wanted is not None and READERS[wanted].reads_names:
        return folder
    own = next((folder / name for name in names if (folder / name).is_file()), None)
    if own is not None:
        return own
    found = [folder / name for name in LABEL_NAMES if (folder / name).is_file()]
    if len(found) == 1 or (found and found[0].name == LABEL_NAMES[0] and (folder / RECORDS).exists()):
        return found[0]
    if found:
        several = ", ".join(path.name for path in found)
        raise InputError(f"{folder} holds several label files: {several}", hint="name one of them with --labels")
    files = list_folder(folder)
    images = files.images
    if wanted is None and layout_of(images) is not None:
        return folder
    shards = shards_among(folder, files)
    if wanted is None and shards is not None and not images:
        return folder
    nested = sorted(path.relative_to(folder).as_posix() for name in LABEL_NAMES for path in folder.glob(f"*/{name}"))
    if nested:
        raise InputError(
            f"no labels: {folder} itself holds no label file, folders in it do: {', '.join(nested[:5])}",
            hint=f"give one of these folders, such as {folder / nested[0].split('/')[0]}, or name a file with --labels",
        )
    _refuse_hidden_shards(folder, files, shards)
    beside = next((path for path in sorted(folder.glob("labels.*")) if path.is_file()), None)
    none = f"no labels: --labels is not given, and {folder} holds none of {', '.join((*names, *LABEL_NAMES))}"
    unclear = doubt(images) if wanted is None and beside is None and any("/" in name for name in images) else None
    if unclear is not None:
        raise InputError(f"{none}; its folders are not taken for classes: {unclear[0]}", hint=unclear[1])
    layouts = "|".join(reader.name for reader in READERS.values() if reader.reads_names)
    named = "" if beside else f", or --label-format {layouts} if the labels are in the names of files or folders"
    raise InputError(none, hint=f"give --labels {beside or 'FILE'}{named}")


def _refuse_hidden_shards(folder: Path, files: FolderFiles, shards: Shards | None) -> None:
    """Say why shards of a folder are not read, if there are any."""
    if shards is not None and files.images:
        raise InputError(
            f"{folder} holds {shards.kind.title} ({listed(list(shards.names))}), and images as files "
            f"({listed(files.images)}): not clear which are meant",
            hint="move either of them out of the folder",
        )
    if shards is None and not files.images:
        packed = next((name for name in files.others if name.endswith((".parquet", ".tar"))), None)
        pressed = next((name for name in files.others if name.endswith((".tar.gz", ".tgz"))), None)
        if packed is not None:
            raise InputError(
                f"{folder} holds no images, and {packed} has no image column or image members",
                hint="an image column of Parquet is a struct of bytes and path, or bytes in a column called image",
            )
        if pressed is not None:
            raise InputError(
                f"{folder} holds no images, and {pressed} is compressed",
                hint=f"decompress the shards first: gunzip {folder / pressed}",
            )


def described(labels: Path, wanted: LabelFormat | None = None) -> str:
    """What :func:`find_labels` found, in a line."""
    if not labels.is_dir():
        return f"labels: {labels}"
    shards = find_shards(labels) if wanted is None else None
    if shards is not None:
        return f"labels: columns of {counted(len(shards.names), 'shard')} in {labels} ({shards.kind.title})"
    reader = READERS[wanted] if wanted is not None else layout_of(find_images(labels))
    assert reader is not None, "found by its names"
    return f"labels: {reader.title} in {labels} (--label-format {reader.name.value})"
