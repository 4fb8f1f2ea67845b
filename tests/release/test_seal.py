"""Seals: who vouches for a release, through resumed and extended runs and in shards, and what is said without one."""

import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from mtlue_cli.api import inspect
from mtlue_cli.choices import ExitCode
from mtlue_cli.commands.app import app
from mtlue_cli.errors import InputError
from mtlue_cli.keys import VARIABLE, find_key, own_key_path
from mtlue_cli.release.check import ReleaseCheck
from mtlue_cli.release.records import FOLDER, RUN_PATH, read_manifest
from mtlue_cli.release.release import Release
from mtlue_cli.release.seal import JOURNAL_NAME, NOT_AUTHENTICATED, SEAL_PATH, Seal, read_seal
from mtlue_cli.release.signing import read_public_key, signing_key
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.run import ProtectResult, protect_folder
from tests.protect_runs import Notes, interrupt
from tests.small_set import write_checkpoint, write_images

RUNNER = CliRunner()
OTHER = "01" * 16 + "ab" * 16


@pytest.fixture
def config(tmp_path: Path) -> ProtectConfig:
    labels = write_images(tmp_path / "photos")
    weights = write_checkpoint(tmp_path / "generator.safetensors")
    return ProtectConfig(tmp_path / "photos", labels, weights=str(weights), device="cpu")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The user's own key, as a file to be named."""
    return own_key_path(os.environ) if find_key(None) else tmp_path


@pytest.fixture
def other(tmp_path: Path) -> Path:
    path = tmp_path / "other.key"
    path.write_text(OTHER)
    path.chmod(0o600)
    return path


def inspected(release: Path, *options: object) -> Result:
    return RUNNER.invoke(app, ["inspect", str(release), *map(str, options)])


def protected(config: ProtectConfig) -> tuple[ProtectResult, list[str]]:
    notes = Notes()
    return protect_folder(config, notes), [line for line in notes.lines if "seal" in line]


def test_the_seal_is_as_documented(config: ProtectConfig, own: Path) -> None:
    release = protect_folder(config, SilentProgress()).release
    seal = json.loads((release / SEAL_PATH).read_text())
    assert list(seal) == ["schema_version", "files", "key_fingerprint", "mac", "signer", "signature"]
    assert list(seal["files"]) == [RUN_PATH]
    key = find_key(own).key
    assert seal["key_fingerprint"] == key.fingerprint
    message = b'mtlue release seal v1\n{"%b": "%b"}' % (RUN_PATH.encode(), seal["files"][RUN_PATH].encode())
    sealing = key.derive(b"mtlue release seal v1")
    import hashlib
    import hmac

    assert seal["mac"] == hmac.digest(sealing, message, hashlib.sha256).hex()
    content = (release / SEAL_PATH).read_bytes()
    assert key.derive(b"").hex().encode() not in content
    assert sealing.hex().encode() not in content


def test_a_release_says_who_vouches_for_it(config: ProtectConfig, own: Path, other: Path) -> None:
    release = protect_folder(config, SilentProgress()).release
    fingerprint = find_key(own).key.fingerprint
    for options in ([], ["--key", own]):  # the user's own key is tried without being named
        result = inspected(release, *options, "--json", release.parent / "result.json")
        assert result.exit_code == ExitCode.SUCCESS, result.output
        assert f"authenticated by the key {fingerprint}" in result.stdout
        document = json.loads((release.parent / "result.json").read_text())
        assert document["authenticated_by"] == [f"the key {fingerprint}"]
    result = inspected(release, "--key", other)
    assert result.exit_code == ExitCode.NOT_PROTECTED
    assert f"made with the key {fingerprint}, not with {find_key(other).key.fingerprint}" in result.stderr
    assert "not authenticated, see the faults" in result.stdout
    assert inspect(release, key=own).exit_code == ExitCode.SUCCESS
    assert inspect(release, key=other).exit_code == ExitCode.NOT_PROTECTED


def test_without_key_or_signer_one_line_says_that_nobody_vouches(
    config: ProtectConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    release = protect_folder(config, SilentProgress()).release
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "elsewhere"))
    result = inspected(release)
    assert result.exit_code == ExitCode.SUCCESS
    assert " ".join(result.output.split()).count(NOT_AUTHENTICATED) == 1
    assert not (tmp_path / "elsewhere").exists()


