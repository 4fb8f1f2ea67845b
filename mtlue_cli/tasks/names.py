"""Names of columns as a user lists them, some of which hold a comma."""

from collections.abc import Collection


def resolved_names(listed: Collection[str], known: Collection[str]) -> tuple[str, ...]:
    """``listed`` with the parts of a name that holds commas put together again: ``width``, ``height``.

    A list such as ``--except "width, height"`` cannot tell one column called ``width, height`` from two. A part that
    ``known`` has as it stands is that column; else the most parts that make a known name are taken.

    Args:
        listed: Names, parted at every comma.
        known: The columns.
    """
    parts_of = {tuple(part.strip() for part in name.split(",") if part.strip()): name for name in known if "," in name}
    given, found, at = tuple(listed), [], 0
    while at < len(given):
        size = next((size for size in range(len(given) - at, 1, -1) if given[at : at + size] in parts_of), 0)
        if given[at] in known or not size:
            found.append(given[at])
            at += 1
        else:
            found.append(parts_of[given[at : at + size]])
            at += size
    return tuple(found)
