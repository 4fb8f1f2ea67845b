"""The loop that trains universal weights: what it draws, that it learns, and that it goes on bit for bit."""

from dataclasses import replace

import pytest
import torch

from mtlue_cli.choices import BackboneName, Precision
from mtlue_cli.generator.code_embedding import CodeEmbedding
from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator
from mtlue_cli.images.procedural import ProceduralSettings
from mtlue_cli.training.distortions import DistortionSettings
from mtlue_cli.training.universal_episode import UniversalSettings, draw_episode
from mtlue_cli.training.universal_loop import UniversalLoop, UniversalRecord

CPU = torch.device("cpu")
CODES = CodeEmbedding(channels=8, grid=6, pattern_channels=3, pattern_grid=9)
SHAPE = GeneratorConfig(
    image_size=24,
    encoder_width=8,
    decoder_width=16,
    decoder_depth=1,
    label_channels=8,
    label_grid=6,
    pattern_grid=6,
)
SETTINGS = UniversalSettings(
    steps=12,
    batch_size=8,
    view_size=16,
    population=2,
    least_steps=2,
    most_steps=3,
    kinds=(BackboneName.SMALL,),
    most_tasks=4,
    most_classes=5,
    binary_share=0.1,
    pool=128,
    images=ProceduralSettings(leaves=4),
    precision=Precision.FLOAT32,
)


def loop(settings: UniversalSettings = SETTINGS) -> UniversalLoop:
    return UniversalLoop(PerturbationGenerator(SHAPE, None, seed=1), settings, CPU)


def weights(run: UniversalLoop) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in run.generator.state_dict().items()}


def records(settings: UniversalSettings, until: int | None = None) -> list[UniversalRecord]:
    found: list[UniversalRecord] = []
    loop(settings).run(until, found.append)
    return found


def test_episodes_differ_and_keep_to_their_ranges() -> None:
    episodes = [draw_episode(seed, CODES, SETTINGS) for seed in range(60)]
    counts = [[task.num_classes for task in episode.tasks] for episode in episodes]
    assert {len(drawn) for drawn in counts} == {1, 2, 3, 4}
    assert {number for drawn in counts for number in drawn} == {2, 3, 4, 5}
    assert len({episode.codebook.key.fingerprint for episode in episodes}) == 60
    assert (
        len({draw_episode(0, CODES, replace(SETTINGS, seed=seed)).codebook.key.fingerprint for seed in range(5)}) == 5
    )
    for episode in episodes:
        assert all(float(share.sum()) == pytest.approx(1) for share in episode.shares.values())
    even = draw_episode(3, CODES, replace(SETTINGS, skew=0.0))
    assert all(float(share.std()) == pytest.approx(0, abs=1e-6) for share in even.shares.values())
    assert all(task.num_classes == 2 for task in draw_episode(3, CODES, replace(SETTINGS, binary_share=1.0)).tasks)
    wide = replace(SETTINGS, kinds=(BackboneName.SMALL, BackboneName.RESNET18))
    assert {draw_episode(seed, CODES, wide).kind for seed in range(20)} == set(wide.kinds)


def test_a_run_that_was_stopped_ends_with_the_same_weights() -> None:
    whole = loop()
    whole.run()
    # In the middle of two lives, right before a restart, right after one, and after two.
    for stop in (5, 6, 7, 10):
        first = loop()
        first.run(until=stop)
        state = first.state_dict()
        second = loop()
        second.load_state_dict(state)
        second.run()
        assert second.step == 12
        assert all(torch.equal(tensor, weights(whole)[name]) for name, tensor in weights(second).items())


def test_surrogates_restart_in_turn_and_images_are_renewed() -> None:
    run = loop()
    run.run(until=6)
    before = run.state_dict()
    pool = run._pool.clone()
    assert [kept["number"] for kept in before["surrogates"]] == [0, 1]
    run.run(until=7)
    assert [kept["number"] for kept in run.state_dict()["surrogates"]] == [2, 1]
    assert [kept["age"] for kept in run.state_dict()["surrogates"]] == [1, 3]
    changed = (run._pool != pool).flatten(1).any(dim=1)
    assert changed[:64].all()
    assert not changed[64:].any()


def test_a_surrogate_that_has_learned_to_read_restarts_but_not_before_its_time() -> None:
    ages = []
    for solved, least in ((2.0, 2), (2.0, 3), (0.0, 2)):
        run = loop(replace(SETTINGS, population=1, solved=solved, least_steps=least, most_steps=5))
        run.run(until=6)
        ages.append((run.restarts, run.surrogates[0].age))
    assert ages == [(2, 2), (1, 3), (1, 1)]


def test_a_surrogate_reads_random_labels_off_the_perturbation() -> None:
    quiet = DistortionSettings(smallest_view=0.9, jpeg=0, grey=0, blur=0, jitter=0, shrink=0, bits=0)
    plain = ProceduralSettings(leaves=4, contrast=(0.005, 0.01))
    settings = replace(SETTINGS, steps=24, batch_size=16, population=1, solved=0.0, most_steps=100, warmup_steps=1)
    found = records(replace(settings, most_tasks=1, most_classes=2, skew=0.0, distortions=quiet, images=plain))
    assert found[0].guessing > 0.8
    best = sorted(found, key=lambda record: record.guessing)[:3]
    assert all(record.guessing < 0.4 for record in best)
    assert all(record.agreement > 0.8 for record in best)


def test_the_penalty_holds_the_amplitude_down() -> None:
    settings = replace(SETTINGS, steps=15, largest_rms=2.0, learning_rate=3e-2, warmup_steps=1)
    free, held = (records(replace(settings, rms_weight=weight))[-1].rms for weight in (0.0, 30.0))
    assert held < 0.75 * free


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 4},
        {"learning_rate": 1e-4},
        {"warmup_steps": 1},
        {"clip_norm": 1e-3},
        {"view_size": 20},
        {"population": 3},
        {"solved": 2.0},
        {"solved": 2.0, "least_steps": 1},
        {"most_steps": 2},
        {"kinds": (BackboneName.RESNET18,)},
        {"surrogate_rate": 1e-2},
        {"most_tasks": 9},
        {"most_classes": 2},
        {"binary_share": 1.0},
        {"skew": 2.0},
        {"largest_rms": 1.0},
        {"pool": 64},
        {"images": ProceduralSettings(leaves=8)},
        {"distortions": DistortionSettings(jpeg=1.0)},
        {"seed": 1},
    ],
)
def test_each_setting_shows(change: dict[str, object]) -> None:
    run, other = loop(), loop(replace(SETTINGS, **change))  # type: ignore[arg-type]  # a test's table
    for one in (run, other):
        one.run(until=7)
    assert any(not torch.equal(tensor, weights(other)[name]) for name, tensor in weights(run).items())
