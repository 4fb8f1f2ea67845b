import pytest

from mtlue_cli.choices import TaskKind
from mtlue_cli.errors import InputError
from mtlue_cli.tasks.declared import Declaration, parse_declarations
from mtlue_cli.tasks.spec import numbered_classes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("smiling=binary", Declaration("smiling", TaskKind.BINARY)),
        ("mask=segmentation", Declaration("mask", TaskKind.SEGMENTATION)),
        (
            "mask=segmentation:classes=12:ignore=255,11",
            Declaration("mask", TaskKind.SEGMENTATION, numbered_classes(12), (11, 255)),
        ),
        (
            "mask=segmentation:classes=sky|road|sign symbol",
            Declaration("mask", TaskKind.SEGMENTATION, ("sky", "road", "sign symbol")),
        ),
        ("mask=segmentation:ignore=-1", Declaration("mask", TaskKind.SEGMENTATION, ignore=(-1,))),
        ("far=depth:scale=0.001", Declaration("far", TaskKind.DEPTH, scale=0.001)),
        (" a=b=normals ", Declaration("a=b", TaskKind.NORMALS)),
    ],
)
def test_a_declaration_is_understood(text: str, expected: Declaration) -> None:
    assert parse_declarations([text]) == (expected,)


@pytest.mark.parametrize(
    "text",
    ["mask=segmentation:classes=12:ignore=11,255", "m=segmentation:classes=a|b", "far=depth:scale=0.001", "n=normals"],
)
def test_a_declaration_is_written_as_it_is_read(text: str) -> None:
    assert [str(declaration) for declaration in parse_declarations([text])] == [text]


def test_everything_wrong_is_said_at_once() -> None:
    wrong = {
        "depth": "expected a column, = and one of binary, categorical, segmentation, depth, normals",
        "=depth": "expected a column",
        "m=mask": "expected a column",
        "m=depth:classes=3": "'classes=3' is not a setting of depth (known: scale, ignore)",
        "m=normals:scale=1": "is not a setting of normals (known: none)",
        "m=segmentation:ignore": "'ignore' is not a setting of segmentation (known: classes, ignore, colours)",
        "m=segmentation:ignore=a": "expected whole numbers",
        "m=segmentation:classes=1": "expected a number from 2 to 1000",
        "m=segmentation:classes=99999999": "expected a number from 2 to 1000",
        "m=segmentation:classes=a|a": "a name twice",
        "m=segmentation:ignore=1:ignore=2": "ignore appears more than once",
        "m=depth:scale=0": "expected a number above 0",
        "m=depth:scale=nan": "expected a number above 0",
    }
    with pytest.raises(InputError) as caught:
        parse_declarations([*wrong, "t=depth", "t=normals"])
    assert len(caught.value.faults) == len(wrong) + 1
    for fault, expected in zip(caught.value.faults, wrong.values(), strict=False):
        assert expected in fault
    assert "column 't' is declared already" in caught.value.faults[-1]
