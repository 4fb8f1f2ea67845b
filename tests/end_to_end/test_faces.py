"""The commands as a user runs them, on real faces: bound on every file, recovery from a kill, verdict, training."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FACES = Path(__file__).parents[3] / "shared" / "data" / "utkface"
COUNT = 300

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FACES.is_dir(), reason="the real images of ../shared/data are not here"),
]


def mtlue(*arguments: object, check: bool = True) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "mtlue_cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check:
        assert done.returncode == 0, done.stderr
    return done


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a release but the record of the run, which holds times."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "run.json"
    }


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first few hundred training faces with their labels."""
    folder = tmp_path_factory.mktemp("faces")
    header, *rows = (FACES / "train" / "labels.csv").read_text().splitlines()
    for row in rows[:COUNT]:
        name = row.split(",")[0]
        shutil.copyfile(FACES / "train" / name, folder / name)
    (folder / "labels.csv").write_text("\n".join([header, *rows[:COUNT]]) + "\n")
    return folder


@pytest.fixture(scope="module")
def release(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The faces protected by the shipped weights that were trained for their columns."""
    out = tmp_path_factory.mktemp("out") / "release"
    mtlue("protect", faces, "--labels", faces / "labels.csv", "--weights", "utkface", "--out", out)
    return out


def test_every_saved_file_is_within_the_bound_and_changed(faces: Path, release: Path) -> None:
    rows = (release / "labels.csv").read_text().splitlines()[1:]
    assert len(rows) == COUNT
    for row in rows:
        name = row.split(",")[0]
        with Image.open(release / name) as saved, Image.open(faces / f"{Path(name).stem}.jpg") as original:
            change = np.asarray(saved.convert("RGB"), int) - np.asarray(original.convert("RGB"), int)
        assert np.abs(change).max() <= 8
        assert np.abs(change).mean() > 4


def test_a_killed_run_continues_to_the_same_bytes(faces: Path, release: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "mtlue_cli", "protect", str(faces), "--labels", str(faces / "labels.csv")]
    command += ["--weights", "utkface", "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(out.glob("*.png"))) < COUNT // 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    written = len(list(out.glob("*.png")))
    assert COUNT // 3 <= written < COUNT
    done = mtlue("protect", faces, "--labels", faces / "labels.csv", "--weights", "utkface", "--out", out, "--json")
    assert json.loads(done.stdout)["already_protected"] > 0
    assert tree(out) == tree(release)


def test_the_release_is_whole_until_a_byte_changes(faces: Path, release: Path, tmp_path: Path) -> None:
    mtlue("inspect", release, "--against", faces)
    copy = tmp_path / "copy"
    shutil.copytree(release, copy)
    victim = sorted(copy.glob("*.png"))[5]
    with Image.open(victim) as image:
        pixels = np.array(image.convert("RGB"))
    pixels[0, 0, 0] ^= 64
    Image.fromarray(pixels).save(victim)
    broken = mtlue("inspect", copy, "--against", faces, check=False)
    assert broken.returncode == 4
    assert victim.name in broken.stdout + broken.stderr


def test_the_shipped_weights_protect_and_noise_does_not(tmp_path: Path) -> None:
    done = mtlue(
        *("verify", FACES / "train", "--labels", FACES / "train" / "labels.csv", "--weights", "utkface"),
        *("--test", FACES / "test", "--test-labels", FACES / "test" / "labels.csv"),
        *("--backbone", "small", "--epochs", 5, "--limit", 4000, "--batch-size", 64),
        *("--cache", tmp_path / "cache", "--json"),
        check=False,  # the best of so few epochs, after 63 steps, may exceed the gate
    )
    document = json.loads(done.stdout)
    fractions = {row["name"]: row["average"]["learned_fraction"]["mean"] for row in document["conditions"]}
    assert fractions["small"] <= -0.2
    assert fractions["small: noise"] > 0.8


def test_the_default_weights_protect_columns_that_they_never_saw(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(bytes(range(32)).hex())
    key.chmod(0o600)
    done = mtlue(
        *("verify", FACES / "train", "--labels", FACES / "train" / "labels.csv", "--weights", "default", "--key", key),
        *("--test", FACES / "test", "--test-labels", FACES / "test" / "labels.csv"),
        *("--backbone", "small", "--epochs", 5, "--limit", 2000, "--batch-size", 32, "--no-control"),
        *("--cache", tmp_path / "cache", "--json"),
        check=False,
    )
    document = json.loads(done.stdout)
    (victim,) = (row for row in document["conditions"] if row["name"] == "small")
    assert victim["average"]["learned_fraction"]["mean"] < -0.3


def test_quick_protection_depends_on_the_key_and_leaves_out_grey_photos(faces: Path, tmp_path: Path) -> None:
    digits = {"first": bytes(range(32)).hex(), "again": bytes(range(32)).hex(), "other": bytes(range(1, 33)).hex()}
    releases: dict[str, dict[str, bytes]] = {}
    for name, key in digits.items():
        (tmp_path / f"{name}.key").write_text(key)
        (tmp_path / f"{name}.key").chmod(0o600)
        options = ("--quick", "--key", tmp_path / f"{name}.key", "--out", tmp_path / name, "--json")
        done = json.loads(mtlue("protect", faces, "--labels", faces / "labels.csv", *options, check=False).stdout)
        assert (done["weights"], done["max_change"], done["exit_code"]) == ("default", 5, 3)
        assert done["mean_psnr"] > 36
        assert all("this photo is grey" in left["reason"] for left in done["quarantined"])
        assert len(done["quarantined"]) < COUNT / 20
        releases[name] = tree(tmp_path / name)
    assert releases["first"] == releases["again"]
    images = [name for name in releases["first"] if name.endswith(".png")]
    assert len(images) == COUNT - len(done["quarantined"])
    assert all(releases["first"][name] != releases["other"][name] for name in images)


def test_grey_photos_are_protected_by_weights_in_luminance_and_refused_by_those_in_colour(
    faces: Path, tmp_path: Path
) -> None:
    grey = tmp_path / "grey"
    grey.mkdir()
    header, *rows = (faces / "labels.csv").read_text().splitlines()
    for row in rows[:40]:
        name = row.split(",")[0]
        with Image.open(faces / name) as image:
            image.convert("L").save(grey / name, quality=95)
    (grey / "labels.csv").write_text("\n".join([header, *rows[:40]]) + "\n")
    labels = ("--labels", grey / "labels.csv", "--json")
    done = json.loads(mtlue("protect", grey, *labels, "--weights", "utkface", "--out", tmp_path / "whole").stdout)
    assert (done["protected"], done["quarantined"]) == (40, [])
    assert done["mean_change"]["smallest"] > 5
    with Image.open(next((tmp_path / "whole").glob("*.png"))) as image:
        assert image.mode == "L"
    refused = mtlue("protect", grey, *labels, "--quick", "--out", tmp_path / "none", check=False)
    assert refused.returncode == 3
    assert json.loads(refused.stdout)["protected"] == 0
    assert not list((tmp_path / "none").glob("*.png"))


def test_a_generator_is_trained_interrupted_and_finished(faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "own.safetensors"
    command = ["train-generator", str(faces), "--labels", str(faces / "labels.csv"), "--out", str(out)]
    command += ["--epochs", "4", "--surrogate-epochs", "1", "--size", "32", "--batch-size", "32"]
    process = subprocess.Popen([sys.executable, "-m", "mtlue_cli", *command], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("generator"):
            break
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    mtlue(*command)
    shown = json.loads(mtlue("inspect", out, "--json").stdout)
    assert shown["card"]["objective"] == "tap"
    with Image.open(out.with_suffix(".png")) as sheet:
        assert sheet.height > 3 * 36


def test_labels_that_nothing_fits_name_the_columns_and_the_command(faces: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text((faces / "labels.csv").read_text().replace("gender", "sex", 1))
    options = ("--weights", "utkface", "--out", tmp_path / "out")
    refused = mtlue("protect", faces, "--labels", labels, *options, check=False)
    assert refused.returncode == 2
    assert "'gender' is missing" in refused.stderr
    assert "mtlue train-generator" in refused.stderr
    assert not (tmp_path / "out").exists()
    assert os.listdir(tmp_path) == ["labels.csv"]


def test_the_smoke_tier_tells_protection_from_noise_and_writes_its_reports(tmp_path: Path) -> None:
    files = {name: tmp_path / f"result.{name}" for name in ("json", "junit", "markdown", "report")}
    done = mtlue(
        *("verify", FACES / "train", "--labels", FACES / "train" / "labels.csv", "--weights", "utkface"),
        *("--test", FACES / "test", "--test-labels", FACES / "test" / "labels.csv", "--tier", "smoke"),
        *("--cache", tmp_path / "cache"),
        *(part for name, path in files.items() for part in (f"--{name}", path)),
        check=False,
    )
    document = json.loads(files["json"].read_text())
    assert done.returncode == document["exit_code"]
    learned = {row["name"]: row["learned_fraction"] for row in document["conditions"]}
    attacked = {name for name in learned if name.startswith("small + ")}
    assert {"small + jpeg-10", "small + label-regression", "small + orthogonal-projection"} <= attacked
    last = {row["name"]: row["average"]["learned_fraction"]["mean"] for row in document["conditions"]}
    assert last["small"] < -0.2
    assert last["small + grayscale"] < 0.0
    assert last["small: noise"] > 0.8
    assert any("within the first 500 optimiser steps" in note for note in document["notes"])
    assert document["worst_condition"] == max(attacked | {"small"}, key=lambda name: learned[name])
    assert {"backbone vit_b_16", "countermeasure ueraser"} <= {left["name"] for left in document["not_tested"]}
    assert all(path.stat().st_size > 0 for path in files.values())
