"""A release that is written to an object store is the local one, however often the connection was cut."""

import contextlib
import functools
import http.server
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from pyarrow import csv, parquet
from typer.testing import CliRunner

import mtlue_cli as mtlue
from mtlue_cli.choices import EngineName, ExitCode
from mtlue_cli.commands.app import app
from mtlue_cli.engines.engine import check_engine
from mtlue_cli.errors import InputError, MtlueError, StorageError
from mtlue_cli.release.release import Release
from mtlue_cli.storage import mount, parts, writer
from mtlue_cli.storage.objects import Objects
from mtlue_cli.storage.parts import Part
from mtlue_cli.storage.writer import Writer
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.own_weights import OwnWeights
from mtlue_cli.workflows.protect.plan import read_inputs
from mtlue_cli.workflows.protect.run import ProtectResult, protect_folder
from tests.protect_runs import interrupt
from tests.small_set import write_checkpoint, write_images
from tests.storage import stores
from tests.storage.stores import content, cut_after, faults, local_content, watched

IMAGES, OUT = "memory://data/photos", "memory://data/release"


@pytest.fixture
def weights(tmp_path: Path) -> str:
    return str(write_checkpoint(tmp_path / "generator.safetensors"))


@pytest.fixture
def photos(tmp_path: Path, store: fsspec.AbstractFileSystem) -> Path:
    write_images(tmp_path / "photos")
    store.put(str(tmp_path / "photos"), "/data/photos", recursive=True)
    return tmp_path / "photos"


@pytest.fixture
def local(photos: Path, weights: str, tmp_path: Path) -> dict[str, bytes]:
    """The release of the same photos in a folder."""
    mtlue.protect(photos, weights=weights, out=tmp_path / "local", device="cpu")
    return local_content(tmp_path / "local")


def protect(weights: str, images: str | Path = IMAGES, out: str | Path = OUT, **options: str) -> ProtectResult:
    return stores.protect(images, out, weights=weights, workers=1, **options)


@contextlib.contextmanager
def small_parts(records: int = 2) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PART_RECORDS", records)
        yield


def test_a_release_by_url_is_the_local_one_byte_for_byte(
    local: dict[str, bytes], weights: str, photos: Path, tmp_path: Path
) -> None:
    result = protect(weights)
    assert content(OUT) == local
    assert str(result.release) == OUT
    assert faults(result.release, against=IMAGES) == ()
    protect(weights, photos, "memory://data/other")
    protect(weights, IMAGES, tmp_path / "here")
    assert content("memory://data/other") == local == local_content(tmp_path / "here")


@pytest.mark.usefixtures("photos")
def test_the_command_line_speaks_of_urls_alone(weights: str) -> None:
    words = ["protect", IMAGES, "--labels", f"{IMAGES}/labels.csv", "--weights", weights, "--out", OUT, "--json", "-"]
    done = CliRunner().invoke(app, [*words, "--device", "cpu"])
    assert done.exit_code == ExitCode.SUCCESS, done.output
    assert json.loads(done.stdout)["release"] == OUT
    shown = CliRunner().invoke(app, ["inspect", OUT])
    assert shown.exit_code == ExitCode.SUCCESS
    assert OUT in shown.stdout
    looked = CliRunner().invoke(app, [*words[:-4], "--out", "memory://data/new", "--dry-run"])
    assert looked.exit_code == ExitCode.SUCCESS, looked.output
    assert f"labels: {IMAGES}/labels.csv" not in looked.output  # it was named
    assert "mtlue-" not in done.output + shown.output + looked.output
    assert content("memory://data/new") == {}


def test_a_second_run_changes_nothing(local: dict[str, bytes], weights: str) -> None:
    protect(weights)
    again = protect(weights)
    assert (again.protected, again.kept) == (0, 7)
    assert content(OUT) == local


@pytest.mark.parametrize("puts", [0, 8, 14])
def test_a_connection_that_is_cut_leaves_whole_parts_and_the_next_run_ends_with_the_same_bytes(
    puts: int, local: dict[str, bytes], weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Writer, "is_dead", True)  # the run that is cut cannot say that it has ended
    with small_parts(), cut_after(puts), pytest.raises(StorageError, match="cut"):
        protect(weights)
    for name, part in content(OUT).items():
        if "/parts/" in name:
            lines = [json.loads(line) for line in json.loads(part)["manifest"].splitlines()]
            assert all(content(OUT)[line["file_name"]] == local[line["file_name"]] for line in lines)
    with small_parts():
        protect(weights)
    assert content(OUT) == local


