"""The shipped ``default`` weights can be written again."""

import runpy
from pathlib import Path

import pytest
import torch

from mtlue_cli.generator.checkpoint import load_checkpoint
from mtlue_cli.generator.shipped import weights_folder
from mtlue_cli.workflows.train import closed_form
from mtlue_cli.workflows.train.closed_form import write_closed_form


def test_the_shipped_weights_are_written_again(tmp_path: Path) -> None:
    shipped = load_checkpoint(weights_folder() / "default.safetensors")
    card = write_closed_form(tmp_path / "default.safetensors")
    written = load_checkpoint(tmp_path / "default.safetensors")
    assert written.card == card
    for part in ("universal", "epsilon", "image_size", "objective", "generator", "licence"):
        assert getattr(card, part) == getattr(shipped.card, part)
    expected = shipped.generator.state_dict()
    tensors = written.generator.state_dict()
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(tensor, expected[name])  # another platform may round otherwise
    assert not written.generator.decoder.draws


def test_the_documented_command_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "any.safetensors"
    monkeypatch.setattr("sys.argv", ["closed_form", str(out)])
    runpy.run_path(closed_form.__file__, run_name="__main__")
    assert load_checkpoint(out).card.universal
