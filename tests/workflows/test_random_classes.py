import hashlib
from collections import Counter
from itertools import pairwise

from mtlue_cli.choices import TaskKind
from mtlue_cli.keys import Key
from mtlue_cli.tasks.spec import Task, TaskSet
from mtlue_cli.workflows.protect.photos import random_classes

TASKS = TaskSet(
    (
        Task("colour", TaskKind.CATEGORICAL, ("red", "green", "blue")),
        Task("round", TaskKind.BINARY, ("0", "1")),
        Task("mask", TaskKind.SEGMENTATION, ("0", "1")),
    )
)
KEY = Key(bytes(range(32)))


def drawn(content: str, weights: str = "w", key: Key | None = None) -> dict[str, int]:
    return random_classes(TASKS, content, weights, key)


def test_the_same_image_gets_the_same_classes_and_maps_are_left_alone() -> None:
    assert drawn("a") == drawn("a")
    assert drawn("a").keys() == {"colour", "round"}
    assert drawn("a", "one", KEY) == drawn("a", "two", KEY)


def test_classes_by_hand() -> None:
    words = b"".join(len(word).to_bytes(8, "big") + word for word in (b"mtlue random class v1", b"a", b"colour"))
    assert drawn("a", key=KEY)["colour"] == int.from_bytes(KEY.derive(words), "big") % 3


def test_content_weights_and_key_decide_and_all_classes_are_as_frequent() -> None:
    contents = [hashlib.sha256(bytes([number % 256, number // 256])).hexdigest() for number in range(600)]
    columns = [
        [drawn(content, weights, key) for content in contents]
        for weights, key in (("v", None), ("w", None), ("w", KEY))
    ]
    for one in columns:
        counts = Counter(classes["colour"] for classes in one)
        assert all(160 < counts[index] < 240 for index in range(3))
        assert 250 < sum(classes["round"] for classes in one) < 350
        agree = sum(first["colour"] == 2 * first["round"] for first in one)
        assert 150 < agree < 250
    for one, two in pairwise(columns):
        alike = sum(a["colour"] == b["colour"] for a, b in zip(one, two, strict=True))
        assert 150 < alike < 250
