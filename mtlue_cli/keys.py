"""Keys: 32 secret bytes from which the codes of a keyed release are drawn.

A key is read from a file, from ``MTLUE_KEY``, or from the user's configuration folder, where the first run makes one.
Its bytes are never written or shown anywhere else; its fingerprint may be.
"""

import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from mtlue_cli.errors import InputError
from mtlue_cli.files import open_regular, write_atomically

KEY_BYTES = 32
VARIABLE = "MTLUE_KEY"

_HEX = re.compile(rf"[0-9a-fA-F]{{{2 * KEY_BYTES}}}")
_LONGEST_FILE = 4096
_LOCK_SECONDS = 30
_MAKE_ONE = "a key is 64 hexadecimal digits, such as: python3 -c 'import secrets; print(secrets.token_hex(32))'"


class Key:
    """A secret key. No text form of it, and no copy as a dictionary, holds the bytes.

    Args:
        secret: 32 bytes.

    Raises:
        ValueError: Another number of bytes.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(secret)}")
        self._secret = bytes(secret)

    @classmethod
    def read(cls, path: str | Path) -> "Key":
        """The key that a file holds.

        Raises:
            InputError: It cannot be read, or holds something else.
        """
        return read_key(Path(path)).key

    @property
    def fingerprint(self) -> str:
        """The public name of the key: 16 hexadecimal digits of an HMAC-SHA256 under it."""
        return self.derive(b"mtlue key fingerprint v1").hex()[:16]

    def derive(self, message: bytes) -> bytes:
        """HMAC-SHA256 of ``message`` under the key, 32 bytes."""
        return hmac.digest(self._secret, message, hashlib.sha256)

    def __repr__(self) -> str:
        return f"Key({self.fingerprint})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and hmac.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a key is not to be written anywhere")

    def __copy__(self) -> "Key":
        return self

    def __deepcopy__(self, memo: Mapping[int, object]) -> "Key":
        return self


@dataclass(frozen=True)
class FoundKey:
    """A key, where it was found in words, notes such as that others can read it, and whether it was made just now."""

    key: Key
    origin: str
    notes: tuple[str, ...] = ()
    made: bool = False

    def described(self) -> list[str]:
        """Notes for the user, one per line."""
        said = "created a key in" if self.made else "key from"
        warning = "keep it to yourself: whoever has it can recompute the perturbation and subtract it"
        first = f"{said} {self.origin}, fingerprint {self.key.fingerprint}"
        return [first, *([warning] if self.made else []), *self.notes]


def find_key(file: Path | None, environment: Mapping[str, str] | None = None, *, keep: bool = True) -> FoundKey:
    """The key of ``file``, else that of ``MTLUE_KEY`` (digits or a path), else the user's own, made if need be.

    Args:
        file: What ``--key`` named.
        environment: In place of the process's own.
        keep: Whether a key that is made is kept; else nothing is written.

    Raises:
        InputError: It cannot be read, is no key, or cannot be stored.
    """
    variables = os.environ if environment is None else environment
    given = variables.get(VARIABLE, "").strip()
    if file is not None:
        return read_key(file)
    if not given:
        return own_key(variables, keep=keep)
    if _HEX.fullmatch(given):
        return FoundKey(Key(bytes.fromhex(given)), f"the environment variable {VARIABLE}")
    if os.path.lexists(given):
        return read_key(Path(given))
    # It may be a key with a digit missing: not to be repeated on a terminal.
    raise InputError(f"{VARIABLE} is neither a key nor the path of a file that holds one", hint=_MAKE_ONE)


def read_key(path: Path) -> FoundKey:
    """The key that a file holds: 64 hexadecimal digits, with space around them or not.

    Raises:
        InputError: It cannot be read, or holds something else.
    """
    try:
        with open_regular(path) as stream:
            content = stream.read(_LONGEST_FILE) or b""
            mode = os.fstat(stream.fileno()).st_mode
    except OSError as error:
        raise InputError(f"the key {path} cannot be read: {error.strerror or error}", hint=_MAKE_ONE) from None
    # Nothing of the content is repeated: it may be nearly a key.
    text = content.decode("utf-8-sig", "replace").strip()
    if not _HEX.fullmatch(text):
        digits = 2 * KEY_BYTES
        odd = "not hexadecimal" if len(text) == digits else f"{len(text)} characters, expected {digits}"
        raise InputError(f"{path} holds no key: it is {odd}", hint=_MAKE_ONE)
    open_to_others = os.name == "posix" and mode & (stat.S_IRGRP | stat.S_IROTH)
    notes = (f"{path} can be read by others: chmod 600 {path}",) if open_to_others else ()
    return FoundKey(Key(bytes.fromhex(text)), str(path), notes)


def own_key_path(environment: Mapping[str, str]) -> Path:
    """``mtlue/key`` below ``XDG_CONFIG_HOME``, or below ``~/.config`` where that is not an absolute path."""
    configured = Path(environment.get("XDG_CONFIG_HOME", ""))
    base = configured if configured.is_absolute() else Path.home() / ".config"
    return base / "mtlue" / "key"


def own_key(environment: Mapping[str, str], *, keep: bool = True) -> FoundKey:
    """The user's own key; made if there is none. Of several processes that make one at once, all get the same.

    Raises:
        InputError: It cannot be read or stored.
    """
    elsewhere = "give one with --key FILE"
    try:
        path = own_key_path(environment)
    except RuntimeError as error:  # no home folder
        raise InputError(f"the key cannot be stored: {error}", hint=elsewhere) from None
    if os.path.lexists(path):
        return read_key(path)
    if not keep:
        return FoundKey(Key(secrets.token_bytes(KEY_BYTES)), str(path), made=True)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(path.with_name("key.lock"), timeout=_LOCK_SECONDS):
            if os.path.lexists(path):
                return read_key(path)
            made = Key(secrets.token_bytes(KEY_BYTES))
            write_atomically(path, f"{made._secret.hex()}\n".encode(), private=True)
    except Timeout:
        raise InputError(f"another process has held {path} for more than {_LOCK_SECONDS} s", hint=elsewhere) from None
    except OSError as error:
        raise InputError(f"the key cannot be written to {path}: {error.strerror or error}", hint=elsewhere) from None
    return FoundKey(made, str(path), made=True)
