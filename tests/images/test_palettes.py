"""Palette files as data sets publish them."""

from pathlib import Path

import pytest

from mtlue_cli.errors import ImageError
from mtlue_cli.images.palettes import find_palettes, read_palette

CAMVID = "64 128 64\tAnimal\n192 0 128\tArchway\n0 0 0\t\tVoid\n"
CITYSCAPES = """\
Label = namedtuple( 'Label' , [
    'name'        , # The identifier of this label, e.g. 'car', 'person', ... .
labels = [
    #       name             id    trainId   category       catId     hasInstances   ignoreInEval   color
    Label(  'unlabeled'    ,  0 ,      255 , 'void'       , 0       , False        , True         , (  0,  0,  0) ),
    Label(  'road'         ,  7 ,        0 , 'flat'       , 1       , False        , False        , (128, 64,128) ),
    Label(  'car'          , 26 ,       13 , 'vehicle'    , 7       , True         , False        , (  0,  0,142) ),
    Label(  'license plate', -1 ,       -1 , 'vehicle'    , 7       , False        , True         , (  0,  0,142) ),
]
"""
VOC = "# label:color_rgb:parts:actions\nbackground:0,0,0::\naeroplane:128,0,0::\n"
ADE20K = (
    'Idx,Ratio,Train,Val,Stuff,"Color_Code (R,G,B)",Color_Code(hex),Color,Name\n'
    '1,0.1576,11664,1172,1,"(120, 120, 120)",#787878,,wall\n2,0.1072,6046,612,1,"(180, 120, 120)",#B47878,,house\n'
)
ROAD, CAR = (128, 64, 128), (0, 0, 142)
FORMS = {
    "label_colors.txt": (CAMVID, ("Animal", "Archway"), ((64, 128, 64), (192, 0, 128), (0, 0, 0))),
    "class_dict.csv": ("name,r,g,b\nroad,128,64,128\ncar,0,0,142\n", ("road", "car"), (ROAD, CAR)),
    "labels.py": (CITYSCAPES, ("road", "car"), (ROAD, CAR, (0, 0, 0))),
    "labelmap.txt": (VOC, ("background", "aeroplane"), ((0, 0, 0), (128, 0, 0), (224, 224, 192))),
    "color_coding.csv": (ADE20K, ("wall", "house"), ((120, 120, 120), (180, 120, 120))),
    "label_config.json": (
        '{"labels": [{"color": [128, 64, 128], "name": "road"}, {"color": "#00008e", "name": "car"}]}',
        ("road", "car"),
        (ROAD, CAR),
    ),
    "colors.txt": ("128 64 128\n0 0 142\n", ("0", "1"), (ROAD, CAR)),
    "colours.txt": ("0 128 64 128 road\n1 0 0 142 car\n", ("road", "car"), (ROAD, CAR)),
    "palette.tsv": ("road\t128\t64\t128\ncar\t0\t0\t142\n", ("road", "car"), (ROAD, CAR)),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_published_form_is_read_and_found(name: str, tmp_path: Path) -> None:
    text, classes, colours = FORMS[name]
    (tmp_path / name).write_text(text)
    palette = read_palette(tmp_path / name)
    assert (palette.file, palette.classes, palette.colours) == (name, classes, colours)
    assert palette.ignore == tuple(range(len(classes), len(colours)))
    assert list(find_palettes([tmp_path, tmp_path / "none"])) == [(tmp_path / name, palette)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "fewer than two colours"),
        ("1 2 3 only\n", "fewer than two colours"),
        ("1 2 300 a\n1 2 3 b\n", "from 0 to 255"),
        ("1 2 3 a\n4 5 6 a\n", "'a' for several colours"),
        ("name,r,g,b\na,1,2,x\n", "a line without a colour"),
        ("file_name,color,mask\na.png,red,1\n", "a line without a colour"),
        ("x" * (1 << 21), "too large"),
    ],
)
def test_what_is_no_palette_is_refused_and_not_found(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(ImageError, match=reason):
        read_palette(tmp_path / "labels.csv")
    assert list(find_palettes([tmp_path])) == []


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text("[")
    (tmp_path / "colors.txt").write_bytes(b"\xff\xfe\x00")
    for name, reason in {
        "labels.json": "is not JSON",
        "colors.txt": "cannot be read",
        "none.txt": "cannot be read",
    }.items():
        with pytest.raises(ImageError, match=reason):
            read_palette(tmp_path / name)
