"""Files changed at random: bytes flipped, cut and inserted; chunks, segments and JSON values moved and replaced."""

import json
import re
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
"""Sizes, counts and offsets that are at the edge of something."""
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 255, 256, 4096, 10**6, 2**31, 2**63, -(2**63), 10**400, 0.5, -0.0, 1e308),
    *(float("nan"), float("inf"), "", "0", "..", "/", "a\0b", "\ud800", "\u202e", "x" * 5000, [], {}, [[]], {"": None}),
)
"""Values in place of others in JSON."""
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
_STRING = re.compile(rb'"[^"]*"')


def mutated(content: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    """``content`` with one to four changes; ``others`` are files of the same kind to take pieces of."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        change = random.choice(_CHANGES)
        content = change(content, random, others)
    return content


def _flip(content: bytes, random: Random, others: Sequence[bytes]) -> bytes:  # noqa: ARG001 - the shape of a change
    if not content:
        return b"\0"
    changed = bytearray(content)
    within = len(content) if random.random() < 0.5 else min(len(content), 256)  # headers are where decisions are made
    for _ in range(random.choice((1, 1, 2, 8))):
        changed[random.randrange(within)] = random.randrange(256)
    return bytes(changed)


def _number(content: bytes, random: Random, others: Sequence[bytes]) -> bytes:  # noqa: ARG001 - as above
    width = random.choice((1, 2, 4, 8))
    if len(content) < width:
        return content
    at = random.randrange(min(len(content), random.choice((128, 1 << 20))) - width + 1 or 1)
    number = random.choice(NUMBERS) % (1 << (8 * width))
    return content[:at] + number.to_bytes(width, random.choice(("big", "little"))) + content[at + width :]


def _cut(content: bytes, random: Random, others: Sequence[bytes]) -> bytes:  # noqa: ARG001 - as above
    at = random.randint(0, len(content))
    return content[:at] if random.random() < 0.5 else content[:at] + content[at + random.randint(1, 64) :]


def _insert(content: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    at = random.randint(0, len(content))
    piece = random.randbytes(random.choice((1, 4, 64)))
    if others and random.random() < 0.5:
        other = random.choice(others)
        start = random.randint(0, len(other))
        piece = other[start : start + random.choice((16, 256, 4096))]
    return content[:at] + piece * random.choice((1, 1, 1, 50)) + content[at:]


def _splice(content: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    if not others:
        return content
    other = random.choice(others)
    return content[: random.randint(0, len(content))] + other[random.randint(0, len(other)) :]


def _parts(content: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    """Chunks, segments or lines repeated, dropped, moved, or changed with a checksum that fits."""
    split, joined = _format_of(content)
    parts = split(content)
    if len(parts) < 3:
        return content
    at, to = random.randrange(1, len(parts)), random.randrange(1, len(parts))
    action = random.randrange(5)
    if action == 0:
        parts[at:at] = [parts[to]] * random.choice((1, 1, 30))
    elif action == 1:
        del parts[at]
    elif action == 2:
        parts[at], parts[to] = parts[to], parts[at]
    elif action == 3:
        parts[at] = random.choice((_flip, _number, _insert))(parts[at], random, others)
    else:
        theirs = split(random.choice(others)) if others else parts
        parts[at:at] = theirs[1:][: random.choice((1, 3))]
    return joined(parts)


def _value(content: bytes, random: Random, others: Sequence[bytes]) -> bytes:  # noqa: ARG001 - as above
    """A value of a JSON document, or of a line of several, replaced; other content loses or repeats a string."""
    lines = content.split(b"\n")
    at = random.randrange(len(lines))
    for start, end in ((0, len(lines)), (at, at + 1)):
        try:
            document = json.loads(b"\n".join(lines[start:end]))
        except (ValueError, RecursionError):
            continue
        changed = json.dumps(with_other_value(document, random)).encode()
        return b"\n".join([*lines[:start], changed, *lines[end:]])
    strings = list(_STRING.finditer(content))
    if not strings:
        return content
    found = random.choice(strings)
    return content[: found.start()] + random.choice((b"", found.group() * 2, b"[" * 5000)) + content[found.end() :]


def with_other_value(document: Any, random: Random) -> Any:  # noqa: ANN401 - JSON
    """``document`` with one value somewhere in it replaced, left out or repeated."""
    if isinstance(document, dict) and document and random.random() < 0.9:
        key = random.choice(list(document))
        if random.random() < 0.1:
            return {name: value for name, value in document.items() if name != key}
        if random.random() < 0.05:
            return {**document, random.choice(("", "more", f"{key}2")): document[key]}
        return {**document, key: with_other_value(document[key], random)}
    if isinstance(document, list) and document and random.random() < 0.7:
        at = random.randrange(len(document))
        if random.random() < 0.1:
            return document + document[at:]
        return [*document[:at], with_other_value(document[at], random), *document[at + 1 :]]
    return random.choice(VALUES)


_CHANGES: tuple[Callable[[bytes, Random, Sequence[bytes]], bytes], ...] = (
    *(_flip, _flip, _number, _number, _cut, _insert, _splice, _parts, _parts, _value),
)


def _format_of(content: bytes) -> tuple[Callable[[bytes], list[bytes]], Callable[[list[bytes]], bytes]]:
    """What takes a file apart, and what puts it together."""
    if content.startswith(PNG):
        return _chunks, _png
    if content.startswith(JPEG):
        return _segments, b"".join
    if content.startswith(b"RIFF"):
        return _riff, b"".join
    return lambda whole: whole.splitlines(keepends=True), b"".join


def _chunks(content: bytes) -> list[bytes]:
    parts, at = [content[:8]], 8
    while at + 12 <= len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        parts.append(content[at:end])
        at = end
    return parts


def _png(parts: list[bytes]) -> bytes:
    """With lengths and checksums that fit: the decoder is to see what is in the chunks."""
    made = parts[:1]
    for part in parts[1:]:
        body = part[4:-4]
        made.append(max(0, len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big"))
    return b"".join(made)


def _segments(content: bytes) -> list[bytes]:
    parts, at = [content[:2]], 2
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != 0xDA:
        end = at + 2 + max(2, int.from_bytes(content[at + 2 : at + 4], "big"))
        parts.append(content[at:end])
        at = end
    return [*parts, content[at:]]


def _riff(content: bytes) -> list[bytes]:
    parts, at = [content[:12]], 12
    while at + 8 <= len(content):
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        end = at + 8 + size + size % 2
        parts.append(content[at:end])
        at = end
    return parts
