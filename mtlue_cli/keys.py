"""Keys: 32 secret bytes from which the codes of a keyed release are drawn.

A key is read from a file, from ``MTLUE_KEY``, or from the user's configuration folder, where the first run makes one.
Its bytes are never written or shown anywhere else; its fingerprint may be. A file that others can read or write is
refused, as OpenSSH refuses a private key.
"""

import contextlib
import hashlib
import hmac
import os
import re
import secrets
import shlex
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from mtlue_cli.errors import InputError
from mtlue_cli.files import open_regular, write_atomically

KEY_BYTES = 32
VARIABLE = "MTLUE_KEY"
CACHE_VARIABLE = "MTLUE_CACHE_KEY"
"""The key under which finished victims are cached, where computers share a cache."""

_HEX = re.compile(rf"[0-9a-fA-F]{{{2 * KEY_BYTES}}}")
_DIGITS = re.compile(r"[^0-9a-fA-F]+")
_LIKE_A_KEY = 32
"""Hexadecimal digits in a name, a few other characters among them, from which it may be a key with a typing error."""
_IS_POSIX = os.name == "posix"
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

    def begun(self, message: bytes) -> hmac.HMAC:
        """HMAC-SHA256 under the key of a message that begins with ``message``; the caller copies it and goes on."""
        return hmac.new(self._secret, message, hashlib.sha256)

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
    """A key, where it was found in words, and whether it was made just now."""

    key: Key
    origin: str
    made: bool = False

    def described(self) -> list[str]:
        """Notes for the user, one per line."""
        said = "created a key in" if self.made else "key from"
        warning = "keep it to yourself: whoever has it can recompute the perturbation and subtract it"
        first = f"{said} {self.origin}, fingerprint {self.key.fingerprint}"
        return [first, *([warning] if self.made else [])]

    def in_words(self) -> str:
        """Its public name and where it is; one that was made just now may be made anew by the next run."""
        return key_in_words(self.key.fingerprint, self.origin, made=self.made)

    def announced(self, use: str) -> tuple[str, ...]:
        """A note for the user if the key was made just now; ``use`` says what it does."""
        return (f"created a key in {self.origin}, which {use}: keep it to yourself",) if self.made else ()


def key_in_words(fingerprint: str, place: str, *, made: bool) -> str:
    """The public name of a secret and where it is; one that was ``made`` just now has no name that lasts."""
    return f"a new key, in {place}" if made else f"{fingerprint}, from {place}"


def find_key(file: Path | None, environment: Mapping[str, str] = os.environ, *, keep: bool = True) -> FoundKey:
    """The key of ``file``, else that of ``MTLUE_KEY`` (digits or a path), else the user's own, made if need be.

    Args:
        file: What ``--key`` named.
        environment: Environment variables.
        keep: Whether a key that is made is kept; else nothing is written.

    Raises:
        InputError: It cannot be read, is no key, or cannot be stored.
    """
    if file is not None:
        return read_key(file)
    return key_of_variable(VARIABLE, environment) or own_key(environment, keep=keep)


def cache_key(environment: Mapping[str, str] = os.environ) -> FoundKey:
    """The key under which finished victims are cached: that of ``MTLUE_CACHE_KEY``, else of the user's own.

    Raises:
        InputError: As :func:`find_key`.
    """
    return key_of_variable(CACHE_VARIABLE, environment) or own_key(environment)


def present_keys(environment: Mapping[str, str] = os.environ) -> tuple[Key, ...]:
    """The keys that are there without being named: of ``MTLUE_KEY`` and the user's own; makes and refuses none."""
    found: list[FoundKey | None] = []
    with contextlib.suppress(InputError):
        found.append(key_of_variable(VARIABLE, environment))
    with contextlib.suppress(InputError):
        found.append(own_key(environment, keep=False))
    return tuple(key.key for key in found if key is not None and not key.made)


def key_of_variable(name: str, variables: Mapping[str, str]) -> FoundKey | None:
    """The key whose digits, or the path of whose file, an environment variable holds; None if it is empty.

    Raises:
        InputError: It holds something else.
    """
    given = variables.get(name, "").strip()
    if not given:
        return None
    if _HEX.fullmatch(given):
        return FoundKey(_key_of(given, name), f"the environment variable {name}")
    if os.path.lexists(given):
        return read_key(Path(given))
    # It may be a key with a digit missing: not to be repeated on a terminal.
    raise InputError(f"{name} is neither a key nor the path of a file that holds one", hint=_MAKE_ONE)


def read_key(path: Path) -> FoundKey:
    """The key that a file holds: 64 hexadecimal digits, with space around them or not.

    Raises:
        InputError: It cannot be read, others can read or write it, or it holds something else.
    """
    # Nothing of the content is repeated: it may be nearly a key.
    text = read_secret(path).decode("utf-8-sig", "replace").strip()
    if not _HEX.fullmatch(text):
        digits = 2 * KEY_BYTES
        odd = "not hexadecimal" if len(text) == digits else f"{len(text)} characters, expected {digits}"
        raise InputError(f"{path} holds no key: it is {odd}", hint=_MAKE_ONE)
    return FoundKey(_key_of(text, str(path)), str(path))


def read_secret(path: Path) -> bytes:
    """Content of a small file that only its owner can read and write; modes count for nothing on Windows.

    Raises:
        InputError: It cannot be read, or others can read or write it.
    """
    if any(_is_like_a_key(part) for part in path.parts) and not os.path.lexists(path):
        raise InputError(
            "the path of a file that holds a key was expected, and what was given looks like a key itself",
            hint="a command line stays in the shell's history: make a new key, and write it to a file that only you "
            "can read",
        )
    try:
        with open_regular(path) as stream:
            status = os.fstat(stream.fileno())
            if _IS_POSIX:
                _refuse_open(path, status)
            return stream.read(_LONGEST_FILE) or b""
    except OSError as error:
        raise InputError(f"the key {path} cannot be read: {error.strerror or error}", hint=_MAKE_ONE) from None


def _is_like_a_key(name: str) -> bool:
    """Whether a name is mostly the digits of a key, though perhaps with one missing, wrong or too many."""
    digits = len(_DIGITS.sub("", name))
    return digits >= _LIKE_A_KEY and 4 * digits >= 3 * len(name.replace(":", "").replace(" ", ""))


def _refuse_open(path: Path, status: os.stat_result) -> None:
    """Refuse a file that belongs to neither the user nor root, or that others can read, write or run."""
    if status.st_uid not in (os.geteuid(), 0):
        raise InputError(
            f"the key {path} belongs to another user, who can read and change it",
            hint=f"make it yours: chown {os.geteuid()} {shlex.quote(str(path))}",
        )
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InputError(
            f"the key {path} can be read or changed by others (its mode is {stat.S_IMODE(status.st_mode):04o})",
            hint=f"chmod 600 {shlex.quote(str(path))}",
        )


def _key_of(digits: str, origin: str) -> Key:
    """The key of 64 digits.

    Raises:
        InputError: All its bytes are the same, so that anyone can guess it.
    """
    secret = bytes.fromhex(digits)
    if _is_guessable(secret):
        raise InputError(
            f"the key of {origin} is the same byte {KEY_BYTES} times, which anyone can guess", hint=_MAKE_ONE
        )
    return Key(secret)


def _is_guessable(secret: bytes) -> bool:
    return len(set(secret)) == 1


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
