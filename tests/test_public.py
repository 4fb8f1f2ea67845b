"""The public names: loaded when they are asked for."""

import subprocess
import sys

import pytest

import mtlue_cli


def test_importing_the_package_loads_nothing_heavy() -> None:
    source = (
        "import sys, mtlue_cli; dir(mtlue_cli); heavy = {'torch', 'numpy', 'torchvision', 'typer'};"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    asked = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    assert asked.returncode == 0, asked.stderr


@pytest.mark.parametrize("name", mtlue_cli.__all__)
def test_every_public_name_is_there_and_listed(name: str) -> None:
    assert getattr(mtlue_cli, name) is getattr(mtlue_cli, name)
    assert name in dir(mtlue_cli)


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Missing'"):
        _ = mtlue_cli.Missing