def test_a_lost_seal_is_noticed_by_who_names_a_key(config: ProtectConfig, own: Path) -> None:
    release = protect_folder(config, SilentProgress()).release
    (release / SEAL_PATH).unlink()
    assert inspected(release).exit_code == ExitCode.SUCCESS
    result = inspected(release, "--key", own)
    assert result.exit_code == ExitCode.NOT_PROTECTED
    assert f"fault: {SEAL_PATH}: is missing" in result.stderr
    words = ["verify", config.images, "--labels", config.labels, "--protected", release, "--json", "-", "--quiet"]
    for more in (["--key", own], []):
        judged = RUNNER.invoke(app, [*map(str, [*words, *more, "--epochs", 1, "--no-cache", "--no-control"])])
        audit = json.loads(judged.stdout)["audit"]
        assert any("is missing" in fault for fault in audit["faults"]) is bool(more)
        assert audit["authenticated_by"] == []


def test_a_release_that_lost_its_records_is_noticed_by_who_names_a_key(config: ProtectConfig, own: Path) -> None:
    from mtlue_cli.images.labelled import read_folder_labels
    from mtlue_cli.release.seal import trust_of
    from mtlue_cli.verification.audit import audit_release

    release = protect_folder(config, SilentProgress()).release
    (release / FOLDER).rename(release.parent / "records")
    table = read_folder_labels(config.images, config.labels).table
    assert audit_release(release, config.images, table).faults == ()
    (fault,) = audit_release(release, config.images, table, trust=trust_of(own, None)).faults
    assert "is missing" in fault


def test_verify_names_who_vouches(config: ProtectConfig, own: Path) -> None:
    release = protect_folder(config, SilentProgress()).release
    words = ["verify", config.images, "--labels", config.labels, "--protected", release, "--key", own, "--json", "-"]
    judged = RUNNER.invoke(app, [*map(str, [*words, "--epochs", 1, "--no-cache", "--no-control"])])
    assert json.loads(judged.stdout)["audit"]["authenticated_by"] == [f"the key {find_key(own).key.fingerprint}"]
    assert "the records are authenticated by the key" in judged.stderr


def test_a_resumed_run_takes_up_what_its_key_vouches_for_and_seals_the_whole(config: ProtectConfig, own: Path) -> None:
    interrupt(config, after=3)
    assert not (config.release / SEAL_PATH).exists()
    assert len((config.release / FOLDER / JOURNAL_NAME).read_text().splitlines()) == 4
    result, notes = protected(config)
    assert (result.kept, notes) == (3, [])
    assert not (config.release / FOLDER / JOURNAL_NAME).exists()
    before = (result.release / SEAL_PATH).read_bytes()
    again, notes = protected(config)
    assert (again.protected, notes) == (0, [])
    assert (result.release / SEAL_PATH).read_bytes() == before
    assert inspected(result.release, "--key", own).exit_code == ExitCode.SUCCESS


def test_a_run_that_is_killed_twice_keeps_what_was_done_before(config: ProtectConfig) -> None:
    interrupt(config, after=3)
    interrupt(config, after=2)
    result, _ = protected(config)
    assert result.kept == 5


def test_a_record_that_another_hand_added_to_an_unfinished_run_is_not_taken_up(config: ProtectConfig) -> None:
    from mtlue_cli.files import file_digest
    from mtlue_cli.release.records import manifest_line

    interrupt(config, after=3)
    release = config.release
    first = read_manifest(release).files[0]
    with Image.open(config.images / "photo1.png") as photo:
        photo.save(release / first.file_name, compress_level=1)
    from msgspec import structs

    forged = structs.replace(first, sha256=file_digest(release / first.file_name))
    with (release / FOLDER / "manifest.jsonl").open("a") as stream:
        stream.write(manifest_line(forged))
    result, notes = protected(config)
    assert result.kept == 2
    assert "1 record of" in notes[0]
    assert file_digest(release / first.file_name) == first.sha256


