"""Verification of keyed weights: under a key, and against an attacker who lacks it."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from mtlue_cli.choices import BackboneName, CountermeasureName, Tier
from mtlue_cli.errors import InputError
from mtlue_cli.generator import shipped
from mtlue_cli.keys import VARIABLE, Key
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.run import protect_folder
from mtlue_cli.workflows.verify.config import VerifyConfig
from mtlue_cli.workflows.verify.dry_run import dry_run
from mtlue_cli.workflows.verify.plan import attackers_weights, plan_verification, published_weights
from mtlue_cli.workflows.verify.run import verify_release
from tests.small_set import write_checkpoint
from tests.verification.made_release import MadeSet, make_set

pytestmark = pytest.mark.usefixtures("tiny_small")

DIGITS = "abba" * 16
REMOVAL = CountermeasureName.RECOMPUTE_REMOVAL.value


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeSet:
    return make_set(tmp_path_factory.mktemp("keyed") / "clean")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished victims, above all the clean one."""
    return tmp_path_factory.mktemp("victims")


@pytest.fixture
def config(made: MadeSet, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VerifyConfig:
    write_checkpoint(tmp_path / "weights" / "default.safetensors", None)
    monkeypatch.setattr(shipped, "weights_folder", lambda: tmp_path / "weights")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "key").write_text(DIGITS)
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "key").chmod(0o600)
    return VerifyConfig(
        clean=made.images,
        labels=made.labels,
        weights="default",
        key=tmp_path / "key",
        backbones=(BackboneName.SMALL,),
        test_fraction=0.3,
        epochs=4,
        size=16,
        batch_size=10,
        learning_rate=1e-2,
        control=False,
        probes=False,
        cache=cache,
        device="cpu",
        workers=1,
    )


def released(config: VerifyConfig) -> list[object]:
    return [picture.tolist() for picture in verify_release(config, SilentProgress()).samples[1]]


def test_the_key_decides_what_is_judged_and_its_fingerprint_is_reported(
    config: VerifyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(config, epochs=1)
    result = verify_release(config, SilentProgress())
    document = result.to_json()
    assert document["key_fingerprint"] == Key(bytes.fromhex(DIGITS)).fingerprint
    assert DIGITS[:16] not in str(document)
    first = [picture.tolist() for picture in result.samples[1]]
    monkeypatch.setenv(VARIABLE, DIGITS)
    assert released(replace(config, key=None)) == first
    monkeypatch.setenv(VARIABLE, "cddc" * 16)
    assert released(replace(config, key=None)) != first


def test_an_attacker_gets_the_weights_of_a_public_generator_and_no_key(config: VerifyConfig, made: MadeSet) -> None:
    result = verify_release(replace(config, countermeasures=(REMOVAL,)), SilentProgress())
    assert [row.name for row in result.conditions] == [
        "small: clean images",
        "small",
        f"small + {REMOVAL}",
    ]
    release = made.images.with_name("release")
    protect_folder(
        ProtectConfig(made.images, made.labels, release, weights="default", key=config.key, device="cpu"),
        SilentProgress(),
    )
    of_release = replace(config, weights=None, key=None, protected=release, countermeasures=(REMOVAL,))
    attacked = verify_release(of_release, SilentProgress())
    assert attacked.audit is not None
    assert attacked.audit.faults == ()
    assert [row.name for row in attacked.conditions][-1] == f"small + {REMOVAL}"


def test_weights_that_are_not_public_are_attacked_by_name_alone(config: VerifyConfig, tmp_path: Path) -> None:
    own = write_checkpoint(tmp_path / "own.safetensors", None)
    planned = {
        name: plan_verification(
            replace(config, weights=name, backbones=None, epochs=None, batch_size=None, tier=Tier.STANDARD)
        )
        for name in ("default", str(own))
    }
    tried = {
        name: {row.countermeasure.name for row in plan.conditions if row.countermeasure is not None}
        for name, plan in planned.items()
    }
    taken = {CountermeasureName.RECOMPUTE_REMOVAL, CountermeasureName.PAIR_REMOVER}
    assert tried["default"] - tried[str(own)] == taken
    untried = {left.name: left.reason for left in planned[str(own)].left_out}
    assert "assumed to be private" in untried[f"countermeasure {REMOVAL}"]
    assert published_weights(str(own), None) is None
    assert attackers_weights(str(own), None) == own
    assert attackers_weights("default", None) == published_weights("default", None)


def test_a_release_of_private_weights_leaves_the_attacker_without(
    config: VerifyConfig, made: MadeSet, tmp_path: Path
) -> None:
    own = write_checkpoint(tmp_path / "own.safetensors", None, seed=9)
    release = tmp_path / "release"
    given = ProtectConfig(made.images, made.labels, release, weights=str(own), key=config.key, device="cpu")
    protect_folder(given, SilentProgress())
    of_release = replace(config, weights=None, key=None, protected=release, countermeasures=(REMOVAL,))
    for run in (verify_release, dry_run):
        with pytest.raises(InputError, match="some requested conditions cannot be run") as caught:
            run(of_release, SilentProgress())
        (fault,) = caught.value.faults
        assert fault.startswith(f"small + {REMOVAL}: ")
        assert "an attacker does not have them" in fault


def test_of_weights_a_key_goes_with_keyed_ones_alone(config: VerifyConfig, made: MadeSet, tmp_path: Path) -> None:
    own = write_checkpoint(tmp_path / "own.safetensors", made.table.tasks)
    with pytest.raises(InputError, match="take no key"):
        verify_release(replace(config, weights=str(own)), SilentProgress())


def test_photos_that_protect_would_leave_out_are_left_out_here_too(config: VerifyConfig, made: MadeSet) -> None:
    grey = made.table.file_names[:8]
    originals = {name: (made.images / name).read_bytes() for name in grey}
    try:
        for name in grey:
            with Image.open(made.images / name) as image:
                image.convert("L").save(made.images / name)
        result = verify_release(replace(config, epochs=1, limit=None), SilentProgress())
    finally:
        for name, content in originals.items():
            (made.images / name).write_bytes(content)
    (note,) = (note for note in result.to_json()["notes"] if "would put them into quarantine" in note)
    assert note.endswith("because they are grey and the weights write in colour")
    counts = result.to_json()["counts"]
    count = int(note.split()[0])
    assert 0 < count <= len(grey)
    assert counts["train_images"] + counts["test_images"] + count == len(made.table)
