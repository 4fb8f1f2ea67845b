"""The demo at its full size, with the networks that a user gets."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mtlue_cli.commands.app import app


@pytest.mark.slow
def test_demo_protects_as_its_own_verification_says(tmp_path: Path) -> None:
    out, target = tmp_path / "demo", tmp_path / "demo.json"
    result = CliRunner().invoke(app, ["demo", "--out", str(out), "--device", "cpu", "--json", str(target)])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
    assert found["schema_version"] == 1
    verification = found["verification"]
    assert verification["verdict"] == "protected"
    clean, _, noise = verification["conditions"][:3]
    for task in clean["tasks"]:
        assert task["accuracy"]["mean"] > task["floor"] + 0.3, task
    assert noise["average"]["learned_fraction"]["mean"] > 0.5
    for place in ("images", "labels", "checkpoint", "contact_sheet", "release"):
        assert Path(found[place]).exists()
        assert found[place] in result.stderr or place == "labels"
    assert Path(found["scenes"]["contact_sheet"]).exists()
    assert found["scenes"]["verification"] is None
    assert "600 protected" in result.stdout