def test_settings_of_an_unfinished_run_that_another_hand_wrote_are_not_taken_up(config: ProtectConfig) -> None:
    interrupt(config, after=3)
    path = config.release / RUN_PATH
    path.write_text(json.dumps({**json.loads(path.read_text()), "versions": {"mtlue": "forged"}}))
    result, notes = protected(config)
    assert result.kept == 0
    assert "3 records of" in notes[0]


def test_a_release_that_grows_is_sealed_again(config: ProtectConfig, own: Path) -> None:
    rows = config.labels.read_text().splitlines()
    config.labels.write_text("\n".join(rows[:4]) + "\n")
    before = protect_folder(config, SilentProgress()).release / SEAL_PATH
    seal = before.read_bytes()
    config.labels.write_text("\n".join(rows) + "\n")
    result, notes = protected(config)
    assert (result.kept, notes) == (3, [])
    assert before.read_bytes() != seal
    assert inspected(result.release, "--key", own).exit_code == ExitCode.SUCCESS


def test_an_older_release_is_protected_again_once(config: ProtectConfig) -> None:
    release = protect_folder(config, SilentProgress()).release
    (release / SEAL_PATH).unlink()
    result, notes = protected(config)
    assert (result.kept, result.protected) == (0, 7)
    assert "7 records of" in notes[0]
    assert "without a seal of this key" in notes[0]
    assert protected(config)[0].kept == 7


def test_where_no_key_can_be_kept_the_release_is_not_sealed_which_is_said(
    config: ProtectConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    result, notes = protected(config)
    assert result.exit_code is ExitCode.SUCCESS
    assert [note for note in notes if note.startswith("the records are not sealed: ")] == notes
    assert not (result.release / SEAL_PATH).exists()
    assert protected(config)[0].kept == 7


def test_a_key_of_the_variable_seals_too(config: ProtectConfig, monkeypatch: pytest.MonkeyPatch, other: Path) -> None:
    monkeypatch.setenv(VARIABLE, OTHER)
    release = protect_folder(config, SilentProgress()).release
    monkeypatch.delenv(VARIABLE)
    assert inspected(release, "--key", other).exit_code == ExitCode.SUCCESS


def test_a_key_made_for_the_seal_is_announced(
    config: ProtectConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "new"))
    _, notes = protected(config)
    assert notes == [
        f"created a key in {tmp_path}/new/mtlue/key, which seals your releases: keep it to yourself",
    ]


def test_a_checkpoint_has_no_seal(config: ProtectConfig, own: Path) -> None:
    result = inspected(Path(str(config.weights)), "--key", own)
    assert result.exit_code == ExitCode.INPUT
    assert "need a release, not a checkpoint" in result.stderr


