"""The commands as functions."""

import ast
import inspect as signatures
import json
import os
import threading
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pyarrow
import pyarrow.csv
import pytest
import torch
from nbclient import NotebookClient
from PIL import Image
from typer.testing import CliRunner

import mtlue_cli as mtlue
from mtlue_cli import api
from mtlue_cli.budget import DEFAULT, Budget, budget, limited_to
from mtlue_cli.choices import ImageFormat, Tier
from mtlue_cli.commands.app import app
from mtlue_cli.images.synthetic import draw_set
from mtlue_cli.notebook import html_table
from tests.small_set import TASKS, write_checkpoint, write_images

pytestmark = pytest.mark.usefixtures("tiny_small")

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_images(tmp_path / "photos")
    write_checkpoint(tmp_path / "weights.safetensors")
    return tmp_path / "photos"


def protected(photos: Path, **options: Any) -> Any:  # noqa: ANN401 - arguments of protect
    given: dict[str, Any] = {"weights": photos.parent / "weights.safetensors", "workers": 2}
    return mtlue.protect(photos, **given | options)


def table_of(photos: Path) -> dict[str, list[str | None]]:
    rows = [line.split(",") for line in (photos / "labels.csv").read_text().split()]
    return {name: [row[at] or None for row in rows[1:]] for at, name in enumerate(rows[0])}


def test_a_release_is_that_of_the_command_line(photos: Path, tmp_path: Path) -> None:
    result = protected(photos, labels=str(photos / "labels.csv"), out=str(tmp_path / "release"), epsilon=np.int64(8))
    assert result.protected == 7
    words = ["protect", str(photos), "-l", str(photos / "labels.csv"), "-w", str(tmp_path / "weights.safetensors")]
    assert CliRunner().invoke(app, [*words, "-o", str(tmp_path / "again"), "-q"]).exit_code == 0
    for name in ("labels.csv", *(record.file_name for record in mtlue.Release(result.release).manifest.files)):
        assert (result.release / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    check = mtlue.Release(result.release).check(against=photos)
    assert not check.faults
    assert check.measured == 7


@pytest.mark.parametrize("kind", ["dict", "arrow", "frame"])
def test_labels_may_be_a_table(kind: str, photos: Path, tmp_path: Path) -> None:
    columns: Any = table_of(photos)
    if kind == "arrow":
        columns = pyarrow.table(columns)
    if kind == "frame":
        columns = pytest.importorskip("pandas").DataFrame(columns)
    result = protected(photos, labels=columns, out=tmp_path / "release")
    from_file = protected(photos, labels=photos / "labels.csv", out=tmp_path / "again")
    assert (result.tasks, result.protected) == (TASKS.names, 7)
    assert (result.release / "labels.csv").read_bytes() == (from_file.release / "labels.csv").read_bytes()


def test_paths_of_maps_in_a_table_lead_from_the_images(photos: Path, tmp_path: Path) -> None:
    table = table_of(photos)
    (photos / "masks").mkdir()
    table["mask"] = []
    for index, name in enumerate(table["file_name"]):
        with Image.open(photos / str(name)) as image:
            mask = np.zeros((image.height, image.width), np.uint8)
        mask[: 3 + index] = 1
        Image.fromarray(mask).save(photos / "masks" / f"{index}.png")
        table["mask"].append(f"masks/{index}.png")
    result = protected(photos, labels=table, out=tmp_path / "release", tasks=["colour"])
    assert result.maps == 7
    assert (result.release / "masks" / "3.png").read_bytes() == (photos / "masks" / "3.png").read_bytes()


def test_what_is_no_table_is_refused(photos: Path) -> None:
    with pytest.raises(mtlue.InputError, match="labels is a int, expected a path, a mapping"):
        protected(photos, labels=3)
    with pytest.raises(mtlue.InputError, match="labels cannot be read as a table"):
        protected(photos, labels={"file_name": ["a.png"], "colour": ["red", "green"]})
    with pytest.raises(mtlue.InputError, match=r"^labels: no file column") as caught:
        protected(photos, labels={"name": ["photo1.png"], "colour": ["red"]})
    assert caught.value.hint == "use file_column name"  # the only other column, and it names files


def test_an_unknown_argument_is_a_type_error_that_names_the_nearest(photos: Path) -> None:
    with pytest.raises(TypeError, match=r"protect\(\) .* argument 'epsilom'; did you mean 'epsilon'"):
        protected(photos, epsilom=8)
    with pytest.raises(TypeError, match="'split'"):
        mtlue.verify(photos, split="val")


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (
            {"epsilon": 0.03},
            "epsilon is 0.03, expected an integer number of 255ths: 0.03 is about 8/255, write epsilon=8",
        ),
        ({"epsilon": 65}, "epsilon is 65, expected 1 to 64"),
        ({"image_format": "bmp"}, "image_format is 'bmp', expected one of png, webp, jxl, keep"),
        ({"overwrite": 1}, "overwrite is 1, expected True or False"),
        ({"split_file": "missing.txt"}, "split_file: missing.txt does not exist"),
        ({"out": 3}, "out is 3, expected a path"),
        ({"quick": True}, "weights and quick=True "),
        ({"tasks": ["colour"], "exclude": "round"}, "tasks and exclude "),
    ],
)
def test_errors_speak_of_arguments(options: dict[str, Any], fault: str, photos: Path) -> None:
    with pytest.raises(mtlue.InputError) as caught:
        protected(photos, labels=photos / "labels.csv", **options)
    assert [found[: len(fault)] for found in caught.value.faults] == [fault]
    assert f"  {fault}" in "".join(traceback.format_exception(caught.value))
    assert "--" not in str(caught.value)


