from dataclasses import dataclass

import pytest

from mtlue_cli.errors import InputError
from mtlue_cli.training.named_settings import Entry, configure, configure_all, told, written


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


ENTRIES = (
    Entry("plain", Knobs(), "plain"),
    Entry("fast-1", Knobs(steps=1), "fast"),
    Entry("fast-2", Knobs(steps=2), "fast"),
)


def test_every_type_of_setting_is_read_and_written_back() -> None:
    found = configure("x", "plain:steps=7, rate=1e-3,limit=4,span=0.2..0.4,loud=no", ENTRIES)
    assert found.settings == Knobs(7, 0.001, 4, (0.2, 0.4), loud=False)
    assert found.name == "plain:steps=7,rate=0.001,limit=4,span=0.2..0.4,loud=no"
    assert configure("x", found.name, ENTRIES) == found
    assert configure("x", "plain:limit=none,rate=0.5", ENTRIES).name == "plain"


def test_the_same_settings_have_one_name() -> None:
    assert configure("x", "plain:loud=no,steps=5", ENTRIES) == configure("x", "plain:steps=5,loud=false", ENTRIES)
    assert configure("x", "fast:steps=2", ENTRIES).name == "fast-2"
    assert configure("x", "fast-2:rate=2", ENTRIES).name == "fast:steps=2,rate=2"
    assert configure("x", "fast", ENTRIES).name == "fast-1"


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
        ("plain:steps", "'steps' is no setting, expected NAME=VALUE"),
        ("plain:", "'' is no setting, expected NAME=VALUE"),
        ("plain:steps=1,steps=2", "steps is given twice"),
    ],
)
def test_a_fault_names_what_there_is(text: str, fault: str) -> None:
    with pytest.raises(InputError, match="cannot be had") as caught:
        configure("way", text, ENTRIES)
    assert caught.value.faults == (fault,)
    assert "steps=3 (a whole number), rate=0.5 (a number), limit=none (a whole number or none)" in str(
        caught.value.hint
    )


def test_all_faults_of_all_kinds_are_told_at_once() -> None:
    with pytest.raises(InputError, match="cannot be read") as caught:
        configure_all([("--a", ["plain:steps=x,speed=1"], ENTRIES), ("--b", ["plain", "none"], ENTRIES)])
    assert [fault.split(": ", 1)[-1] for fault in caught.value.faults] == [
        "steps is 'x', expected a whole number",
        "there is no setting 'speed'",
        "there is no --b 'none'",
    ]
    assert "known: plain, fast, fast-1, fast-2" in str(caught.value.hint)


def test_what_has_no_settings_says_so() -> None:
    @dataclass(frozen=True)
    class Nothing:
        pass

    assert told(Nothing()) == "it has none"
    assert written(Knobs(steps=4), Knobs()) == ["steps=4"]