class TestSigned:
    """Releases that are signed."""

    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("cryptography")

    @pytest.fixture
    def signed(self, config: ProtectConfig) -> ProtectConfig:
        return replace(config, sign=config.images.parent / "signer")

    def test_the_key_is_made_at_first_use_and_anyone_can_check(self, signed: ProtectConfig) -> None:
        assert signed.sign is not None
        progress = Notes()
        release = protect_folder(signed, progress).release
        assert any(line.startswith(f"created a signing key in {signed.sign}; publish") for line in progress.lines)
        assert signed.sign.stat().st_mode & 0o777 == 0o600
        public = read_public_key(Path(f"{signed.sign}.pub"))
        result = inspected(release, "--signer", f"{signed.sign}.pub")
        assert result.exit_code == ExitCode.SUCCESS, result.output
        assert f"the signature of {public.fingerprint}" in " ".join(result.stdout.split())
        assert f"signed by {public.fingerprint}" in " ".join(result.stdout.split())
        claimed = inspected(release, "--json")
        assert json.loads(claimed.stdout)["signer"] == public.fingerprint
        shown = " ".join(inspected(release).stdout.split())
        assert f"signed by {public.fingerprint}, as the seal says: check it with --signer FILE" in shown
        progress = Notes()
        before = (release / SEAL_PATH).read_bytes()
        protect_folder(signed, progress)
        assert f"signing with {signed.sign} ({public.fingerprint})" in progress.lines
        assert (release / SEAL_PATH).read_bytes() == before

    def test_a_dry_run_and_a_run_name_who_seals_and_signs(self, signed: ProtectConfig, own: Path) -> None:
        given = ["protect", signed.images, "--labels", signed.labels, "--weights", signed.weights, "--device", "cpu"]
        words = [*map(str, [*given, "--sign", signed.sign])]
        planned = RUNNER.invoke(app, [*words, "--dry-run", "--json"])
        key = find_key(own)
        assert planned.exit_code == ExitCode.SUCCESS, planned.output
        document = json.loads(planned.stdout)
        assert document["seal"] == f"{key.key.fingerprint}, from {own}"
        assert (document["key"], document["signer"]) == (None, f"a new key, in {signed.sign}")
        assert own.read_text().strip() not in planned.output
        result = protect_folder(signed, SilentProgress())
        public = read_public_key(Path(f"{signed.sign}.pub"))
        assert (result.signer, result.rows()["signed by"]) == (public.fingerprint, public.fingerprint)
        shown = RUNNER.invoke(app, [*words, "--dry-run"]).stdout
        assert re.search(rf"sealed with +{re.escape(key.key.fingerprint)}, from", shown)
        assert re.search(rf"signed by +{re.escape(public.fingerprint)}, from", shown)  # a table cuts long paths
        again = json.loads(RUNNER.invoke(app, [*words, "--dry-run", "--json"]).stdout)
        assert again["signer"] == f"{public.fingerprint}, from {signed.sign}"

    def test_another_signer_or_none_is_a_fault(self, signed: ProtectConfig, tmp_path: Path) -> None:
        release = protect_folder(signed, SilentProgress()).release
        signing_key(tmp_path / "another")
        result = inspected(release, "--signer", tmp_path / "another.pub")
        assert result.exit_code == ExitCode.NOT_PROTECTED
        assert "is not signed by SHA256:" in result.stderr
        protect_folder(replace(signed, sign=None), SilentProgress())
        assert inspected(release, "--signer", f"{signed.sign}.pub").exit_code == ExitCode.NOT_PROTECTED

    def test_a_seal_that_names_another_key_or_signer_is_a_fault(self, signed: ProtectConfig, own: Path) -> None:
        path = protect_folder(signed, SilentProgress()).release / SEAL_PATH
        sound, options = json.loads(path.read_text()), ("--key", own, "--signer", f"{signed.sign}.pub")
        for field, fault in (("key_fingerprint", "is made with the key"), ("signer", "is not signed by SHA256:")):
            path.write_text(
                json.dumps({**sound, field: sound[field][:-1] + "0123"[sound[field][-1] == "0"]}, indent=2) + "\n"
            )
            result = inspected(path.parents[1], *options)
            assert result.exit_code == ExitCode.NOT_PROTECTED
            assert fault in result.stderr

    def test_verify_takes_a_signer_for_a_release_alone(self, signed: ProtectConfig) -> None:
        signing_key(signed.images.parent / "signer")
        words = ["verify", signed.images, "--labels", signed.labels, "--weights", signed.weights]
        result = RUNNER.invoke(app, [*map(str, [*words, "--signer", f"{signed.sign}.pub"])])
        assert result.exit_code == ExitCode.INPUT
        assert "--signer needs --protected" in result.stderr

    def test_the_formats_of_openssh_and_pem_are_read(self, tmp_path: Path) -> None:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        made = signing_key(tmp_path / "signer")
        assert signing_key(tmp_path / "signer").public == made.public
        secret = Ed25519PrivateKey.generate()
        form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        pem = tmp_path / "signer.pem"
        pem.write_bytes(secret.private_bytes(serialization.Encoding.PEM, form, plain))
        pem.chmod(0o600)
        assert signing_key(pem).public.raw == secret.public_key().public_bytes_raw()
        line = secret.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        (tmp_path / "theirs.pub").write_bytes(line + b" someone@somewhere\n")
        assert read_public_key(tmp_path / "theirs.pub") == signing_key(pem).public
        odd = tmp_path / "odd"
        for content in (
            b"",
            b"nothing",
            X25519PrivateKey.generate().private_bytes(serialization.Encoding.PEM, form, plain),
            secret.private_bytes(serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"word")),
        ):
            odd.write_bytes(content)
            odd.chmod(0o600)
            with pytest.raises(InputError, match="holds no Ed25519 private key without a passphrase"):
                signing_key(odd)

    def test_what_is_no_public_key_is_refused(self, tmp_path: Path) -> None:
        signing_key(tmp_path / "signer")
        with pytest.raises(InputError, match="holds a private key") as caught:
            read_public_key(tmp_path / "signer")
        assert caught.value.hint == f"give the file {tmp_path / 'signer'}.pub"
        for text in ("", "ssh-rsa AAAA", "ssh-ed25519", "ssh-ed25519 ####", "ssh-ed25519 AAAA"):
            (tmp_path / "odd.pub").write_text(text)
            with pytest.raises(InputError, match="holds no Ed25519 public key"):
                read_public_key(tmp_path / "odd.pub")

    @pytest.mark.parametrize("mode", [0o644, 0o622])
    def test_a_signing_key_that_others_can_read_or_change_is_refused(self, tmp_path: Path, mode: int) -> None:
        signing_key(tmp_path / "signer")
        (tmp_path / "signer").chmod(mode)
        with pytest.raises(InputError, match="by others"):
            signing_key(tmp_path / "signer")

    def test_a_dry_run_makes_no_signing_key(self, signed: ProtectConfig) -> None:
        words = ["protect", signed.images, "--weights", signed.weights, "--sign", signed.sign, "--dry-run"]
        result = RUNNER.invoke(app, [*map(str, words)])
        assert result.exit_code == ExitCode.SUCCESS, result.output
        assert signed.sign is not None
        assert not signed.sign.exists()


