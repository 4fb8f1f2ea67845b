"""Images inside shards: Parquet of ``datasets``, tar files of ``webdataset``; loaded again by these two."""

import base64
import gc
import gzip
import io
import json
import os
import tarfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import webdataset
from datasets import ClassLabel, Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image
from pyarrow import parquet

from mtlue_cli import api
from mtlue_cli.choices import ExitCode, LabelFormat
from mtlue_cli.errors import InputError
from mtlue_cli.files import file_digest
from mtlue_cli.keys import find_key, own_key_path
from mtlue_cli.layouts.find import find_labels
from mtlue_cli.layouts.parquet_images import PARQUET_IMAGES
from mtlue_cli.layouts.shards import ShardRow, find_shards
from mtlue_cli.layouts.webdataset import WEBDATASET
from mtlue_cli.release.check import ReleaseCheck
from mtlue_cli.release.packed import unpack
from mtlue_cli.release.records import FOLDER, RUN_PATH, SHARDS_NAME, read_manifest
from mtlue_cli.release.seal import SEAL_PATH, Sealer
from mtlue_cli.workflows.inspect import inspect_path
from mtlue_cli.workflows.progress import SilentProgress
from tests.layouts.sample import draw, encoded, hub_rows, mtlue, photo, protect, weights_for

pytestmark = pytest.mark.usefixtures("tiny_small")

FEATURES = Features(
    {
        "image": ImageFeature(),
        "label": ClassLabel(names=["cat", "dog"]),
        "round": Value("int8"),
        "boxes": [Value("float32")],
    }
)
AS_TEXT = base64.b64encode(encoded(1))
CARD = """---
dataset_info:
  splits:
  - name: train
    num_bytes: 1
    num_examples: 7
---
# Pets
"""