def test_options_in_a_message_become_arguments_and_command_lines_stay() -> None:
    text = "--format png or --overwrite, --epsilon 8, --no-control, a--b: mtlue protect x --format png"
    assert api.PROTECT.worded(text) == (
        'image_format="png" or overwrite=True, epsilon=8, --no-control, a--b: mtlue protect x --format png'
    )
    assert api.VERIFY.worded("--no-control, --probes") == "control=False, probes=True"


@pytest.mark.parametrize(
    ("function", "arguments"),
    [(mtlue.protect, api.PROTECT), (mtlue.train_generator, api.TRAIN), (mtlue.verify, api.VERIFY)],
)
def test_the_signature_lists_every_argument(function: Any, arguments: api.Arguments) -> None:  # noqa: ANN401
    listed = signatures.signature(function).parameters
    assert set(listed) == {*arguments.fields, "progress"}
    assert listed["workers"].kind is signatures.Parameter.KEYWORD_ONLY


def test_values_become_what_the_fields_hold() -> None:
    given = {"tasks": ["a", "b"], "bins": "age=2,9", "missing_values": ["NA "], "image_format": "webp", "batch_size": 4}
    values = api.PROTECT.values(given)
    assert values["tasks"] == ("a", "b")
    assert [str(bins) for bins in values["bins"]] == ["age=2,9"]
    assert values["missing_values"] == ("NA",)
    assert values["image_format"] is ImageFormat.WEBP
    assert values["batch_size"] == 4
    binned = {"tasks": "a, b", "bins": values["bins"]}
    assert api.PROTECT.values(binned) == {"tasks": ("a", "b"), "bins": values["bins"]}
    asked = api.VERIFY.values({"tier": "smoke", "fractions": 0.5, "seed": None})
    assert asked == {"tier": Tier.SMOKE, "fractions": (0.5,)}


def test_a_value_that_no_text_stands_for_is_a_type_error_that_names_the_argument(photos: Path) -> None:
    assert api.PROTECT.values({"missing_values": -1})["missing_values"] == ("-1",)
    assert api.VERIFY.values({"gradual": [1, 0.5, 0]})["gradual"] == (1.0, 0.5, 0.0)
    for name, value in (("declarations", {"mask": "segmentation"}), ("bins", {"age": [2, 9]}), ("tasks", np.ones(2))):
        with pytest.raises((TypeError, mtlue.InputError), match=name):
            protected(photos, **{name: value})


