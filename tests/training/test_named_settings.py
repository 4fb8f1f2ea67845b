from dataclasses import dataclass

import pytest

from mtlue_cli.errors import InputError
from mtlue_cli.training.named_settings import Choice, assignments, choose, choose_all, combined, described


@dataclass(frozen=True)
class Knobs:
    steps: int = 3
    rate: float = 0.5
    limit: int | None = None
    span: tuple[float, float] = (0.0, 1.0)
    loud: bool = True

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError("at least 1 step")


REGISTERED = (
    Choice(name="plain", settings=Knobs()),
    Choice(name="fast-1", settings=Knobs(steps=1), family="fast"),
    Choice(name="fast-2", settings=Knobs(steps=2), family="fast"),
)


def test_every_type_of_setting_is_read_and_written_back() -> None:
    found = choose("x", "plain:steps=7, rate=1e-3,limit=4,span=0.2..0.4,loud=no", REGISTERED)
    assert found.settings == Knobs(7, 0.001, 4, (0.2, 0.4), loud=False)
    assert found.name == "plain:steps=7,rate=0.001,limit=4,span=0.2..0.4,loud=no"
    assert choose("x", found.name, REGISTERED) == found
    assert choose("x", "plain:limit=none,rate=0.5", REGISTERED).name == "plain"


def test_the_same_settings_have_one_name() -> None:
    assert choose("x", "plain:loud=no,steps=5", REGISTERED) == choose("x", "plain:steps=5,loud=false", REGISTERED)
    assert choose("x", "fast:steps=2", REGISTERED).name == "fast-2"
    assert choose("x", "fast-2:rate=2", REGISTERED).name == "fast:steps=2,rate=2"
    assert choose("x", "fast", REGISTERED) is REGISTERED[1]
    assert [choice.variant for choice in (choose("x", "plain:steps=9", REGISTERED), *REGISTERED)] == [
        *("plain", "plain", "fast-1", "fast-2")
    ]


def test_no_name_is_none_of_those_that_are_known() -> None:
    with pytest.raises(InputError, match="there is no x ''"):
        choose("x", "", REGISTERED)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("plain:speed=3", "there is no setting 'speed'"),
        ("plain:steps=1.5", "steps is '1.5', expected a whole number"),
        ("plain:rate=nan", "rate is 'nan', expected a number"),
        ("plain:rate=inf", "rate is 'inf', expected a number"),
        ("plain:loud=maybe", "loud is 'maybe', expected yes or no"),
        ("plain:span=0.3", "span is '0.3', expected a range such as 0.3..0.7"),
        ("plain:limit=few", "limit is 'few', expected a whole number or none"),
        ("plain:steps=0", "at least 1 step"),
        ("plain:steps", "'steps' is not a setting, expected NAME=VALUE"),
        ("plain:", "'' is not a setting, expected NAME=VALUE"),
        ("plain:steps=1,steps=2", "steps is given twice"),
    ],
)
def test_a_fault_names_what_there_is(text: str, fault: str) -> None:
    with pytest.raises(InputError, match="cannot be used") as caught:
        choose("method", text, REGISTERED)
    assert caught.value.faults == (fault,)
    assert "steps=3 (a whole number), rate=0.5 (a number), limit=none (a whole number or none)" in str(
        caught.value.hint
    )


def test_all_faults_of_all_kinds_are_reported_together() -> None:
    errors: list[InputError] = []
    assert choose_all(lambda text: choose("--a", text, REGISTERED), ["plain:steps=x,speed=1"], errors) == ()
    assert choose_all(lambda text: choose("--b", text, REGISTERED), ["plain", "none"], errors) == REGISTERED[:1]
    error = combined("cannot be read", errors)
    assert [fault.split(": ", 1)[-1] for fault in error.faults] == [
        "steps is 'x', expected a whole number",
        "there is no setting 'speed'",
        "there is no --b 'none'",
    ]
    assert "known: plain, fast, fast-1, fast-2" in str(error.hint)


def test_what_has_no_settings_says_so() -> None:
    @dataclass(frozen=True)
    class Nothing:
        pass

    assert described(Nothing()) == "it has none"
    assert assignments(Knobs(steps=4), Knobs()) == ["steps=4"]
