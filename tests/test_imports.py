"""The layers of the package: imports run strictly downward."""

import ast
from pathlib import Path

import pytest

import mtlue_cli

ROOT = Path(mtlue_cli.__file__).parent
LAYERS: tuple[tuple[str, ...], ...] = (
    ("trace",),
    ("api",),
    ("commands",),
    ("workflows",),
    ("verification",),
    ("training", "release"),
    ("generator", "objectives", "regularisers", "networks", "weightings", "metrics"),
    ("layouts",),
    ("perturbation", "images", "keys", "storage"),
    ("engines",),
    ("tasks", "devices"),
    ("isolation",),
    ("budget",),
    ("options",),
    ("choices", "documents", "errors", "files", "notebook"),
)
ROW = {package: row for row, packages in enumerate(LAYERS) for package in packages}
HEAVY = {"torch", "torchvision", "torchmetrics", "safetensors", "torchjd"}
MODULES = sorted(ROOT.rglob("*.py"))
LIGHT_WORKFLOWS = {
    f"mtlue_cli.workflows.{name}"
    for name in ("progress", "protect.config", "train.config", "verify.config", "demo_config", "trace.config")
}
"""Workflow modules that commands may import at module level: they import nothing heavy themselves."""

LAYERED = [path for path in MODULES if path.parent != ROOT or not path.name.startswith("__")]
"""All but the package's own entry points."""


def unit_of(path: Path) -> str:
    """First part of a module's path within the package: a package, or a module of its own."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_names(tree: ast.AST) -> list[tuple[str, int]]:
    """Every absolutely imported module, with its line; ``from a import b`` also as ``a.b``."""
    found: list[tuple[str, int]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.extend((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            found.append((node.module or "", node.lineno))
            found.extend((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
    return found


def upward_imports(unit: str, tree: ast.AST) -> list[str]:
    """Imports of ``tree`` that do not lead strictly downward from ``unit`` (or stay within it)."""
    faults: list[str] = []
    for name, line in imported_names(tree):
        parts = name.split(".")
        if parts[0] != "mtlue_cli" or len(parts) < 2 or parts[1].startswith("__") or parts[1] == unit:
            continue
        if parts[1] not in ROW:
            faults.append(f"line {line}: {name} is in no row of the design")
        elif ROW[parts[1]] <= ROW[unit]:
            faults.append(f"line {line}: {unit} imports {name}")
    return faults


@pytest.mark.parametrize("path", LAYERED, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_strictly_downward(path: Path) -> None:
    unit = unit_of(path)
    assert unit in ROW, f"{unit} is in no row of the design"
    assert upward_imports(unit, ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", sorted((ROOT / "commands").glob("*.py")), ids=lambda path: path.name)
def test_commands_import_nothing_heavy_at_module_level(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = [node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))]
    top = [node for node in guarded if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [name for name, _ in imported_names(ast.Module(body=list(top), type_ignores=[]))]
    heavy = [
        name
        for name in names
        if name.split(".")[0] in HEAVY
        or (name.startswith("mtlue_cli.workflows.") and not any(name.startswith(light) for light in LIGHT_WORKFLOWS))
    ]
    assert heavy == []


@pytest.mark.parametrize(
    ("unit", "source", "faulty"),
    [
        ("tasks", "from mtlue_cli.training.runtime import autocast", True),
        ("tasks", "from mtlue_cli import training", True),
        ("images", "import mtlue_cli.perturbation.bound", True),
        ("training", "from mtlue_cli.tasks.spec import TaskSet", False),
        ("training", "from mtlue_cli.training.runtime import autocast", False),
        ("generator", "from mtlue_cli import __version__", False),
        ("training", "from mtlue_cli.elsewhere import thing", True),
        ("errors", "def late() -> None:\n    import mtlue_cli.commands.app", True),
    ],
)
def test_the_check_itself_finds_upward_imports(unit: str, source: str, faulty: bool) -> None:
    assert bool(upward_imports(unit, ast.parse(source))) is faulty
