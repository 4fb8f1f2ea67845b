"""Secrets of a URL or of the environment are never recorded, shown or passed on."""

import json
from pathlib import Path

import fsspec
import pytest
from typer.testing import CliRunner

import mtlue_cli as mtlue
from mtlue_cli.choices import ExitCode
from mtlue_cli.commands.app import app
from mtlue_cli.errors import InputError, StorageError
from mtlue_cli.storage.objects import Objects
from mtlue_cli.storage.urls import UrlPath, checked_url, url_of, without_secrets
from tests.small_set import write_images

SECRETS = [
    "s3://AKIAUSER:hunter2secret@bucket/photos",
    "s3://AKIAUSER:hunter2/secret@bucket/photos",
    "https://user@host/photos?X-Amz-Signature=hunter2secret",
    "https://host/photos?X-Amz-Credential=AKIAUSER&X-Amz-Signature=hunter2secret",
    "gs://hunter2secret@bucket/photos",
    "S3://AKIAUSER:hunter2secret@bucket/photos",
    "https://host/photos;sig=hunter2secret",
    "s3://bucket/photos#sig=hunter2secret",
]


@pytest.mark.parametrize("url", SECRETS)
@pytest.mark.parametrize("place", ["images", "out", "labels", "environment", "file", "inspect", "function"])
def test_urls_with_secrets_are_refused_and_not_shown(
    url: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "photos", 1)
    monkeypatch.chdir(tmp_path)
    images = url if place == "images" else str(tmp_path / "photos")
    words = ["protect", images, "--out", url if place == "out" else str(tmp_path / "out"), "--quick"]
    words += ["--labels", url] if place == "labels" else []
    if place == "environment":
        monkeypatch.setenv("MTLUE_LABELS", url)
    if place == "file":
        (tmp_path / "mtlue.toml").write_text(f"[protect]\nlabels = {json.dumps(url)}\n")
        words += ["--config", "mtlue.toml"]
    if place == "function":
        with pytest.raises(InputError) as raised:
            mtlue.protect(url, out=tmp_path / "out")
        text = f"{raised.value} {raised.value.hint}"
    else:
        done = CliRunner().invoke(app, ["inspect", url] if place == "inspect" else words)
        assert done.exit_code == ExitCode.INPUT
        text = done.output
    assert "environment" in " ".join(text.split())
    assert "hunter2" not in text
    assert "AKIAUSER" not in text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("s3://bucket/a b", "s3://bucket/a b"),
        ("s3:/bucket/photos", "s3://bucket/photos"),
        ("S3://bucket/Photos", "s3://bucket/Photos"),
        ("hf://datasets/me/faces@main/train/", "hf://datasets/me/faces@main/train"),
        ("http://127.0.0.1:8000/photos", "http://127.0.0.1:8000/photos"),
        ("photos", None),
        ("/photos:1/x", None),
        ("c:/photos", None),
    ],
)
def test_a_path_is_a_url_by_its_scheme(path: str, url: str | None) -> None:
    assert checked_url(Path(path)) == url
    assert url is None or (str(UrlPath(path)) == url and url_of(UrlPath(path)) == url)


def test_a_folder_with_the_name_of_a_scheme_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:" / "photos").mkdir(parents=True)
    assert url_of(Path("s3:/photos")) is None


def test_what_a_store_says_of_a_fault_is_shown_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2secret")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("refused https://me:pass@host/x?sig=abc for hunter2secret")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "pipe_file", refuse)
    with pytest.raises(StorageError) as raised:
        Objects("memory://data/release").put("release/a", b"")
    said = "memory://data/release/a cannot be written: refused https://host/x for ***; run the same command again"
    assert str(raised.value).startswith(said)
    assert raised.value.__suppress_context__
    assert without_secrets("a token", {"SOME_TOKEN": "token"}) == "a token"  # too short to be one


@pytest.mark.parametrize(
    "words",
    [
        ["protect", "photos", "--workers", "{}"],
        ["protect", "photos", "{}"],
        ["{}"],
        ["protect", "photos", "--{}"],
        ["protect", "photos", "--config", "{}"],
        ["protect", "photos", "--labels", "photos/labels.csv", "--key", "{}"],
        ["protect", "photos", "--labels", "photos/labels.csv", "--weights", "{}"],
        ["inspect", "photos", "--json", "{}"],
        ["inspect", "photos", "--key", "{}"],
    ],
)
def test_passwords_of_urls_are_never_said_back(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "labels.csv").write_text("image,t\na.png,0\n")
    result = CliRunner().invoke(app, [word.format("https://me:hunter2@host/x?sig=abc9") for word in words])
    assert result.exit_code == ExitCode.INPUT, result.output
    assert "hunter2" not in result.output
    assert "abc9" not in result.output
    assert result.stderr


def test_an_option_that_takes_no_url_refuses_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    words = ["protect", "photos", "--quick", "--sign", "https://me:hunter2@host/signer"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == ExitCode.INPUT
    assert "--sign takes no URL" in result.stderr
    assert "hunter2" not in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_a_file_url_is_shown_as_it_was_typed() -> None:
    assert url_of(Path("file:///none/photos")) == "file:///none/photos"
    assert str(UrlPath("file:///none/photos")) == "file:///none/photos"
    with pytest.raises(InputError, match=r"file:///none/photos cannot be read: the scheme file is not known"):
        checked_url(Path("file:///none/photos"))


def test_a_store_that_refuses_to_list_names_the_variables_of_its_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    s3fs = pytest.importorskip("s3fs")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("The AWS Access Key Id you provided does not exist in our records.")

    monkeypatch.setattr(s3fs.S3FileSystem, "find", refuse)
    with pytest.raises(InputError, match="s3://bucket/photos cannot be listed: The AWS Access Key Id") as raised:
        Objects("s3://bucket/photos").list("photos")
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        assert variable in str(raised.value.hint)
