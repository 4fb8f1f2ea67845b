"""Ed25519 signatures of releases, by the optional package ``cryptography``."""

import base64
import binascii
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mtlue_cli.errors import InputError
from mtlue_cli.files import open_regular, write_atomically
from mtlue_cli.keys import key_in_words, read_secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PUBLIC_SUFFIX = ".pub"
"""Added to the name of a signing key for the file of its public half."""

_LONGEST_FILE = 4096
_KIND = b"ssh-ed25519"
_PREFIX = b"\0\0\0\x0bssh-ed25519\0\0\0\x20"
"""What stands before the 32 bytes of an Ed25519 public key in OpenSSH's format (RFC 4253, 6.6 and RFC 8709)."""
_INSTALL = "pip install 'mtlue[sign]'"


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 public key: 32 bytes."""

    raw: bytes

    @property
    def hex(self) -> str:
        """Its bytes, hexadecimal."""
        return self.raw.hex()

    @property
    def line(self) -> bytes:
        """It as OpenSSH writes it."""
        return _KIND + b" " + base64.b64encode(_PREFIX + self.raw) + b"\n"

    @property
    def fingerprint(self) -> str:
        """Its public name, as ``ssh-keygen -l`` shows it."""
        digest = hashlib.sha256(_PREFIX + self.raw).digest()
        return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"

    def has_signed(self, signature: str, message: bytes) -> bool:
        """Whether ``signature``, hexadecimal, is of ``message``."""
        _require()
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(bytes.fromhex(signature), message)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, repr=False)
class SigningKey:
    """An Ed25519 private key, and whether it was made just now."""

    private: "Ed25519PrivateKey"
    path: Path
    made: bool = False

    @property
    def public(self) -> PublicKey:
        """Its public half."""
        return PublicKey(self.private.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> str:
        """Signature of ``message``, hexadecimal."""
        return self.private.sign(message).hex()

    def in_words(self) -> str:
        """The public name of its public half and where it is, as :meth:`~mtlue_cli.keys.FoundKey.in_words`."""
        return key_in_words(self.public.fingerprint, str(self.path), made=self.made)

    def described(self) -> str:
        """A note for the user."""
        if self.made:
            public = f"{self.path}{PUBLIC_SUFFIX}"
            return (
                f"created a signing key in {self.path}; publish its public half, {public} ({self.public.fingerprint})"
            )
        return f"signing with {self.path} ({self.public.fingerprint})"


def read_public_key(path: Path) -> PublicKey:
    """The public key of a file in OpenSSH's format: ``ssh-ed25519 AAAA... comment``.

    Raises:
        InputError: It cannot be read, or holds something else.
    """
    _require()
    try:
        with open_regular(path) as stream:
            content = stream.read(_LONGEST_FILE) or b""
    except OSError as error:
        raise InputError(f"the public key {path} cannot be read: {error.strerror or error}") from None
    words = content.split()
    try:
        blob = base64.b64decode(words[1], validate=True) if len(words) > 1 and words[0] == _KIND else b""
    except (binascii.Error, ValueError):
        blob = b""
    if len(blob) != len(_PREFIX) + 32 or not blob.startswith(_PREFIX):
        private = b"PRIVATE KEY" in content
        raise InputError(
            f"{path} holds {'a private key' if private else 'no Ed25519 public key'}, expected one line that begins "
            "with ssh-ed25519",
            hint=f"give the file {path}{PUBLIC_SUFFIX}"
            if private
            else "mtlue protect --sign FILE makes one, and so does ssh-keygen",
        )
    return PublicKey(blob[len(_PREFIX) :])


def signing_key(path: Path, *, keep: bool = True) -> SigningKey:
    """The signing key of a file in OpenSSH's or PEM format; made, with its public half beside it, if there is no file.

    Raises:
        InputError: It cannot be read or written, others can read or write it, or it is no Ed25519 key without a
            passphrase.
    """
    _require()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if not path.exists():
        private = Ed25519PrivateKey.generate()
        made = SigningKey(private, path, made=True)
        form = serialization.PrivateFormat.OpenSSH
        text = private.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        if keep and os.path.lexists(public := path.with_name(path.name + PUBLIC_SUFFIX)):
            raise InputError(
                f"{path} does not exist, but {public} does: it would be replaced by the public half of another key",
                hint=f"put the key of {public} back, or name another file",
            )
        try:
            if keep:
                write_atomically(path.with_name(path.name + PUBLIC_SUFFIX), made.public.line)
                write_atomically(path, text, private=True)
        except OSError as error:
            raise InputError(f"the signing key {path} cannot be written: {error.strerror or error}") from None
        return made
    content = read_secret(path)
    try:
        openssh = re.match(rb"\s*-----BEGIN OPENSSH PRIVATE KEY-----", content)
        load = serialization.load_ssh_private_key if openssh else serialization.load_pem_private_key
        found = load(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        found = None
    if not isinstance(found, Ed25519PrivateKey):
        raise InputError(
            f"{path} holds no Ed25519 private key without a passphrase",
            hint="name a file that does not exist to have one made, or make one with ssh-keygen -t ed25519 -N ''",
        )
    return SigningKey(found, path)


def _require() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise InputError("signatures need the package cryptography", hint=_INSTALL) from None
