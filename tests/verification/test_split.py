import hashlib

from mtlue_cli.verification.split import is_held_out, split_by_content

CONTENTS = [hashlib.sha256(bytes([row % 256, row // 256])).hexdigest() for row in range(1000)]


def test_sides_cover_all_rows_in_about_the_asked_share() -> None:
    train, test = split_by_content(CONTENTS, 0.2, seed=0)
    assert sorted(train + test) == list(range(1000))
    assert 150 < len(test) < 250


def test_a_file_stays_on_its_side_whatever_else_is_there() -> None:
    _, test = split_by_content(CONTENTS, 0.2, seed=0)
    alone = [row for row in range(1000) if is_held_out(CONTENTS[row], 0.2, seed=0)]
    _, reversed_test = split_by_content(CONTENTS[::-1], 0.2, seed=0)
    assert alone == test
    assert [999 - row for row in reversed_test][::-1] == test


def test_a_larger_share_holds_the_smaller_and_a_seed_draws_anew() -> None:
    small = set(split_by_content(CONTENTS, 0.2, seed=0)[1])
    assert small < set(split_by_content(CONTENTS, 0.4, seed=0)[1])
    assert small != set(split_by_content(CONTENTS, 0.2, seed=1)[1])
