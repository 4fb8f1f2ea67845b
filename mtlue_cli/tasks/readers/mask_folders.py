"""Data sets whose masks have a folder of their own: Pascal VOC, Cityscapes, ADE20K.

Sources: the development kits of Pascal VOC 2012 (Everingham et al., IJCV 2010), Cityscapes (Cordts et al., CVPR 2016;
``cityscapesscripts/helpers/labels.py``) and the scene parsing benchmark of ADE20K (Zhou et al., CVPR 2017).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from mtlue_cli.choices import LabelFormat, TaskKind
from mtlue_cli.errors import InputError
from mtlue_cli.files import read_regular
from mtlue_cli.tasks.declared import Declaration
from mtlue_cli.tasks.readers.base import Cell, LabelReader, LabelSource, RawTable, image_table
from mtlue_cli.tasks.spec import numbered_classes
from mtlue_cli.tasks.wording import counted, quoted

COLUMN = "segmentation"
VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
CITYSCAPES_CLASSES = (
    *("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground", "road"),
    *("sidewalk", "parking", "rail track", "building", "wall", "fence", "guard rail", "bridge", "tunnel", "pole"),
    *("polegroup", "traffic light", "traffic sign", "vegetation", "terrain", "sky", "person", "rider", "car", "truck"),
    *("bus", "caravan", "trailer", "train", "motorcycle", "bicycle"),
)
CITYSCAPES_VOID = (0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30, 255)
"""Label ids that the benchmark does not evaluate; 255 stands for its -1, the licence plate."""

SUFFIX_NOTE = "loaders of this layout open .jpg files: with --format keep the release has them, else it has .png"

Added = Callable[[Path, re.Match[str]], tuple[Cell, ...]]


@dataclass(frozen=True)
class MaskFolders:
    """Where the images and masks of such a data set lie.

    Attributes:
        form: Its name.
        title: What it is, in a few words.
        photo: What the path of an image matches.
        mask: Path of its mask, as a template of that match.
        classes: Names of the classes that masks hold, in the order of their numbers.
        ignore: Numbers that are no class.
        columns: Names of further columns.
        added: The cells of these for an image: takes the folder and the match.
        notes: What a user should know.
    """

    form: LabelFormat
    title: str
    photo: re.Pattern[str]
    mask: str
    classes: tuple[str, ...]
    ignore: tuple[int, ...]
    columns: tuple[str, ...] = ()
    added: Added = lambda folder, match: ()  # noqa: ARG005 - no further columns
    notes: tuple[str, ...] = ()

    def read(self, source: LabelSource) -> RawTable:
        """Read a row for each image; one without a mask is unlabelled there.

        Raises:
            InputError: No image lies where this layout has them.
        """
        present = set(source.image_names)
        rows: list[tuple[Cell, ...]] = []
        for match in self._photos(source.image_names):
            mask = match.expand(self.mask)
            rows.append((match[0], mask if mask in present else None, *self.added(source.path, match)))
        if not rows:
            fault = f"{source.path} holds no image where {self.title} have them"
            raise InputError(fault, hint="give the folder that holds them all")
        others = present - {name for row in rows for name in row[:2] if name is not None}
        notes = self.notes
        if others:
            example = min(others)
            notes += (f"{counted(len(others), 'file')} of other kinds not in the release, such as {quoted(example)}",)
        declarations = (Declaration(COLUMN, TaskKind.SEGMENTATION, self.classes, self.ignore),)
        columns = (COLUMN, *self.columns)
        return image_table(columns, rows, notes=notes, declarations=declarations, others=frozenset(others))

    def _photos(self, names: Sequence[str]) -> Iterator[re.Match[str]]:
        return filter(None, map(self.photo.fullmatch, names))

    def fits(self, names: Sequence[str]) -> bool:
        """Whether an image of the layout has its mask where the layout has it."""
        present = set(names)
        return any(match.expand(self.mask) in present for match in self._photos(names))

    @property
    def reader(self) -> LabelReader:
        """Its entry of the registry."""
        return LabelReader(self.form, self.title, self.read, reads_names=True, fits=self.fits)


def annotation_of(match: re.Match[str]) -> str:
    """Path of the boxes of a VOC image."""
    return match.expand(r"\g<root>Annotations/\g<stem>.xml")


def _objects(folder: Path, match: re.Match[str]) -> tuple[Cell, ...]:
    """Whether each class of VOC is among the objects of an image; no label without an annotation."""
    path = folder / annotation_of(match)
    if not path.is_file():
        return (None,) * len(VOC_CLASSES)
    try:
        names = ElementTree.fromstring(read_regular(path)).iterfind("object/name")
        found = {(element.text or "").strip() for element in names}
    except (ElementTree.ParseError, OSError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if unknown := sorted(found.difference(VOC_CLASSES)):
        raise InputError(
            f"{path} names objects that are no classes of Pascal VOC",
            [quoted(name) for name in unknown],
            f"classes: {', '.join(VOC_CLASSES)}; for others give a table with --labels",
        )
    return tuple(str(int(name in found)) for name in VOC_CLASSES)


VOC = MaskFolders(
    LabelFormat.VOC,
    "Pascal VOC's folders",
    re.compile(r"(?P<root>(?:.*/)?)JPEGImages/(?P<stem>[^/]+)\.(?i:jpe?g|png)"),
    r"\g<root>SegmentationClass/\g<stem>.png",
    ("background", *VOC_CLASSES),
    (255,),
    VOC_CLASSES,
    _objects,
    ("boxes (Annotations) are copied unchanged and are not protected", SUFFIX_NOTE),
)
CITYSCAPES = MaskFolders(
    LabelFormat.CITYSCAPES,
    "Cityscapes' folders",
    re.compile(r"(?P<root>(?:.*/)?)leftImg8bit/(?P<stem>.+)_leftImg8bit\.png"),
    r"\g<root>gtFine/\g<stem>_gtFine_labelIds.png",
    CITYSCAPES_CLASSES,
    CITYSCAPES_VOID,
    notes=("outlines (polygons.json) are copied unchanged and are not protected",),
)
ADE20K = MaskFolders(
    LabelFormat.ADE20K,
    "ADE20K's folders",
    re.compile(r"(?P<root>(?:.*/)?)images/(?P<stem>(?:training|validation)/[^/]+)\.(?i:jpe?g|png)"),
    r"\g<root>annotations/\g<stem>.png",
    numbered_classes(151),
    (0,),
    notes=("scenes (sceneCategories.txt) are copied unchanged and are not protected", SUFFIX_NOTE),
)
MASK_FOLDERS: Mapping[LabelFormat, MaskFolders] = {layout.form: layout for layout in (VOC, CITYSCAPES, ADE20K)}
