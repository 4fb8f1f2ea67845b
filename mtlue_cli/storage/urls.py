"""URLs where a path is expected: which are taken, and what of them is never shown."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from mtlue_cli.errors import InputError

SCHEMES = ("s3", "gs", "hf", "https", "http", "memory")
READ_ONLY = ("https", "http")

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)
_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+:/+)[^/\s]*@")
_HOST = re.compile(r"[^@:]*(:\d+)?")
_QUERY = re.compile(r"((?:[A-Za-z][A-Za-z0-9+.-]+):/+[^\s?]*)\?[^\s'\")]*")
_SECRET = re.compile(r"SECRET|TOKEN|PASSWORD|PASSWD|ACCESS_KEY|CREDENTIAL|CONNECTION_STRING")
_LEAST_SECRET = 8
"""Characters of an environment variable from which it is taken for a secret, not for a switch."""

_FROM_ENVIRONMENT = "take it out: credentials come from the environment, see docs/storage.md"


class UrlPath(type(Path())):  # type: ignore[misc]  # the class of this system's paths
    """A URL where a path is expected; it leads to nothing on this machine."""

    def __str__(self) -> str:
        """The URL."""
        scheme, _, rest = super().__str__().replace("\\", "/").partition(":/")
        return _written(scheme, rest)


def url_of(path: Path) -> str | None:
    """The URL that a path was written as; None for a path of this machine."""
    found = _URL.fullmatch(str(path).replace("\\", "/"))
    return None if found is None or os.path.lexists(path) else _written(found[1], found[2])


def _written(scheme: str, rest: str) -> str:
    """A URL as it was typed before a path made one slash of several; that of a file names no host."""
    return f"{scheme.lower()}:{'///' if scheme.lower() == 'file' else '//'}{rest}"


def checked_url(path: Path, *, written: bool = False) -> str | None:
    """As :func:`url_of`; ``written`` says that a release is to be written there.

    Raises:
        InputError: It holds a user, a password or a query, cannot be read or written, or names nothing.
    """
    url = url_of(path)
    if url is None:
        return None
    scheme, _, rest = url.partition("://")
    # Nothing of it is shown before it is known to hold no secret.
    if not _HOST.fullmatch(rest.split("/")[0]):
        raise InputError(f"the {scheme}:// URL holds a user or a password", hint=_FROM_ENVIRONMENT)
    if re.search(r"[?#;]", rest) and ("?" in rest or "=" in rest):
        raise InputError(f"the {scheme}:// URL has a query, which may be a signature", hint=_FROM_ENVIRONMENT)
    if scheme not in SCHEMES:
        raise InputError(
            f"{url} cannot be read: the scheme {scheme} is not known",
            hint=f"use a path, or one of {', '.join(f'{known}://' for known in SCHEMES)}",
        )
    if "::" in url or not rest.strip("/") or ".." in rest.split("/"):
        raise InputError(f"{url} does not name a folder of an object store")
    if written and scheme in READ_ONLY:
        raise InputError(
            f"{url} cannot be written: {scheme}:// can only be read",
            hint="write to s3:// or gs://, or to a folder of this machine",
        )
    return url.rstrip("/")


def without_secrets(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """A text without users, passwords and queries of URLs, and without the values of secrets of the environment."""
    for name, value in environment.items():
        if len(value) >= _LEAST_SECRET and _SECRET.search(name.upper()):
            text = text.replace(value, "***")
    return _QUERY.sub(r"\1", _USER.sub(r"\1", text))
