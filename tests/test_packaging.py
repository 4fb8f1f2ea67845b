"""The wheel carries the weights, and an installed mtlue finds them by name."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_holds_every_shipped_checkpoint(unpacked: Path) -> None:
    shipped = sorted(path.name for path in (ROOT / "weights").glob("*.safetensors"))
    assert "utkface.safetensors" in shipped
    assert sorted(path.name for path in (unpacked / "mtlue_cli" / "_weights").glob("*.safetensors")) == shipped


def test_the_wheel_holds_what_the_html_report_is_made_of(unpacked: Path) -> None:
    folder = Path("mtlue_cli", "verification", "reports")
    parts = {path.name for path in (ROOT / folder).iterdir() if path.suffix in {".css", ".jinja"}}
    assert "report.html.jinja" in parts
    assert parts <= {path.name for path in (unpacked / folder).iterdir()}


@pytest.mark.parametrize("name", ["worth.json", "copy.html.jinja"])
def test_the_wheel_holds_the_data_of_trace_copy(name: str, unpacked: Path) -> None:
    file = Path("mtlue_cli", "workflows", "trace", name)
    assert (unpacked / file).read_bytes() == (ROOT / file).read_bytes()


def test_an_installed_package_finds_weights_by_name(unpacked: Path) -> None:
    code = (
        "from mtlue_cli.generator.shipped import shipped_weights, resolve_weights\n"
        "from mtlue_cli.generator.checkpoint import read_card\n"
        "card = read_card(shipped_weights()['utkface'])\n"
        "print(resolve_weights('utkface', card.tasks), card.epsilon)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    found = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=unpacked, env=environment
    )
    assert found.stdout.split() == [str(unpacked / "mtlue_cli" / "_weights" / "utkface.safetensors"), "8"]