def test_a_run_that_is_resumed_reads_nothing_of_complete_parts(local: dict[str, bytes], weights: str) -> None:
    with small_parts(), mount.mounted(Path(IMAGES)) as images, mount.mounted(Path(OUT), written=True) as out:
        interrupt(ProtectConfig(images, images / "labels.csv", out, weights=weights, device="cpu"), 4)
    (unfinished,) = faults(OUT)
    assert "4 images are recorded" in unfinished
    with watched() as found:
        result = protect(weights)
    assert (result.protected, result.kept) == (3, 4)
    assert sum(name.startswith("put release/") and name.endswith(".png") for name in found) == 3
    # Those that are measured for FLIP are read again, but only once.
    assert max(found.values()) <= 2
    assert content(OUT) == local


def test_objects_without_a_part_are_written_anew(
    local: dict[str, bytes], weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:  # a run that is killed puts no last part
        patch.setattr("mtlue_cli.release.release.Release._leave_parts", lambda *_: None)
        with mount.mounted(Path(IMAGES)) as images, mount.mounted(Path(OUT), written=True) as out:
            interrupt(ProtectConfig(images, images / "labels.csv", out, weights=weights, device="cpu"), 4)
    assert not any("/parts/" in name for name in content(OUT))
    assert sum(name.endswith(".png") for name in content(OUT)) >= 4
    with watched() as found:
        protect(weights)
    assert sum(name.startswith("put release/") and name.endswith(".png") for name in found) == 7
    assert content(OUT) == local


@pytest.mark.parametrize("forged", [False, True])
def test_what_was_put_in_place_of_a_released_file_is_not_taken_for_it(
    forged: bool, local: dict[str, bytes], weights: str, store: fsspec.AbstractFileSystem
) -> None:
    with small_parts(), mount.mounted(Path(IMAGES)) as images, mount.mounted(Path(OUT), written=True) as out:
        interrupt(ProtectConfig(images, images / "labels.csv", out, weights=weights, device="cpu"), 4)
    name = next(name for name in content(OUT) if name.endswith(".png"))
    store.pipe_file(f"/data/release/{name}", store.cat_file("/data/photos/photo1.png"))
    if forged:
        info = store.info(f"/data/release/{name}")
        for key in store.find("/data/release/.mtlue/parts"):
            part = json.loads(store.cat_file(key))
            if name in part["released"]:
                part["released"][name] = f"{info['size']}:{info['created'].timestamp()}"
            store.pipe_file(key, json.dumps(part).encode())
    protect(weights)
    assert content(OUT) == local


def test_a_release_whose_loader_takes_folders_for_classes(tmp_path: Path, store: fsspec.AbstractFileSystem) -> None:
    write_images(tmp_path / "photos", 8)
    (tmp_path / "photos" / "labels.csv").unlink()
    for at, path in enumerate(sorted((tmp_path / "photos").rglob("photo*"))):
        (tmp_path / "classes" / "ab"[at % 2]).mkdir(parents=True, exist_ok=True)
        path.rename(tmp_path / "classes" / "ab"[at % 2] / path.name)
    store.put(str(tmp_path / "classes"), "/data/classes", recursive=True)
    protect("default", tmp_path / "classes", tmp_path / "release")
    protect("default", "memory://data/classes")
    assert content(OUT) == local_content(tmp_path / "release")
    assert content(f"{OUT}.mtlue") == {
        name: text for name, text in local_content(tmp_path / "release.mtlue").items() if name != "lock"
    }
    assert faults(OUT) == ()


@pytest.mark.usefixtures("photos")
def test_a_photo_that_is_gone_is_quarantined_and_a_store_that_fails_ends_the_run(
    weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    get_file = Objects.get_file

    def fail(kind: type[Exception]) -> None:
        def get(self: Objects, name: str, to: Path) -> None:
            if name.endswith("photo5.png"):
                raise kind("refused")
            get_file(self, name, to)

        monkeypatch.setattr(Objects, "get_file", get)

    fail(StorageError)
    with pytest.raises(StorageError, match="refused"):
        protect(weights)
    fail(FileNotFoundError)
    result = protect(weights)
    assert [record.source for record in result.quarantine] == ["photo5.png"]
    assert "photo5.png" not in content(OUT)


@pytest.mark.usefixtures("photos")
def test_a_store_that_holds_other_bytes_than_were_put_ends_the_run(
    weights: str, store: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe_file = type(store).pipe_file

    def damage(self: object, path: str, value: bytes, **more: object) -> None:
        pipe_file(self, path, value[:-1] + b"?" if path.endswith("photo1.png") else value, **more)

    monkeypatch.setattr(type(store), "pipe_file", damage)
    with pytest.raises(StorageError, match=r"release/photo1\.png does not hold what was written there"):
        protect(weights)


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.usefixtures("photos")
def test_images_of_someone_else_are_not_released(
    early: bool, weights: str, store: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put_stranger() -> None:
        store.pipe_file("/data/release/mine.jpg", b"\xff\xd8\xff")

    if early:
        protect(weights)
        put_stranger()
    else:
        close = Release.close

        def close_later(*words: Any) -> None:  # noqa: ANN401 - whatever it takes
            put_stranger()
            close(*words)

        monkeypatch.setattr(Release, "close", close_later)
    with pytest.raises(MtlueError, match=r"mtlue did not write") as raised:
        protect(weights)
    assert "mine.jpg" in f"{raised.value}{getattr(raised.value, 'faults', '')}"


@pytest.mark.usefixtures("photos")
def test_a_changed_object_is_a_fault(weights: str, store: fsspec.AbstractFileSystem) -> None:
    protect(weights)
    store.pipe_file("/data/release/photo1.png", store.cat_file("/data/photos/photo1.png"))
    found = CliRunner().invoke(app, ["inspect", OUT])
    assert found.exit_code == ExitCode.NOT_PROTECTED
    assert "photo1.png: its bytes are not those of the manifest" in found.stderr


@pytest.mark.usefixtures("photos")
def test_one_run_writes_at_a_time(
    weights: str, store: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = f"/data/release/.mtlue/{writer.WRITER}"

    def say(seconds: float) -> None:
        store.pipe_file(key, json.dumps({"host": "far", "process": 1, "run": "x", "seconds": seconds}).encode())

    say(time.time())
    with pytest.raises(InputError, match="another run is writing to memory://data/release: process 1 on far"):
        protect(weights)
    say(0)  # long dead
    protect(weights)
    assert not store.exists(key)
    part = parts.Parts.put

    def stolen(self: parts.Parts) -> None:
        say(time.time())
        part(self)

    monkeypatch.setattr(parts.Parts, "put", stolen)
    key = f"/data/other/.mtlue/{writer.WRITER}"
    with pytest.raises(StorageError, match="another run has taken memory://data/other"):
        protect(weights, out="memory://data/other")
    assert store.exists(key)  # that of the other run


@pytest.mark.parametrize("key", ["a//b.jpg", "../b.jpg", "a/../b.jpg", "a\\b.jpg", "photo1.png/b.jpg", "./b.jpg"])
@pytest.mark.usefixtures("photos")
def test_keys_that_no_folder_can_hold_are_refused(key: str, weights: str, store: fsspec.AbstractFileSystem) -> None:
    store.store[f"/data/photos/{key}"] = store.store["/data/photos/photo1.png"]
    with pytest.raises(InputError, match="keys that no folder can hold"):
        protect(weights)
    assert content(OUT) == {}


@pytest.mark.parametrize(
    ("images", "out", "message"),
    [
        (IMAGES, "https://host/release", "https://host/release cannot be written: https:// can only be read"),
        (IMAGES, None, "--out is not given|out is not given"),
        (IMAGES, f"{IMAGES}/release", "overlap"),
        (IMAGES, IMAGES, "overlap"),
        ("memory://nothing", OUT, "memory://nothing does not exist, or holds nothing"),
        ("ftp://host/photos", OUT, "the scheme ftp is not known"),
        ("memory://a/../b", OUT, "does not name a folder"),
    ],
)
@pytest.mark.usefixtures("photos")
def test_urls_that_cannot_be_used_are_refused(images: str, out: str | None, message: str, weights: str) -> None:
    with pytest.raises(InputError, match=message):
        mtlue.protect(images, weights=weights, out=out)
    words = ["protect", images, "--weights", weights, *(["--out", out] if out else [])]
    assert CliRunner().invoke(app, words).exit_code == ExitCode.INPUT


def test_files_that_were_fetched_make_room_for_others(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 3 * max(path.stat().st_size for path in photos.rglob("photo*"))
    monkeypatch.setattr(mount, "ROOM", most)
    monkeypatch.setattr(mount, "AHEAD", 2)
    with mount.mounted(Path(IMAGES)) as folder:
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("photo*"))
        assert [(folder / name).stat().st_size for name in names] == [(photos / name).stat().st_size for name in names]
        remote = mount.remote_folder(folder)
        assert remote is not None
        remote.expect(f"photos/{name}" for name in names)
        for name in (*names, *names):
            assert mtlue_digest(folder / name) == mtlue_digest(photos / name)
            assert sum(path.stat().st_blocks for path in folder.rglob("*")) * 512 <= most + 4096 * len(names)
    assert not folder.exists()


def mtlue_digest(path: Path) -> str:
    from mtlue_cli.files import file_digest

    return file_digest(path)


def test_a_web_server_is_read(weights: str, photos: Path, tmp_path: Path) -> None:
    (photos / "sub").rename(photos / "sub folder")
    labels = photos / "labels.csv"
    labels.write_text(labels.read_text().replace("sub/", "sub folder/"))
    mtlue.protect(photos, weights=weights, out=tmp_path / "wanted", device="cpu")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/photos"
        protect(weights, url, tmp_path / "found")
        protect(weights, url, tmp_path / "named", labels=f"{url}/labels.csv")
        server.shutdown()
    wanted = local_content(tmp_path / "wanted")
    assert local_content(tmp_path / "found") == local_content(tmp_path / "named") == wanted


def test_tables_that_were_dropped_from_the_disk_are_fetched_again(
    photos: Path, tmp_path: Path, store: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = csv.read_csv(photos / "labels.csv")
    (photos / "labels.csv").unlink()
    store.rm("/data/photos/labels.csv")
    parquet.write_table(table, photos / "metadata.parquet")
    store.put(str(photos / "metadata.parquet"), "/data/photos/metadata.parquet")
    monkeypatch.setattr(mount, "ROOM", 0)
    wanted = protect("default", photos, tmp_path / "local", image_format="keep")
    found = protect("default", image_format="keep")
    assert content(OUT) == local_content(tmp_path / "local")
    assert "metadata.parquet" in content(OUT)
    assert found.compressed == wanted.compressed > 0


def test_weights_of_a_url_are_found_again(photos: Path, tmp_path: Path, store: fsspec.AbstractFileSystem) -> None:
    def stem(folder: Path) -> str:
        config = ProtectConfig(folder, folder / "labels.csv", tmp_path / "out")
        inputs = read_inputs(config)
        return OwnWeights(config, inputs, inputs.labels.table.tasks, 7, (), SilentProgress()).stem

    stems = []
    for _ in range(2):
        with mount.mounted(Path(IMAGES)) as folder:
            stems.append(stem(folder))
    assert stems[0] == stems[1] != stem(photos)
    weights = write_checkpoint(tmp_path / "own.safetensors")
    store.put(str(weights), "/data/own.safetensors")
    assert str(mtlue.inspect("memory://data/own.safetensors").path) == "memory://data/own.safetensors"


@pytest.mark.usefixtures("photos")
def test_a_cluster_is_refused_what_it_cannot_read() -> None:
    with mount.mounted(Path(IMAGES)), pytest.raises(InputError, match="not URLs"):
        check_engine(EngineName.RAY, None)


@pytest.mark.usefixtures("photos")
def test_a_damaged_part_is_reported(weights: str, store: fsspec.AbstractFileSystem) -> None:
    store.pipe_file("/data/release/.mtlue/parts/000001.json", b"{")
    with pytest.raises(InputError, match=r"release/\.mtlue/parts/000001\.json is damaged") as raised:
        protect(weights)
    assert raised.value.hint == "remove it: its images are protected again"


def test_the_config_of_a_local_run_needs_no_store(photos: Path, weights: str, tmp_path: Path) -> None:
    config = ProtectConfig(photos, photos / "labels.csv", tmp_path / "out", weights=weights, device="cpu")
    assert protect_folder(replace(config, workers=1), SilentProgress()).protected == 7
    assert Part("", "", {}, {}).mac is None
