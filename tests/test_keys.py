"""Keys: where they come from, what is refused, and that nothing shows them."""

import copy
import json
import os
import pickle
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mtlue_cli import keys
from mtlue_cli.commands.app import app
from mtlue_cli.errors import InputError
from mtlue_cli.keys import (
    CACHE_VARIABLE,
    VARIABLE,
    FoundKey,
    Key,
    cache_key,
    find_key,
    own_key_path,
    present_keys,
    read_key,
)

DIGITS = "00112233445566778899aabbccddeeff" * 2
OTHER = "fe" * 16 + "0a" * 16


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(tmp_path / "config")}


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def test_the_fingerprint_is_the_documented_one() -> None:
    # From the command line: printf 'mtlue key fingerprint v1' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0011...
    assert Key(bytes.fromhex(DIGITS)).fingerprint == "86478b371ef45dec"


@pytest.mark.parametrize("text", [DIGITS, f"  {DIGITS}\r\n\n", DIGITS.upper(), f"\ufeff{DIGITS}\n"])
def test_a_key_is_read_whatever_stands_around_it(tmp_path: Path, text: str) -> None:
    found = read_key(write(tmp_path / "key", text))
    assert found.key == Key(bytes.fromhex(DIGITS))


@pytest.mark.parametrize(
    ("text", "reported"),
    [("", "0 characters"), (DIGITS[:-1], "63 characters"), (DIGITS + "00", "66 characters"), ("g" * 64, "not hexa")],
)
def test_what_is_no_key_is_refused_without_being_repeated(tmp_path: Path, text: str, reported: str) -> None:
    path = write(tmp_path / "key", text)
    with pytest.raises(InputError, match=reported) as caught:
        read_key(path)
    assert not text or text[:20] not in f"{caught.value}{caught.value.faults}{caught.value.hint}"


def test_a_key_is_read_by_its_path(tmp_path: Path) -> None:
    path = write(tmp_path / "my.key", DIGITS)
    assert Key.read(path) == Key.read(str(path)) == Key(bytes.fromhex(DIGITS))
    with pytest.raises(InputError, match="cannot be read"):
        Key.read(tmp_path / "nothing")


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("absent", "pipe", "."):
        with pytest.raises(InputError, match="cannot be read"):
            read_key(tmp_path / name)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o622, 0o620, 0o602, 0o666, 0o610])
def test_a_key_that_others_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "my key", DIGITS, mode)
    with pytest.raises(InputError, match=f"can be read or changed by others .its mode is {mode:04o}") as caught:
        read_key(path)
    assert caught.value.hint == f"chmod 600 '{path}'"
    path.chmod(0o400)
    assert read_key(path).key == Key(bytes.fromhex(DIGITS))


def test_modes_count_for_nothing_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "key", DIGITS, 0o666)
    monkeypatch.setattr(keys, "_IS_POSIX", False)
    assert read_key(path).key == Key(bytes.fromhex(DIGITS))


def test_a_key_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "key", DIGITS)
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(InputError, match="belongs to another user") as caught:
        read_key(path)
    assert "chown" in (caught.value.hint or "")


@pytest.mark.parametrize("byte", ["00", "ff", "5a"])
def test_a_key_that_anyone_can_guess_is_refused(tmp_path: Path, environment: dict[str, str], byte: str) -> None:
    with pytest.raises(InputError, match="same byte 32 times"):
        read_key(write(tmp_path / "key", byte * 32))
    with pytest.raises(InputError, match="same byte 32 times"):
        find_key(None, {**environment, VARIABLE: byte * 32})


@pytest.mark.parametrize(
    "given",
    [
        *(DIGITS, DIGITS[:-1], f"0x{DIGITS}", DIGITS[:32], DIGITS.upper()),
        # With a typing error, or what was copied with it.
        *(f"{DIGITS[:63]}O", f"{DIGITS}.", f"'{DIGITS}'", f"key={DIGITS}", f"hex:{DIGITS}", f"{DIGITS}/key"),
        DIGITS[:20] + "g" + DIGITS[20:],
    ],
)
def test_a_key_in_place_of_its_file_is_not_repeated(given: str) -> None:
    with pytest.raises(InputError, match="looks like a key itself") as caught:
        read_key(Path(given))
    assert given[:16] not in f"{caught.value}{caught.value.faults}{caught.value.hint}"
    for command in (["protect", ".", "--quick"], ["inspect", "."]):
        result = CliRunner().invoke(app, [*command, "--key", given])
        assert given[:16] not in result.output
    named = {"PATH": os.environ["PATH"], CACHE_VARIABLE: given[:-2]}
    with pytest.raises(InputError) as refused:
        cache_key(named)
    assert given[:16] not in f"{refused.value}{refused.value.faults}{refused.value.hint}"