@pytest.mark.parametrize("arguments", [api.PROTECT, api.TRAIN, api.VERIFY])
def test_every_flag_has_its_argument(arguments: api.Arguments) -> None:
    for name, found in arguments.fields.items():
        if found.option.flags:
            assert arguments.worded(found.option.flag).startswith(name)


def test_two_calls_at_once_give_what_they_give_alone(photos: Path, tmp_path: Path) -> None:
    limit = 27 * 24  # four of the photos: each is a row higher than the one before
    before = torch.get_num_threads(), Image.MAX_IMAGE_PIXELS, os.fstat(2), warnings.filters[:]
    gate = threading.Barrier(2)

    def call(name: str, most: int, together: bool) -> tuple[int, list[str], list[bytes]]:
        if together:
            gate.wait()
        result = protected(photos, labels=photos / "labels.csv", out=tmp_path / name, max_pixels=most)
        files = sorted(path for path in result.release.rglob("*.png"))
        return result.protected, [record.reason for record in result.quarantine], [path.read_bytes() for path in files]

    alone = [call("few", limit, False), call("all", 10**6, False)]
    assert [found[0] for found in alone] == [4, 7]
    assert f"the limit is {limit:,}; set another one with max_pixels" in alone[0][1][0]
    for attempt in range(3):
        with ThreadPoolExecutor(2) as pool:
            both = [pool.submit(call, f"few{attempt}", limit, True), pool.submit(call, f"all{attempt}", 10**6, True)]
        assert [found.result() for found in both] == alone
    assert (torch.get_num_threads(), Image.MAX_IMAGE_PIXELS, os.fstat(2), warnings.filters) == before
    thread = ThreadPoolExecutor(1)
    assert thread.submit(torch.get_num_threads).result() == before[0]
    thread.shutdown()


def test_a_limit_holds_for_the_calling_thread_alone() -> None:
    with limited_to(Budget(5)), ThreadPoolExecutor(1) as other:
        assert budget() == Budget(max_pixels=5)
        assert other.submit(budget).result() == DEFAULT
    assert budget() == DEFAULT == Budget()


