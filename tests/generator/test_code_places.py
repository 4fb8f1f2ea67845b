"""Where no code lies among those of a task."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtlue_cli.generator.code_places import COMMON, Place, drawn_codes, evenness, places


def test_the_rarest_class_can_be_drawn_as_nothing_and_the_others_as_orthogonal() -> None:
    shares = np.array([0.3, 0.3, 0.1, 0.3])
    drawn = drawn_codes(np.eye(4), shares, Place(1.0, 1.0))
    assert not drawn[2].any()
    others = np.delete(drawn, 2, axis=0)
    np.testing.assert_allclose(others @ others.T, 4 / 3 * np.eye(3), atol=1e-12)
    for misleads in (1.0, 0.5, 0.0):
        for even in (0.5, 0.0):
            whole, less = (drawn_codes(np.eye(4), shares, Place(misleads, share)) for share in (1.0, even))
            np.testing.assert_allclose(shares @ less, even * (shares @ whole), atol=1e-12)
            np.testing.assert_allclose(np.diff(less, axis=0), np.diff(whole, axis=0), atol=1e-12)
            np.testing.assert_allclose(less[0] - less[1], drawn[0] - drawn[1], atol=1e-12)


def test_in_the_middle_codes_are_a_simplex_of_unit_length() -> None:
    drawn = drawn_codes(np.eye(5), np.array([0.1, 0.3, 0.2, 0.2, 0.2]), Place(0.0, 1.0))
    np.testing.assert_allclose(drawn @ drawn.T, np.where(np.eye(5), 1.0, -0.25), atol=1e-12)


def test_a_clean_image_passes_for_rare_classes_where_all_are_frequent_and_for_the_usual_one_where_one_is_rare() -> None:
    even, uneven = np.array([0.6, 0.4]), np.array([0.98, 0.02])
    # Columns of many classes may mislead nearly altogether; columns of two would take too much of the power.
    assert places([np.full(9, 1 / 9)]) == [Place(0.9, 1.0)]
    assert 0.4 < places([even])[0].misleads < 0.9
    assert places([even] * 40) == places([even]) * 40
    both = places([even, uneven])
    assert (both[0].even, both[0].misleads) == (1.0, both[1].misleads)
    assert both[1].even < 0.3
    for own, place, nearest in ((even, both[0], 1), (uneven, both[1], 0)):
        assert int(np.linalg.norm(drawn_codes(np.eye(2), own, place), axis=1).argmin()) == nearest
    assert evenness(np.array([0.5, 0.5])) == pytest.approx(1)
    assert evenness(uneven) == pytest.approx(0.1414, abs=1e-4)


def test_a_task_of_one_class_and_no_task_at_all() -> None:
    assert places([]) == []
    (alone,) = places([np.array([1.0])])
    assert not drawn_codes(np.eye(1), np.array([1.0]), alone).any()


columns = st.lists(st.lists(st.integers(1, 500), min_size=2, max_size=12), min_size=1, max_size=5)


@given(columns)
def test_every_class_is_drawn_and_what_is_common_is_limited(counts: list[list[int]]) -> None:
    shares = [np.array(own) / sum(own) for own in counts]
    power = common = 0.0
    for own, place in zip(shares, places(shares), strict=True):
        drawn = evenness(own) * drawn_codes(np.eye(len(own)), own, place)
        assert np.linalg.norm(drawn, axis=1).min() > 0
        common += float(np.square(own @ drawn).sum())
        power += float(own @ np.square(drawn).sum(axis=1))
    assert common <= COMMON * power
