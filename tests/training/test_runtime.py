import hashlib

import torch

from mtlue_cli.training.runtime import data_digest

VALUES = torch.arange(12, dtype=torch.uint8)
A, B = torch.tensor([0, 1]), torch.tensor([1, -1])


def test_the_digest_is_the_one_that_checkpoints_record() -> None:
    written = b"(3, 4)" + bytes(range(12)) + b"a\0" + A.numpy().tobytes() + b"b\0" + B.numpy().tobytes()
    assert data_digest(VALUES.view(3, 4), {"b": B, "a": A}) == hashlib.sha256(written).hexdigest()


def test_the_digest_follows_values_shape_and_labels() -> None:
    changed = VALUES.clone()
    changed[7] += 1
    views = [VALUES, VALUES.view(3, 4), VALUES.view(4, 3), changed]
    assert len({data_digest(view, {}) for view in views}) == len(views)
    assert data_digest(VALUES, {"a": A, "b": B}) != data_digest(VALUES, {"a": B, "b": A})


def test_the_digest_ignores_the_layout_in_memory() -> None:
    assert data_digest(VALUES.view(3, 4).T, {}) == data_digest(VALUES.view(3, 4).T.contiguous(), {})