def test_nothing_is_printed_unless_asked(photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    protected(photos, labels=photos / "labels.csv", out=tmp_path / "release")
    assert capfd.readouterr() == ("", "")
    protected(photos, labels=photos / "labels.csv", out=tmp_path / "other", progress=True)
    assert "protecting" in capfd.readouterr().err


def test_train_verify_and_inspect(tmp_path: Path) -> None:
    labels = draw_set(tmp_path / "photos", 40, size=32)
    weights, release = tmp_path / "made.safetensors", tmp_path / "release"
    trained = mtlue.train_generator(labels.parent, labels=labels, out=weights, objective="em", epochs=1, size=32)
    assert trained.to_json()["steps"] == trained.steps > 0
    assert "made.safetensors" in trained._repr_html_()
    looked_at: Any = mtlue.inspect(weights)
    assert looked_at.card.digest == trained.card.digest
    assert trained.card.digest in looked_at._repr_html_()
    mtlue.protect(labels.parent, labels=labels, weights="default", key=written_key(tmp_path), out=release)
    assert "--" not in mtlue.Release(release).check()._repr_html_()
    found: Any = mtlue.inspect(release, against=labels.parent)
    assert found.exit_code == 0
    assert found.flip is not None
    small: Any = {"backbones": "small", "epochs": 1, "size": 32, "control": False, "probes": False}
    table = pyarrow.csv.read_csv(labels)
    verification = mtlue.verify(labels.parent, labels=table, protected=release, **small)
    assert verification.to_json()["settings"]["labels"] == "labels"
    assert verification.command_line.startswith("verify('")
    assert verification.command_line.endswith(", labels=labels)")
    assert verification.verdict.value in verification._repr_html_()
    for name, start in {"r.html": "<!doctype html>", "r.md": "#", "r.xml": "<?xml", "r.json": "{"}.items():
        verification.save(tmp_path / name)
        assert (tmp_path / name).read_text().lower().startswith(start)
    assert json.loads((tmp_path / "r.json").read_text())["digest"] == verification.to_json()["digest"]
    with pytest.raises(mtlue.InputError, match=r"a report ends in \.html, \.md, \.xml, \.json"):
        verification.save(tmp_path / "r.pdf")
    with pytest.raises(mtlue.InputError, match="give exactly one of protected and weights"):
        mtlue.verify(labels.parent, labels=labels)


def test_html_is_escaped() -> None:
    shown = html_table("<a>", {"<b>": "<c>", "none": None, "empty": (), "zero": 0, "several": ("x", 0.123456)})
    assert "<c>" not in shown
    assert "&lt;a&gt;" in shown
    assert "&lt;b&gt;" in shown
    assert "none" not in shown
    assert "empty" not in shown
    assert ">0<" in shown
    assert "x, 0.1235" in shown


def written_key(folder: Path) -> Path:
    (folder / "my.key").write_text("5ee5" * 16)
    (folder / "my.key").chmod(0o600)
    return folder / "my.key"


def test_every_example_of_the_document_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    draw_set(Path("photos"), 60, size=64)
    written_key(tmp_path)
    names: dict[str, Any] = {}
    for block in (DOCS / "python.md").read_text(encoding="utf-8").split("```python\n")[1:]:
        exec(block.split("```")[0], names)
    assert not names["check"].faults
    assert (tmp_path / "report.html").is_file()
    assert "write epsilon=8" in capsys.readouterr().out


def test_the_arguments_that_the_document_names_are_there() -> None:
    document = (DOCS / "python.md").read_text(encoding="utf-8")
    table = document.split("| option | argument |\n|---|---|\n")[1].split("\n\n")[0]
    flags = {
        flag: name
        for arguments in (api.PROTECT, api.TRAIN, api.VERIFY)
        for name, found in arguments.fields.items()
        for flag in found.option.flags.split(" ")[0].split("/")
        if flag
    }
    for line in table.splitlines():
        options, arguments = (cell.replace("`", "").split(", ") for cell in line.strip("| ").split(" | "))
        for option, argument in zip(options, arguments, strict=True):
            assert flags[option] == argument.split("=")[0]
    documented = table.replace("`", "")
    renamed = [flag for flag, name in flags.items() if flag[2:].replace("-", "_") not in (name, f"no_{name}")]
    assert [flag for flag in renamed if flag not in documented] == []


@pytest.fixture
def notebook() -> Any:  # noqa: ANN401 - nbformat has no types
    return nbformat.reads((DOCS / "python.ipynb").read_text(encoding="utf-8"), 4)  # type: ignore[no-untyped-call]  # its own


def test_the_cells_of_the_notebook_run(
    notebook: Any,  # noqa: ANN401 - nbformat has no types
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    shown = ""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            tree = ast.parse(cell.source)
            last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, "cell", "exec"), names)
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
                shown += getattr(value, "_repr_html_", lambda: "")()
    assert "Protected images" in shown
    assert "Verification of release release" in shown
    assert "write epsilon=8" in capsys.readouterr().out


@pytest.mark.slow
def test_the_notebook_runs_in_a_kernel(
    notebook: Any,  # noqa: ANN401 - nbformat has no types
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(DOCS.parent))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the kernel's own libraries
        resources = {"metadata": {"path": str(tmp_path)}}
        NotebookClient(notebook, timeout=600, startup_timeout=600, resources=resources).execute()
    shown = json.dumps(notebook)
    assert "Protected images" in shown
    assert "Verification of release release" in shown
    assert "write epsilon=8" in shown