def test_without_the_package_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    for use in (signing_key, read_public_key):
        with pytest.raises(InputError, match="need the package cryptography") as caught:
            use(tmp_path / "signer")
        assert caught.value.hint == "pip install 'mtlue[sign]'"


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b'{"schema_version": 2, "files": {}}', b'{"schema_version": 1}', b"[" * 100_000]
)
def test_a_damaged_seal_is_a_fault(config: ProtectConfig, content: bytes) -> None:
    release = protect_folder(config, SilentProgress()).release
    (release / SEAL_PATH).write_bytes(content)
    assert isinstance(read_seal(release), str)
    assert any(fault.startswith(f"{SEAL_PATH}: is damaged") for fault in Release(release).check().faults)
    assert protected(config)[0].kept == 0
    assert isinstance(read_seal(release), Seal)


@pytest.mark.parametrize("field", ["signature", "signer", "behind", "spaces"])
def test_a_seal_has_no_room_for_anything_else(config: ProtectConfig, own: Path, field: str) -> None:
    release = protect_folder(config, SilentProgress()).release
    path = release / SEAL_PATH
    hidden = (release.parent / "photos").joinpath(sorted(os.listdir(release.parent / "photos"))[0]).read_bytes()
    if field == "behind":
        path.write_bytes(path.read_bytes().ljust(1 << 20) + hidden)
    elif field == "spaces":
        path.write_bytes(path.read_bytes() + b" \t" * 100)
    else:
        path.write_text(json.dumps({**json.loads(path.read_text()), field: hidden.hex()}, indent=2) + "\n")
    found = inspect(release, key=own)
    assert isinstance(found, ReleaseCheck)
    assert [fault for fault in found.faults if fault.startswith(SEAL_PATH)]
    assert not found.authentication.by


@pytest.mark.parametrize("place", ["photos", "photos-protected"])
def test_a_signing_key_is_not_made_where_it_would_be_handed_on(config: ProtectConfig, place: str) -> None:
    pytest.importorskip("cryptography")
    sign = config.images.parent / place / "signer"
    with pytest.raises(InputError, match="would be handed on"):
        protect_folder(replace(config, sign=sign), SilentProgress())
    assert not sign.exists()


def test_a_public_key_without_its_private_half_is_not_replaced(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    (tmp_path / "signer.pub").write_text("of someone else")
    with pytest.raises(InputError, match="would be replaced"):
        signing_key(tmp_path / "signer")
    assert (tmp_path / "signer.pub").read_text() == "of someone else"
    assert not (tmp_path / "signer").exists()