def test_the_key_of_the_cache_is_that_of_its_variable_or_the_own_one(environment: dict[str, str]) -> None:
    assert cache_key({**environment, CACHE_VARIABLE: DIGITS}).key == Key(bytes.fromhex(DIGITS))
    assert cache_key(environment).key == find_key(None, environment).key


def test_keys_that_are_there_are_found_and_none_is_made(environment: dict[str, str]) -> None:
    assert present_keys(environment) == ()
    assert not own_key_path(environment).exists()
    own = find_key(None, environment).key
    assert present_keys(environment) == (own,)
    assert present_keys({**environment, VARIABLE: DIGITS}) == (Key(bytes.fromhex(DIGITS)), own)
    own_key_path(environment).chmod(0o644)
    assert present_keys({**environment, VARIABLE: "nothing"}) == ()


def test_nothing_shows_or_copies_the_bytes() -> None:
    key = Key(bytes.fromhex(DIGITS))
    shown = [repr(key), str(key), f"{key}", str(asdict(FoundKey(key, "a file"))), json.dumps({"k": key}, default=str)]
    assert all(DIGITS[:16] not in text and "\\x11" not in text for text in shown)
    assert copy.deepcopy(key) == key
    with pytest.raises(TypeError, match="not to be written"):
        pickle.dumps(key)
    assert key != Key(bytes.fromhex(OTHER))
    with pytest.raises(ValueError, match="32 bytes"):
        Key(b"short")


def test_the_option_goes_before_the_variable_and_that_before_the_own_key(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    file = write(tmp_path / "file", OTHER)
    for value in (DIGITS, f" {DIGITS}\n", str(write(tmp_path / "other", DIGITS))):
        given = {**environment, VARIABLE: value}
        assert find_key(None, given).key == Key(bytes.fromhex(DIGITS))
        assert find_key(file, given).key == Key(bytes.fromhex(OTHER))
    assert not own_key_path(environment).exists()
    assert find_key(None, environment).key not in (Key(bytes.fromhex(DIGITS)), Key(bytes.fromhex(OTHER)))


def test_a_variable_that_is_neither_is_refused_without_being_repeated(environment: dict[str, str]) -> None:
    with pytest.raises(InputError, match=VARIABLE) as caught:
        find_key(None, {**environment, VARIABLE: DIGITS[:-2]})
    assert DIGITS[:20] not in f"{caught.value}{caught.value.hint}"


def test_the_own_key_is_made_once_for_its_owner_alone(environment: dict[str, str]) -> None:
    before = os.umask(0o022)
    try:
        made = find_key(None, environment)
    finally:
        os.umask(before)
    path = own_key_path(environment)
    assert (made.made, made.origin) == (True, str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    again = find_key(None, environment)
    assert (again.key, again.made) == (made.key, False)
    assert made.key.fingerprint in " ".join(made.described())


def test_without_the_variable_it_is_below_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ({}, {"XDG_CONFIG_HOME": ""}, {"XDG_CONFIG_HOME": "relative"}):
        assert own_key_path(value) == tmp_path / ".config" / "mtlue" / "key"


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("a file")
    with pytest.raises(InputError, match="the key cannot be written"):
        find_key(None, {"XDG_CONFIG_HOME": str(tmp_path / "config")})


def test_processes_that_make_it_at_once_get_the_same(environment: dict[str, str]) -> None:
    program = "from mtlue_cli.keys import find_key; print(find_key(None).key.fingerprint)"
    running = [
        subprocess.Popen([sys.executable, "-c", program], env={**os.environ, **environment}, stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    printed = {process.communicate()[0].strip() for process in running}
    assert {process.returncode for process in running} == {0}
    assert printed == {find_key(None, environment).key.fingerprint.encode()}