def pets(start: int, count: int, broken: int | None = None) -> Dataset:
    rows = range(start, start + count)
    images = [{"bytes": b"" if row == broken else encoded(row, "JPEG"), "path": f"{row}.jpg"} for row in rows]
    columns = {
        "image": images,
        "label": [-1 if row == 1 else row % 2 for row in rows],
        "round": [None if row == 2 else row % 3 % 2 for row in rows],
        "boxes": [[row / 4] * (row % 3) for row in rows],
    }
    return Dataset.from_dict(columns, features=FEATURES)


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A data set as it lies on the Hub: two shards, the first in two row groups, and a card."""
    folder = tmp_path / "pets"
    (folder / "data").mkdir(parents=True)
    for number, (start, count) in enumerate(((0, 4), (4, 3))):
        pets(start, count).to_parquet(folder / "data" / f"train-0000{number}-of-00002.parquet", batch_size=2)
    (folder / "README.md").write_text(CARD)
    return folder


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return weights_for(tmp_path, label=("cat", "dog"), round=("0", "1"))


def groups(path: Path) -> list[int]:
    found = parquet.ParquetFile(path).metadata
    return [found.row_group(number).num_rows for number in range(found.num_row_groups)]


def rows_of(found: Dataset) -> list[dict[str, Any]]:
    plain = found.cast_column("image", ImageFeature(decode=False))
    return [{name: value for name, value in row.items() if name != "image"} for row in plain]


def test_datasets_loads_a_release_in_parquet(hub: Path, tmp_path: Path, weights: Path) -> None:
    release, said = protect(hub, weights, "--json", tmp_path / "result.json")
    assert f"labels: columns of 2 shards in {hub} (Parquet files with images)" in said
    assert "copied unchanged and not protected (lists and objects): 'boxes'" in said
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["release"], result["protected"], result["tasks"]) == (str(release), 7, ["label", "round"])
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["pets", "pets-protected"]
    names = sorted(path.relative_to(release).as_posix() for path in release.rglob("*") if path.is_file())
    shards = [f"data/train-0000{number}-of-00002.parquet" for number in range(2)]
    assert [name for name in names if not name.startswith(FOLDER)] == ["README.md", *shards]
    for name in shards:
        assert groups(release / name) == groups(hub / name)
        assert parquet.read_schema(release / name).equals(parquet.read_schema(hub / name), check_metadata=True)
    assert (release / "README.md").read_text() == CARD
    for by_folder in (False, True):
        loaded = [
            hub_rows(str(folder), tmp_path / f"cache-{folder.name}")
            if by_folder
            else hub_rows("parquet", tmp_path / "cache", data_files=[str(folder / name) for name in shards])
            for folder in (hub, release)
        ]
        assert loaded[0].features == loaded[1].features == FEATURES
        assert rows_of(loaded[0]) == rows_of(loaded[1])
        for row in range(7):
            change = np.asarray(loaded[0][row]["image"], int) - np.asarray(loaded[1][row]["image"], int)
            assert 0 < np.abs(change).max() <= 8
        files = loaded[1].cast_column("image", ImageFeature(decode=False))["image"]
        assert [file["path"] for file in files] == [f"{row}.png" for row in range(7)]


def test_a_release_in_shards_is_inspected_and_resumed(hub: Path, weights: Path) -> None:
    release, _ = protect(hub, weights)
    mtlue("inspect", release)
    result = mtlue("inspect", release, "--against", hub)
    assert "measured on 7 files" in " ".join(result.stdout.split())
    again = mtlue("protect", hub, "--weights", weights, "--device", "cpu")
    assert "0 protected, 7 already done" in again.stdout
    twice = mtlue("protect", release, "--weights", weights, code=ExitCode.INPUT)
    assert "is a release: its images are protected already" in twice.stderr
    other = mtlue("protect", hub, "--weights", weights, "--epsilon", "4", code=ExitCode.INPUT)
    assert "mtlue-work" not in other.stderr
    unfit = mtlue("protect", hub, "--weights", "utkface", "--out", hub.with_name("out"), code=ExitCode.INPUT)
    assert f"mtlue train-generator {hub} --out weights.safetensors" in unfit.stderr
    assert not hub.with_name(".out.mtlue-work").exists()
    assert f"{release} was made with other settings" in " ".join(other.stderr.split())
    shard = release / "data" / "train-00001-of-00002.parquet"
    parquet.write_table(parquet.read_table(shard).slice(1), shard)
    (release / "stranger.png").write_bytes(encoded(1))
    found = mtlue("inspect", release, code=ExitCode.NOT_PROTECTED).stderr
    assert "its bytes are not those that the run wrote" in found
    assert "holds 2 rows, 3 are recorded" in found
    assert "stranger.png: not in the records" in found
    (release / FOLDER / SHARDS_NAME).write_text('{"kind": ".parquet", "shards": {"../x.parquet": null}, "cards": []}')
    assert "is damaged" in mtlue("inspect", release, code=ExitCode.INPUT).stderr


def test_shards_of_others_and_links_in_a_release_are_refused(hub: Path, tmp_path: Path, weights: Path) -> None:
    release, _ = protect(hub, weights)
    shard = next(iter(sorted(release.rglob("*.parquet"))))
    stranger = shard.with_name("stranger.parquet")
    stranger.write_bytes(shard.read_bytes())
    _, said = protect(hub, weights, code=ExitCode.INPUT)
    assert "stranger.parquet" in said
    stranger.unlink()
    inside = release / weights.name
    inside.write_bytes(weights.read_bytes())
    _, said = protect(hub, inside, code=ExitCode.INPUT)
    assert "the file of weights" in " ".join(said.split())
    inside.unlink()
    original = tmp_path / "elsewhere.parquet"
    shard.rename(original)
    shard.symlink_to(original)
    content = original.read_bytes()
    _, said = protect(hub, weights, "--overwrite", code=ExitCode.INPUT)
    assert "(a link)" in said
    assert original.read_bytes() == content


def test_rows_that_cannot_be_protected_are_not_in_the_shard(tmp_path: Path, weights: Path) -> None:
    folder = tmp_path / "pets"
    folder.mkdir()
    pets(0, 4, broken=3).to_parquet(folder / "train.parquet", batch_size=2)
    (folder / "README.md").write_text(CARD.replace("7", "4"))
    release, said = protect(folder, weights, "--format", "keep", code=ExitCode.QUARANTINE)
    assert "train/00000003.png: " in said
    kept = parquet.read_table(release / "train.parquet")
    assert kept.column("round").to_pylist() == [0, 1, None]
    assert [cell["path"] for cell in kept.column("image").to_pylist()] == ["0.jpg", "1.jpg", "2.jpg"]
    assert [record.source for record in read_manifest(release).quarantine] == ["train/00000003.png"]
    mtlue("inspect", release)
    assert "num_examples: 3\n" in (release / "README.md").read_text()
    assert len(hub_rows(str(release), tmp_path / "cache")) == 3


def test_verify_and_training_read_shards(hub: Path, tmp_path: Path, weights: Path) -> None:
    release, _ = protect(hub, weights)
    words: tuple[str | Path, ...] = ("--protected", release, "--tier", "smoke", "--size", "16", "--epochs", "1")
    words = (*words, "--no-cache", "--no-control", "--test-fraction", "0.4")
    result = mtlue("verify", hub, *words, "--device", "cpu", "--json", tmp_path / "v.json", code=ExitCode.INCONCLUSIVE)
    document = json.loads((tmp_path / "v.json").read_text())
    assert (document["audit"]["files"], document["audit"]["faults"]) == (7, []), result.stderr
    out = tmp_path / "own.safetensors"
    words = ("--out", out, "--objective", "em", "--epochs", "1", "--size", "16", "--surrogate", "small")
    result = mtlue("train-generator", hub, *words, "--device", "cpu", "--tasks", "label")
    assert f"next: mtlue protect {hub} --weights {out}" in result.stderr


def test_the_python_function_takes_shards(hub: Path, tmp_path: Path, weights: Path) -> None:
    result = api.protect(hub, weights=str(weights), device="cpu", out=tmp_path / "out")
    assert (result.protected, result.release) == (7, tmp_path / "out")
    small: dict[str, Any] = {"size": 16, "epochs": 1, "device": "cpu"}
    judged = api.verify(hub, protected=tmp_path / "out", control=False, tier="smoke", test_fraction=0.4, **small)
    assert judged.audit is not None
    assert judged.audit.files == 7
    trained = api.train_generator(hub, out=tmp_path / "own.safetensors", objective="em", tasks=["label"], **small)
    assert trained.card.tasks.names == ("label",)


def test_an_interrupted_run_leaves_whole_shards_and_is_finished_later(
    hub: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mtlue_cli.layouts.shards import Shards

    before, calls = Shards.pack, []

    def stop(self: Shards, *words: Any) -> Path:  # noqa: ANN401 - whatever pack takes
        calls.append(words)
        if len(calls) == 2:
            raise OSError(28, "No space left on device", "train-00001")
        return before(self, *words)

    monkeypatch.setattr(Shards, "pack", stop)
    release, said = protect(hub, weights, code=ExitCode.UNEXPECTED)
    assert "make space and run the same command again" in " ".join(said.split())
    assert [path.name for path in (release / "data").iterdir()] == ["train-00000-of-00002.parquet"]
    assert "is unfinished" in mtlue("inspect", release, code=ExitCode.INPUT).stderr
    monkeypatch.setattr(Shards, "pack", before)
    again = mtlue("protect", hub, "--weights", weights, "--device", "cpu")
    assert "0 protected, 7 already done" in again.stdout
    mtlue("inspect", release, "--against", hub)


def test_what_a_killed_run_leaves_is_removed_by_the_next(hub: Path, weights: Path) -> None:
    release = hub.with_name("pets-protected")
    (release / FOLDER).mkdir(parents=True)
    (release / FOLDER / ".shards.json.0a1b.17.tmp").write_bytes(b"{")
    protect(hub, weights)
    half = release / "data" / ".train-00000-of-00002.parquet.0a1b.17.tmp"
    half.write_bytes(b"PAR1")
    protect(hub, weights)
    assert not half.exists()
    assert not list((release / FOLDER).glob("*.tmp"))
    mtlue("inspect", release)


def test_a_shard_that_changes_during_the_run_is_not_released(
    hub: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mtlue_cli.layouts.shards import Shards

    before = Shards.pack

    def changed(self: Shards, *words: Any) -> Path:  # noqa: ANN401 - whatever pack takes
        pets(40, 5).to_parquet(self.folder / self.names[0])
        return before(self, *words)

    monkeypatch.setattr(Shards, "pack", changed)
    release, said = protect(hub, weights, code=ExitCode.UNEXPECTED)
    assert "has changed while its images were protected" in " ".join(said.split())
    assert not list(release.rglob("*.parquet"))


def test_an_interrupted_replacement_does_not_decide_for_the_release(hub: Path, weights: Path) -> None:
    release, _ = protect(hub, weights)
    work = hub.with_name(".pets-protected.mtlue-work") / "release"
    api.protect(hub, weights=str(weights), device="cpu", epsilon=4, out=hub.with_name("other"))
    work.mkdir(parents=True)
    unpack(hub.with_name("other"), work)
    said = mtlue("protect", hub, "--weights", weights, "--device", "cpu").stdout
    assert "0 protected, 7 already done" in said
    assert read_manifest(release).run.epsilon == 8
    _, refused = protect(hub, weights, "--epsilon", "4", code=ExitCode.INPUT)
    assert "the release has 8/255, this run 4/255" in " ".join(refused.split())
    assert not work.exists()


def test_a_release_in_shards_is_not_mixed_with_one_of_files(hub: Path, tmp_path: Path, weights: Path) -> None:
    release, _ = protect(hub, weights)
    draw(tmp_path / "photos", "a.png", "b.png")
    (tmp_path / "photos" / "labels.csv").write_text("file_name,label,round\na.png,cat,0\nb.png,dog,1\n")
    before = sorted(release.rglob("*"))
    for more in ((), ("--overwrite",)):
        _, said = protect(tmp_path / "photos", weights, "--out", release, *more, code=ExitCode.INPUT)
        assert "holds a release in shards" in " ".join(said.split())
    assert sorted(release.rglob("*")) == before


@pytest.mark.parametrize("name", ["README.md", "data/train-00000-of-00002.parquet"])
def test_links_out_of_the_data_set_are_refused(hub: Path, tmp_path: Path, weights: Path, name: str) -> None:
    (hub / name).rename(tmp_path / "private")
    (hub / name).symlink_to(tmp_path / "private")
    release, said = protect(hub, weights, code=ExitCode.INPUT)
    assert "leaves the image folder by a symbolic link" in " ".join(said.split())
    assert not release.exists()


def test_a_release_is_unpacked_row_by_row(
    hub: Path, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, _ = protect(hub, weights)
    plain, written = tmp_path / "plain", []

    def watched(path: Path) -> Iterator[ShardRow]:
        for row in PARQUET_IMAGES.read(path):
            written.append(len(list(plain.rglob("*.png"))))
            yield row

    monkeypatch.setattr("mtlue_cli.release.packed.shard_kinds", lambda: (replace(PARQUET_IMAGES, read=watched),))
    assert unpack(release, plain) == []
    assert written == list(range(7))


def test_shards_are_no_label_file_of_a_named_format(hub: Path) -> None:
    with pytest.raises(InputError, match="no labels: --labels is not given"):
        find_labels(hub, LabelFormat.CSV)


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.uname, info.mtime = len(content), "somebody", 1000
    archive.addfile(info, io.BytesIO(content))


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    for shard in range(2):
        with tarfile.open(folder / f"pets-{shard:06d}.tar", "w") as archive:
            for row in range(shard * 3, shard * 3 + 3):
                key = f"deep/{'x' * 120}{row}" if row == 0 else f"s{row}"
                add(archive, f"{key}.json", json.dumps({"round": row % 2, "tags": [row]}).encode())
                add(archive, f"{key}.jpg", encoded(row, "JPEG"))
                add(archive, f"{key}.cls", str(row % 2).encode())
                add(archive, f"{key}.seg.png", encoded(row + 50))
    return folder


def samples(path: Path) -> list[dict[str, Any]]:
    with warnings.catch_warnings():  # it leaves files open
        warnings.simplefilter("ignore", ResourceWarning)
        found = list(webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False))
        gc.collect()
    return found


@pytest.mark.parametrize("form", ["png", "keep"])
def test_webdataset_loads_a_release_in_tar_files(tars: Path, tmp_path: Path, form: str) -> None:
    weights = weights_for(tmp_path, cls=("0", "1"), round=("0", "1"))
    release, said = protect(tars, weights, "--format", form)
    assert f"labels: columns of 2 shards in {tars} (tar files of WebDataset)" in said
    assert "members of other kinds are not in the release: 'seg.png'" in said
    ending = "jpg" if form == "keep" else "png"
    for path in sorted(tars.glob("*.tar")):
        pairs = list(zip(samples(path), samples(release / path.name), strict=True))
        assert len(pairs) == 3
        for before, after in pairs:
            for name in ("__key__", "json", "cls"):
                assert before[name] == after[name]
            assert "seg.png" not in after
            pictures = [np.asarray(Image.open(io.BytesIO(one)), int) for one in (before["jpg"], after[ending])]
            change = np.abs(pictures[0] - pictures[1])
            assert 0 < change.max() <= (8 if form == "png" else 255)
        with tarfile.open(release / path.name) as archive:
            assert {(info.mtime, info.uname) for info in archive} == {(1000, "")}
    mtlue("inspect", release, "--against", tars)


def test_samples_that_are_not_clear_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    with tarfile.open(folder / "a.tar", "w") as archive:
        add(archive, "1.jpg", encoded(1, "JPEG"))
        add(archive, "2.jpg", encoded(2, "JPEG"))
        add(archive, "2.png", encoded(3))
    found = find_shards(folder)
    assert found is not None
    with pytest.raises(InputError, match="'2' has several images"):
        found.unpack(tmp_path / "images", tmp_path / "labels.jsonl")
    with tarfile.open(folder / "a.tar", "w") as archive:
        link = tarfile.TarInfo("1.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        add(archive, "0.jpg", encoded(1, "JPEG"))
        archive.addfile(link)
    with pytest.raises(InputError, match="is a link or a device"):
        found.unpack(tmp_path / "images", tmp_path / "labels.jsonl")


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ((("1.jpg", encoded(1)), ("1.png", encoded(2))), "'1' has several images"),
        ((("1.jpg", encoded(1)), ("1.jpg", encoded(2))), "'1' has several images"),
        ((("1.left.jpg", encoded(1)), ("1.right.jpg", encoded(2))), "has no image of its own name, but 'left.jpg'"),
        ((("1.jpg", encoded(1)), ("1.txt", b"to see " + AS_TEXT)), "'1.txt' holds images"),
        ((("1.jpg", encoded(1)), ("1.json", json.dumps(list(encoded(1))).encode())), "'1.json' holds images"),
        ((("1.jpg", encoded(1)), ("1.json", b'{"a": [{"b": "' + AS_TEXT + b'"}]}')), "'1.json' holds images"),
    ],
)
def test_a_shard_that_is_not_clear_is_not_passed_over(
    tars: Path, weights: Path, members: tuple[tuple[str, bytes], ...], fault: str
) -> None:
    with tarfile.open(tars / "odd.tar", "w") as archive:
        for number in range(9):
            add(archive, f"0{number}.json", b"{}")
        for name, content in members:
            add(archive, name, content)
    _, said = protect(tars, weights, code=ExitCode.INPUT)
    assert fault in " ".join(said.split())
    (tars / "odd.tar").write_bytes(b"no tar file" * 100)
    _, said = protect(tars, weights, code=ExitCode.INPUT)
    assert "cannot be read as a tar file" in " ".join(said.split())


def test_compressed_tar_files_are_named(tars: Path, tmp_path: Path) -> None:
    weights = weights_for(tmp_path, cls=("0", "1"), round=("0", "1"))
    packed = gzip.compress((tars / "pets-000001.tar").read_bytes())
    (tars / "pets-000001.tar").rename(tars / "pets-000001.tar.gz")
    (tars / "pets-000001.tar.gz").write_bytes(packed)
    _, said = protect(tars, weights)
    assert "1 other file not in the release: 'pets-000001.tar.gz'" in said
    (tars / "pets-000000.tar").unlink()
    _, said = protect(tars, weights, code=ExitCode.INPUT)
    assert "gunzip" in said


CELL = {"bytes": encoded(1), "path": None}


@pytest.mark.parametrize(
    ("columns", "fault"),
    [
        ({"a": [CELL], "b": [CELL]}, "several image columns: 'a', 'b'"),
        ({"a": [CELL], "more": [[CELL]]}, "columns of bytes, which may be images: 'more'"),
        ({"a": [CELL], "thumbnail": [CELL["bytes"]]}, "columns of bytes, which may be images: 'thumbnail'"),
    ],
)
def test_what_may_be_a_second_image_is_refused(
    tmp_path: Path, weights: Path, columns: dict[str, list[Any]], fault: str
) -> None:
    (tmp_path / "pets").mkdir()
    parquet.write_table(pyarrow.table(columns), tmp_path / "pets" / "train.parquet")
    _, said = protect(tmp_path / "pets", weights, code=ExitCode.INPUT)
    assert fault in " ".join(said.split())
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["pets"]


@pytest.mark.parametrize(
    "cell",
    [
        AS_TEXT.decode(),
        [{"deep": "data:image/webp;base64," + AS_TEXT.decode()}],
        photo(1).tolist(),
        photo(1)[..., 0].tolist(),
        list(encoded(1)),
        [byte - 256 if byte > 127 else byte for byte in encoded(1)],
        photo(1)[..., 0].ravel().tolist(),
        "|".join(map(str, photo(1)[..., 0].ravel())),
        str({"bytes": encoded(1), "path": None}),
        "\\x" + encoded(1, "JPEG").hex(),
    ],
)
def test_images_as_text_are_refused(tmp_path: Path, weights: Path, cell: Any) -> None:  # noqa: ANN401 - any cell
    (tmp_path / "pets").mkdir()
    table = pyarrow.table({"image": [CELL] * 2, "label": ["cat", "dog"], "thumb": [cell] * 2})
    parquet.write_table(table, tmp_path / "pets" / "train.parquet")
    _, said = protect(tmp_path / "pets", weights, code=ExitCode.INPUT)
    assert "column 'thumb' holds images, which would be released unprotected" in " ".join(said.split())
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["pets"]


def test_rows_without_bytes_are_counted(tmp_path: Path, weights: Path) -> None:
    (tmp_path / "pets").mkdir()
    empty = {"bytes": None, "path": "a.jpg"}
    for cells, code in (([empty] * 3, ExitCode.INPUT), ([CELL, empty, None], ExitCode.QUARANTINE)):
        table = pyarrow.table({"image": cells, "label": ["cat", "dog", "cat"], "round": [0, 1, 1]})
        parquet.write_table(table, tmp_path / "pets" / "train.parquet")
        release, said = protect(tmp_path / "pets", weights, code=code)
        assert release.exists() == (code == ExitCode.QUARANTINE)
        message = "2 rows without" if release.exists() else "no row of its shards holds"
        assert f"{message} the bytes of an image" in " ".join(said.split())


def test_files_beside_the_shards_are_named(hub: Path, weights: Path) -> None:
    parquet.write_table(pyarrow.table({"x": [1]}), hub / "data" / "more.parquet")
    release, said = protect(hub, weights)
    assert "1 other file not in the release: 'data/more.parquet'" in said
    assert not (release / "data" / "more.parquet").exists()
    for path in hub.glob("data/train*"):
        path.unlink()
    _, said = protect(hub, weights, code=ExitCode.INPUT)
    assert "data/more.parquet has no image column" in " ".join(said.split())


def test_images_as_files_beside_shards_are_not_clear(hub: Path, weights: Path) -> None:
    draw(hub, "assets/preview.png")
    _, said = protect(hub, weights, code=ExitCode.INPUT)
    assert "and images as files ('assets/preview.png'): not clear which are meant" in " ".join(said.split())


def test_images_as_files_are_no_shards(tmp_path: Path) -> None:
    pets(0, 2).to_parquet(tmp_path / "train.parquet")
    assert find_shards(tmp_path) is not None
    Image.fromarray(photo(1)).save(tmp_path / "a.png")
    assert find_shards(tmp_path) is None


def own_key() -> Path:
    find_key(None)
    return own_key_path(os.environ)


def test_a_release_in_shards_is_sealed_and_stays_so_when_it_is_resumed(hub: Path, weights: Path) -> None:
    release, _ = protect(hub, weights)
    seal = (release / SEAL_PATH).read_bytes()
    assert list(json.loads(seal)["files"]) == [RUN_PATH, f"{FOLDER}/{SHARDS_NAME}", "README.md"]
    assert "authenticated by the key" in mtlue("inspect", release, "--key", own_key()).stdout
    _, said = protect(hub, weights)
    assert "without a seal" not in said
    assert (release / SEAL_PATH).read_bytes() == seal


def edit_card(release: Path) -> None:
    (release / "README.md").write_text("# Others\n")


def edit_labels_of_a_shard(release: Path) -> None:
    """Labels in a shard change, and its digest in ``shards.json`` with them; the images stay."""
    name = "data/train-00000-of-00002.parquet"
    table = parquet.read_table(release / name)
    place = table.schema.get_field_index("label")
    flipped = pyarrow.array([1 - value.as_py() for value in table["label"]], table.schema.field(place).type)
    parquet.write_table(table.set_column(place, table.schema.field(place), flipped), release / name)
    record = json.loads((release / FOLDER / SHARDS_NAME).read_text())
    record["shards"][name] = file_digest(release / name)
    (release / FOLDER / SHARDS_NAME).write_text(json.dumps(record))


def seal_less(release: Path) -> None:
    (release / SEAL_PATH).unlink()


def seal_of_the_plain_release(release: Path) -> None:
    """A seal that covers the run record alone, as a plain release of the same run has it."""
    files = {RUN_PATH: file_digest(release / RUN_PATH)}
    Sealer(find_key(own_key()).key).seal(release, files)


def hidden_stranger(release: Path) -> None:
    (release / FOLDER / ".orphan").write_bytes(encoded(1))


@pytest.mark.parametrize(
    ("tamper", "fault", "seen"),
    [
        (edit_card, "README.md: its bytes are not those that were sealed", True),
        (edit_labels_of_a_shard, f"{FOLDER}/{SHARDS_NAME}: its bytes are not those that were sealed", True),
        (seal_less, f"{SEAL_PATH}: is missing", False),
        (seal_of_the_plain_release, f"{SEAL_PATH}: does not cover {FOLDER}/{SHARDS_NAME}", True),
        (hidden_stranger, f"{FOLDER}/.orphan: not in the records", True),
    ],
)
def test_a_release_in_shards_that_was_tampered_with_is_found(
    hub: Path, weights: Path, tamper: Callable[[Path], None], fault: str, seen: bool
) -> None:
    release, _ = protect(hub, weights)
    assert api.inspect(release, key=own_key()).exit_code is ExitCode.SUCCESS
    tamper(release)
    with_key, without = api.inspect(release, key=own_key()), inspect_path(release, SilentProgress())
    assert isinstance(with_key, ReleaseCheck)
    assert any(found.startswith(fault) for found in with_key.faults), with_key.faults
    assert with_key.authentication.by == ()
    assert (without.exit_code is ExitCode.NOT_PROTECTED) is seen


def test_an_image_in_the_path_of_another_is_refused(tmp_path: Path, weights: Path) -> None:
    (tmp_path / "pets").mkdir()
    cells = [{**CELL, "path": AS_TEXT.decode()}] * 2
    parquet.write_table(pyarrow.table({"image": cells, "label": ["cat", "dog"]}), tmp_path / "pets" / "train.parquet")
    _, said = protect(tmp_path / "pets", weights, code=ExitCode.INPUT)
    assert "the path in column 'image' holds images" in " ".join(said.split())


def test_strange_metadata_of_a_schema_are_not_released(tmp_path: Path) -> None:
    features = b'{"info": {"features": {}}}'
    table = pyarrow.table({"image": [CELL] * 2, "label": ["cat", "dog"]})
    for huggingface, kept in ((features, {b"huggingface": features}), (b'{"a": "' + AS_TEXT + b'"}', None)):
        strange = {b"huggingface": huggingface, b"thumb": encoded(1), encoded(1): b"x"}
        parquet.write_table(table.replace_schema_metadata(strange), tmp_path / "in.parquet")
        PARQUET_IMAGES.write(tmp_path / "out.parquet", tmp_path / "in.parquet", lambda _: encoded(2))
        written = parquet.read_table(tmp_path / "out.parquet")
        assert (written.schema.metadata or None) == kept
        assert written.column("label").to_pylist() == ["cat", "dog"]
        assert encoded(1)[:64] not in (tmp_path / "out.parquet").read_bytes()


def tar_of(*members: tuple[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return stream.getvalue()


def with_size(content: bytes, size: bytes) -> bytes:
    """A tar file whose first header names another size, with a checksum that fits."""
    header = bytearray(content[:512])
    header[124:136], header[148:156] = size.ljust(12, b"\0"), b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content[512:]


SAMPLES = tuple((f"{row}.{end}", own) for row in "ab" for end, own in (("jpg", encoded(ord(row))), ("cls", b"1")))
WHOLE = tar_of(*SAMPLES)
SECOND = WHOLE.index(b"a.cls")
"""Where the header of the second member begins."""


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (WHOLE[:300], "damaged or cut off after"),
        (WHOLE[: SECOND - 200], "unexpected end of data"),
        (WHOLE[: SECOND + 100], "damaged or cut off after"),
        (WHOLE[:SECOND], "damaged or cut off after"),
        (WHOLE[:SECOND] + b"X" + WHOLE[SECOND + 1 :], "bad checksum"),
        (with_size(WHOLE, b"00000000010"), "damaged or cut off after 1,024 bytes"),
        (with_size(WHOLE, b"77777777777"), "more than a photo may have"),
        (with_size(WHOLE, b"\xff" * 12), "-1 bytes"),
        (tar_of(*SAMPLES[:2], *SAMPLES[1:]), "two members called 'a.cls'"),
        (tar_of(*SAMPLES, SAMPLES[0]), "the members of the sample 'a' do not follow each other"),
        (tar_of(("../c.jpg", SAMPLES[0][1]), *SAMPLES), "'../c.jpg' leads out of the shard"),
        (tar_of(("/c.jpg", SAMPLES[0][1]), *SAMPLES), "'/c.jpg' leads out of the shard"),
        (WHOLE + WHOLE, "more behind its end, such as a second tar file"),
    ],
)
def test_a_damaged_tar_file_is_refused_and_loses_no_sample(tmp_path: Path, content: bytes, fault: str) -> None:
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets" / "s.tar").write_bytes(content)
    with pytest.raises(InputError) as caught:
        list(WEBDATASET.read(tmp_path / "pets" / "s.tar"))
    assert fault in str(caught.value)
    assert f"{tmp_path / 'pets' / 's.tar'}" in str(caught.value)
    assert caught.value.hint


def test_members_of_no_sample_are_named_and_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    folder.mkdir()
    (folder / "s.tar").write_bytes(tar_of(("README.md", b"Pets."), *SAMPLES, ("sums.md5", b"1")))
    found = find_shards(folder)
    assert found is not None
    notes = found.unpack(tmp_path / "images", tmp_path / "labels.jsonl")
    assert notes == ["members of other kinds are not in the release: 'md', 'md5'"]
    assert len((tmp_path / "labels.jsonl").read_text().splitlines()) == 2
    made = found.pack(tmp_path, "s.tar", {1: encoded(9), 2: encoded(8)}.get)
    with tarfile.open(made) as archive:
        assert archive.getnames() == ["a.png", "a.cls", "b.png", "b.cls"]


def test_a_text_of_a_shard_that_is_no_text_is_refused(tmp_path: Path) -> None:
    offsets = np.arange(2, dtype=np.int32).tobytes()
    odd = pyarrow.Array.from_buffers(
        pyarrow.string(), 1, [None, pyarrow.py_buffer(offsets), pyarrow.py_buffer(b"\xff")]
    )
    parquet.write_table(
        pyarrow.table({"image": [{"bytes": encoded(1), "path": "a"}], "text": odd}), tmp_path / "s.parquet"
    )
    with pytest.raises(InputError, match="has a text that cannot be read: 'utf-8' codec"):
        list(PARQUET_IMAGES.read(tmp_path / "s.parquet"))


@pytest.mark.parametrize("path", ["/", "."])
def test_a_path_without_a_name_stays_as_it_is(tmp_path: Path, path: str) -> None:
    parquet.write_table(pyarrow.table({"image": [{"bytes": encoded(1), "path": path}]}), tmp_path / "s.parquet")
    PARQUET_IMAGES.write(tmp_path / "out.parquet", tmp_path / "s.parquet", lambda _: encoded(2))
    assert parquet.read_table(tmp_path / "out.parquet").to_pylist() == [{"image": {"bytes": encoded(2), "path": path}}]
