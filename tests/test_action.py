"""The composite action: its inputs, the command that it makes of them, and how it ends."""

import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from mtlue_cli.commands.app import loaded

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".github" / "actions" / "verify"
DOCUMENTATION = ROOT / "docs" / "ci.md"
TEXT = (FOLDER / "action.yml").read_text(encoding="utf-8")
ACTION: dict[str, Any] = yaml.safe_load(TEXT)
STEPS: dict[str, dict[str, Any]] = {step["name"]: step for step in ACTION["runs"]["steps"]}
RECORDER = """#!/usr/bin/env bash
printf '%s\\n' "$@" > "$RECORD"
printf '%s' "$MTLUE_CACHE_KEY" > "$RECORD.cache"
while [ $# -gt 0 ]; do
  if [ "$1" = --markdown ]; then echo "## a summary" > "$2"; fi
  shift
done
exit "$ENDS_WITH"
"""


def test_every_input_that_is_used_is_declared_and_every_declared_one_used() -> None:
    assert set(re.findall(r"inputs\.([\w-]+)", TEXT)) == set(ACTION["inputs"])


def test_every_step_that_is_referred_to_is_there() -> None:
    ids = {step["id"] for step in STEPS.values() if "id" in step}
    assert set(re.findall(r"steps\.([\w-]+)\.", TEXT)) == ids
    written = set(re.findall(r'echo "([\w-]+)=', STEPS["Verify"]["run"]))
    assert set(re.findall(r"steps\.verify\.outputs\.([\w-]+)", TEXT)) == written


def test_no_input_reaches_a_script_but_as_a_variable() -> None:
    # An expression within a script would be pasted into it, quotes and all.
    scripts = [step["run"] for step in STEPS.values() if "run" in step]
    assert len(scripts) == 4
    assert not any("${{" in script for script in scripts)


def test_the_documentation_names_every_input_and_output() -> None:
    text = DOCUMENTATION.read_text(encoding="utf-8")
    for name in (*ACTION["inputs"], *ACTION["outputs"]):
        assert f"`{name}`" in text


def _options_used() -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][\w-]+", STEPS["Verify"]["run"]))


def test_every_option_that_it_uses_is_one_of_the_command() -> None:
    known = {option for parameter in loaded("verify").params for option in parameter.opts}
    documented = set(re.findall(r"^\| `(--[\w-]+)", DOCUMENTATION.read_text(encoding="utf-8"), flags=re.M))
    assert _options_used() >= {"--tier", "--json", "--junit", "--markdown", "--report"}
    assert sorted((_options_used() | documented) - known) == []


class Run:
    """The steps of the action with a recorder in the place of mtlue."""

    def __init__(self, folder: Path, ends_with: int) -> None:
        self.output, self.summary, self.record = folder / "output", folder / "summary", folder / "record"
        self.output.touch()
        self.summary.touch()
        program = folder / "bin" / "mtlue"
        program.parent.mkdir()
        program.write_text(RECORDER, encoding="utf-8")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self.environment = {
            "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
            "RUNNER_TEMP": str(folder),
            "GITHUB_OUTPUT": str(self.output),
            "GITHUB_STEP_SUMMARY": str(self.summary),
            "RECORD": str(self.record),
            "ENDS_WITH": str(ends_with),
        }

    def step(self, name: str, **inputs: str) -> int:
        """Run one step as a runner would: expressions in its environment replaced, with bash that ends at an error."""
        values = {key: str(entry.get("default", "")) for key, entry in ACTION["inputs"].items()}
        values.update({key.replace("_", "-"): value for key, value in inputs.items()})
        outputs = dict(line.split("=", 1) for line in self.output.read_text(encoding="utf-8").splitlines())

        def filled(match: re.Match[str]) -> str:
            kind, key = match.group(1), match.group(2)
            return values[key] if kind == "inputs." else outputs.get(key, "")

        expression = re.compile(r"\$\{\{ (inputs\.|steps\.verify\.outputs\.)([\w-]+) \}\}")
        given = {key: expression.sub(filled, value) for key, value in STEPS[name]["env"].items()}
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", STEPS[name]["run"]]
        return subprocess.run(command, env={**self.environment, **given}, check=False).returncode


def test_inputs_become_arguments_one_to_one(tmp_path: Path) -> None:
    run = Run(tmp_path, ends_with=0)
    hostile = "$(touch broken) \"; touch broken; 'x y"
    given = {"images": "my photos", "labels": hostile, "protected": "out", "max_learned": "0.1", "args": "--seed\n1\n"}
    assert run.step("Verify", **given) == 0
    arguments = run.record.read_text(encoding="utf-8").splitlines()
    assert arguments[:6] == ["verify", "my photos", "--labels", hostile, "--tier", "smoke"]
    assert arguments[-6:] == ["--protected", "out", "--max-learned", "0.1", "--seed", "1"]
    assert not {"--weights", "--test", "--test-labels", "--cache"} & set(arguments)
    assert not list(tmp_path.rglob("broken"))


@pytest.mark.parametrize("code", [0, 4, 5])
def test_it_posts_the_summary_and_ends_as_mtlue_does(tmp_path: Path, code: int) -> None:
    run = Run(tmp_path, ends_with=code)
    assert run.step("Verify", images="a", labels="b", weights="utkface", test="t", test_labels="l", cache="c") == 0
    assert run.step("Post the summary") == 0
    assert run.summary.read_text(encoding="utf-8") == "## a summary\n"
    assert run.step("Fail unless protected") == code


def test_secret_and_signer_reach_the_command_and_no_argument_holds_the_secret(tmp_path: Path) -> None:
    run = Run(tmp_path, ends_with=0)
    signer = "ssh-ed25519 AAAA someone"
    assert run.step("Verify", images="a", labels="b", protected="c", cache_key="5a", signer=signer) == 0
    arguments = run.record.read_text(encoding="utf-8").splitlines()
    assert "5a" not in arguments
    assert Path(f"{run.record}.cache").read_text() == "5a"
    assert arguments[-2] == "--signer"
    assert Path(arguments[-1]).read_text() == f"{signer}\n"
    assert Path(arguments[-1]).parent == tmp_path


def test_the_documented_cache_lies_outside_the_workspace() -> None:
    text = DOCUMENTATION.read_text(encoding="utf-8")
    github = text.split("## GitHub")[1].split("## GitLab")[0]
    assert "path: ~/.cache/mtlue/verify" in github
    assert "cache-key: ${{ secrets.MTLUE_CACHE_KEY }}" in github


def test_without_a_summary_it_says_so(tmp_path: Path) -> None:
    run = Run(tmp_path, ends_with=2)
    assert run.step("Verify", images="a", labels="b") == 0
    for written in tmp_path.glob("mtlue-verify.*/summary.md"):
        written.unlink()
    assert run.step("Post the summary") == 0
    assert "exit code 2" in run.summary.read_text(encoding="utf-8")
    assert run.step("Fail unless protected") == 2


def test_a_step_that_never_ran_is_no_success(tmp_path: Path) -> None:
    assert Run(tmp_path, ends_with=0).step("Fail unless protected") == 1
