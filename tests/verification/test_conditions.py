import pytest

from mtlue_cli.choices import BackboneName, CountermeasureName, LearnerName, TrainingMethodName, WeightingName
from mtlue_cli.training.methods import METHODS
from mtlue_cli.verification.conditions import Condition, Material, Role, VictimSpec, plan_conditions, plan_victims
from mtlue_cli.verification.countermeasures.registry import COUNTERMEASURES

SMALL = VictimSpec(BackboneName.SMALL)


def test_names_tell_what_is_not_usual() -> None:
    assert VictimSpec().name == "resnet18"
    unusual = VictimSpec(BackboneName.SMALL, LearnerName.STL, method=METHODS[TrainingMethodName.SPARSE])
    assert unusual.name == "small stl sparse"
    assert Condition(SMALL, countermeasure=COUNTERMEASURES[CountermeasureName.GRAYSCALE]).name == "small + grayscale"
    assert Condition(SMALL, protected_fraction=0.5).name == "small: 50 % protected"
    assert Condition(SMALL, protected_fraction=0.5000001).name == "small: 50.00001 % protected"
    alone = Condition(SMALL, Material.CLEAN_PART, protected_fraction=0.5)
    assert alone.name == "small: the clean part of 50 % protected alone"


@pytest.mark.parametrize(
    ("condition", "role"),
    [
        (Condition(SMALL, Material.CLEAN), Role.REFERENCE),
        (Condition(SMALL), Role.JUDGED),
        (Condition(SMALL, countermeasure=COUNTERMEASURES[CountermeasureName.GRAYSCALE]), Role.JUDGED),
        (Condition(SMALL, Material.NOISE), Role.CONTROL),
        (Condition(SMALL, protected_fraction=0.8), Role.COMPARISON),
        (Condition(SMALL, Material.CLEAN_PART, protected_fraction=0.8), Role.COMPARISON),
    ],
)
def test_only_a_whole_release_is_judged(condition: Condition, role: Role) -> None:
    assert condition.role is role


def test_victims_are_every_combination_and_one_network_a_task_knows_no_weighting() -> None:
    victims = plan_victims(
        [BackboneName.SMALL, BackboneName.RESNET18],
        [LearnerName.MTL, LearnerName.STL],
        [WeightingName.LS, WeightingName.UW],
        [METHODS[TrainingMethodName.SCRATCH]],
    )
    assert [victim.name for victim in victims] == [
        *("small", "small uw", "small stl"),
        *("resnet18", "resnet18 uw", "resnet18 stl"),
    ]


def test_the_first_victim_is_tried_with_everything() -> None:
    other = VictimSpec(BackboneName.RESNET18)
    planned = plan_conditions([SMALL, other], [COUNTERMEASURES[CountermeasureName.GRAYSCALE]], [0.5])
    assert [condition.name for condition in planned] == [
        "small: clean images",
        "small",
        "small: noise",
        "small + grayscale",
        "small: 50 % protected",
        "small: the clean part of 50 % protected alone",
        "resnet18: clean images",
        "resnet18",
    ]
    assert len({condition.name for condition in planned}) == len(planned)
    assert "small: noise" not in [condition.name for condition in plan_conditions([SMALL], control=False)]


def test_every_condition_has_its_clean_victim_before_it() -> None:
    planned = plan_conditions([SMALL, VictimSpec()], list(COUNTERMEASURES.values()), [0.2])
    for position, condition in enumerate(planned):
        assert planned.index(Condition(condition.victim, Material.CLEAN)) <= position
