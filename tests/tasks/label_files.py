"""Label files for tests, and what is understood of them."""

from pathlib import Path
from typing import Any

import pytest

from mtlue_cli.errors import InputError
from mtlue_cli.tasks.label_options import LabelOptions
from mtlue_cli.tasks.labels import LabelFile, read_label_file

DOCUMENT = (Path(__file__).parents[2] / "docs" / "labels.md").read_text(encoding="utf-8")


def write(folder: Path, text: str, name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def faults_of(path: Path, **options: Any) -> str:  # noqa: ANN401 - any field of the options
    """What is said of a label file that is to be learned from."""
    with pytest.raises(InputError) as caught:
        read_label_file(path, LabelOptions(**options))
    return "\n".join((str(caught.value), *caught.value.faults))


def cells_of(labels: LabelFile) -> dict[str, dict[str, str | None]]:
    """Class of each task of each file."""
    table = labels.table
    return {
        name: {task: table.class_name(task, row) for task in table.tasks.names}
        for row, name in enumerate(table.file_names)
    }
