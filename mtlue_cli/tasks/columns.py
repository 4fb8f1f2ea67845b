"""What a column of a label table is, by its name and its values: a task, or bookkeeping that is left out by default.

Row numbers, patients, web addresses or dates are nearly as varied as the images themselves. As tasks they would drown
the others, since a perturbation has to tell apart every class. So they are no tasks unless the user says so.
"""

import re
import shlex
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath

from mtlue_cli.tasks.bins import parse_number
from mtlue_cli.tasks.classes import MAX_CLASSES
from mtlue_cli.tasks.multi_label import RARE_SEPARATORS, looks_like_lists
from mtlue_cli.tasks.spelling import LIKELY_MISSING, folded
from mtlue_cli.tasks.wording import quoted

MANY = 20
"""Classes up to which a column is a task however few images there are, unless nearly every image has its own."""

FEWEST_PER_CLASS = 5
"""Images per class, on average, of a number or a code with more than :data:`MANY` values."""

FEWEST_PER_WORD = 2
"""Images per class, on average, of a column of words with more than :data:`MANY` values."""

OWN_VALUE = 0.8
"""Share of distinct values from which nearly every image has its own."""

FEWEST_ROWS = 6
"""Labelled rows from which a column of distinct values counts as one value per image."""

LONG_TEXT = 40
"""Characters from which a text is no name of a class, where hardly any text stands twice."""

SAMPLE = 2000
"""Distinct values that are looked at."""

MANY_DATES = 0.1
"""Share of full dates from which a column that holds years otherwise is one of dates."""

MOSTLY = 0.9
"""Share of the cells that must have a form; the rest may be typing errors."""


class ColumnKind(StrEnum):
    """What a column is."""

    BINARY = "binary"
    CATEGORICAL = "categorical"
    WHOLE = "whole number"
    DECIMAL = "decimal number"
    IDENTIFIER = "identifier"
    INDEX = "row number"
    ADDRESS = "web address"
    PATH = "file name or path"
    DATE = "date or time"
    TEXT = "free text"
    BOX = "position in the image"
    SIZE = "image size"
    SPLIT = "split"
    RIGHTS = "licence or credit"
    PLACE = "place"
    CONSTANT = "constant"
    EMPTY = "empty"
    UNNAMED = "without a name"
    NESTED = "nested"


@dataclass(frozen=True)
class Column:
    """One column, understood.

    Attributes:
        name: Its header, or its number where it has none.
        kind: What it is, in words; of masks and maps the kind of task.
        left_out: Why it is no task unless the user says so, as said after the name of the column; None: it is one.
        advice: Another way to read it, as an option; empty if there is none.
    """

    name: str
    kind: str
    left_out: str | None = None
    advice: str = ""

    @property
    def fault(self) -> str:
        """Why it is no task, as a sentence."""
        subject = self.name if self.kind == ColumnKind.UNNAMED else f"column {quoted(self.name)}"
        return f"{subject} {self.left_out}"


@dataclass(frozen=True)
class _Values:
    """The labelled cells of a column.

    Attributes:
        name: Header.
        words: Its parts in lower case: ``patientId`` gives ``patient`` and ``id``.
        cells: Every row's cell, None where unlabelled.
        counts: Rows of each distinct value, without those that may stand for a missing label.
        header: All headers of the table.
        files: The image of each row.
    """

    name: str
    words: tuple[str, ...]
    cells: Sequence[str | None]
    counts: Mapping[str, int]
    header: Collection[str]
    files: Sequence[str]

    @property
    def rows(self) -> int:
        return sum(self.counts.values())

    @property
    def distinct(self) -> int:
        return len(self.counts)

    @property
    def per_class(self) -> float:
        return self.rows / self.distinct

    @property
    def numbers(self) -> list[float]:
        """The values that are looked at and are numbers."""
        return [number for value in list(self.counts)[:SAMPLE] if (number := parse_number(value)) is not None]

    @property
    def has_own_values(self) -> bool:
        """Whether nearly every image has a value of its own."""
        if self.distinct == self.rows:
            return self.rows >= FEWEST_ROWS
        return self.distinct >= FEWEST_ROWS + 2 and self.distinct > OWN_VALUE * self.rows

    def share(self, test: Callable[[str], object]) -> float:
        """Share of the rows whose value passes ``test``, over the values that are looked at."""
        looked_at = list(self.counts.items())[:SAMPLE]
        return sum(count for value, count in looked_at if test(value)) / sum(count for _, count in looked_at)

    def mostly(self, test: Callable[[str], object]) -> bool:
        return self.share(test) >= MOSTLY


def infer_column(
    name: str, cells: Sequence[str | None], header: Collection[str] = (), files: Sequence[str] = ()
) -> Column:
    """What a column is, and whether it is a task by default.

    Args:
        name: Its header.
        cells: Its cells, None where unlabelled.
        header: All headers of the table: some names mean something together alone.
        files: The image of each row; empty: not known.
    """
    counts = Counter(cell for cell in cells if cell is not None)
    if not counts:
        return Column(name, ColumnKind.EMPTY, "has no labels")
    if len(counts) == 1:
        only = quoted(next(iter(counts)))
        return Column(name, ColumnKind.CONSTANT, f"holds only one class, {only}: there is nothing to learn")
    real = _by_meaning(
        {value: count for value, count in counts.items() if value.lower() not in LIKELY_MISSING} or counts
    )
    values = _Values(name, _words(name), cells, real, header, files)
    for kind, reason_of in _BOOKKEEPING:
        reason = reason_of(values)
        if reason is not None:
            return Column(name, kind, reason)
    if values.mostly(_is_number):
        return _number(values, len(_by_meaning(counts)))
    separator = looks_like_lists(list(real)[:SAMPLE])
    is_list = separator is not None and not (separator == " " and _is_prose(values))
    listed = f"{name}:{separator}" if separator in RARE_SEPARATORS else name
    advice = f"--multi-label {shlex.quote(listed)}" if is_list else ""
    if values.mostly(_OBJECT.fullmatch):
        return Column(name, ColumnKind.NESTED, "holds objects or lists of lists")
    if values.mostly(_WITH_UNIT.fullmatch):
        reason = "holds decimal numbers with a unit: write the numbers alone to sort them into bins"
        return Column(name, ColumnKind.DECIMAL, reason)
    reason = _too_many_words(values)
    if reason is not None:
        return Column(name, ColumnKind.TEXT if _is_prose(values) else ColumnKind.IDENTIFIER, reason, advice)
    return Column(name, ColumnKind.BINARY if len(_by_meaning(counts)) == 2 else ColumnKind.CATEGORICAL, None, advice)


def _by_meaning(counts: Mapping[str, int]) -> dict[str, int]:
    """Rows of each value, those of its other spellings included; as they stand where there are too many for a task."""
    if len(counts) > MAX_CLASSES:
        return dict(counts)
    found: dict[float | str, str] = {}
    together: dict[str, int] = {}
    for value, count in counts.items():
        name = found.setdefault(folded(value), value)
        together[name] = together.get(name, 0) + count
    return together


def settled_column(name: str, cells: Sequence[str | None]) -> Column:
    """A column that is a task by its format, or because the user says so, unless it has fewer than two classes."""
    values = {cell for cell in cells if cell is not None}
    if len(values) < 2:
        return infer_column(name, cells)
    advice = f"--bins {shlex.quote(name)}=quantiles:5" if len(values) > MANY and all(map(_is_number, values)) else ""
    return Column(name, ColumnKind.BINARY if len(values) == 2 else ColumnKind.CATEGORICAL, None, advice)


def _number(values: _Values, classes: int) -> Column:
    """A column of numbers, none of which has a meaning beside its value."""
    name, bins = values.name, f"--bins {shlex.quote(values.name)}=quantiles:5"
    numbers = values.numbers
    if len(numbers) < min(values.distinct, SAMPLE) and values.mostly(lambda value: "," in value):
        return Column(
            name, ColumnKind.DECIMAL, "holds numbers with a decimal comma: write a point to sort them into bins"
        )
    if any(not number.is_integer() for number in numbers):
        return Column(name, ColumnKind.DECIMAL, "holds decimal numbers, which become classes only with --bins", bins)
    if values.distinct > MAX_CLASSES:
        return Column(
            name, ColumnKind.WHOLE, f"holds {values.distinct} distinct values: it looks like an identifier", bins
        )
    if values.has_own_values:
        return Column(name, ColumnKind.WHOLE, "holds a different value for nearly every image", bins)
    sparse = max(map(abs, numbers)) >= 1000 and max(numbers) - min(numbers) > 20 * values.distinct
    sparse = sparse and not set(values.words) & _CLASS_WORDS
    if sparse and values.distinct >= 4 and values.per_class < FEWEST_PER_CLASS:
        return Column(
            name, ColumnKind.IDENTIFIER, f"holds {values.distinct} numbers far apart for {values.rows} images"
        )
    if values.distinct > MANY and values.per_class < FEWEST_PER_CLASS:
        return Column(name, ColumnKind.WHOLE, f"holds {values.distinct} values for {values.rows} images", bins)
    if values.distinct > MANY:
        return Column(name, ColumnKind.WHOLE, advice=bins)
    return Column(name, ColumnKind.BINARY if classes == 2 else ColumnKind.CATEGORICAL)


def _words(name: str) -> tuple[str, ...]:
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return tuple(word for word in re.split(r"[\W_]+", parted.lower()) if word)


_INDEX_NAME = re.compile(r"Unnamed: ?\d+(?:_level_\d+|\.\d+)?|__index_level_\d+__|level_\d+", re.IGNORECASE)
_INDEX_WORDS = frozenset({"index", "idx", "row", "rownum", "rownumber", "rowid", "nr", "no"})


def _index(values: _Values) -> str | None:
    if _INDEX_NAME.fullmatch(values.name):
        return "has the name that pandas gives to row numbers"
    if values.distinct == values.rows >= FEWEST_ROWS and _count_up(values.cells[:SAMPLE]):
        return "numbers the rows"
    if values.words and values.words[-1] in _INDEX_WORDS and (values.has_own_values or values.distinct == values.rows):
        return "numbers the rows"
    return None


def _count_up(cells: Sequence[str | None]) -> bool:
    numbers = [parse_number(cell) for cell in cells if cell is not None]
    first = numbers[0] if numbers else None
    return first is not None and numbers == [first + row for row in range(len(numbers))]


_ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.-]*://|www\.)\S+|[a-z]+:/\S+|(?:doi:\s*)?10\.\d{4,9}/\S+", re.IGNORECASE)


def _address(values: _Values) -> str | None:
    return "holds addresses" if values.mostly(_ADDRESS.match) else None


_FILE = re.compile(
    r".*\.(?:jpe?g|jfif|png|webp|bmp|dib|tiff?|gif|p[gbpn]m|avif|hei[cf]|jp2|j2k|jxl|svg|tga|ico|raw|cr2|nef|arw|dng|exr|hdr|"
    r"psd|dcm|dicom|nii|mha|mhd|nrrd|svs|ndpi|npy|npz|mat|h5|hdf5|pt|pth|pkl|txt|csv|tsv|json|jsonl|xml|ya?ml|parquet|md|"
    r"pdf|html?|zip|tar|gz|tgz|7z|mp[34]|avi|mov|mkv|webm|wav|flac)",
    re.IGNORECASE | re.DOTALL,
)
_FOLDERS = re.compile(r"\.{0,2}/\S.*|~/.*|[a-z]:[\\/].*|\\\\.*|[^/\\]+(?:[/\\][^/\\]+){2,}[/\\]?", re.IGNORECASE)
_TOPIC = re.compile(r"/[a-z]/\w+")  # Open Images names its classes so
_IN_FOLDER = re.compile(r"(?=.*\d)(?!\d{1,3}/\d{1,4}$)[^/\\\s]+[/\\][^/\\\s]+")
_ABSOLUTE = re.compile(r"\.{0,2}[/\\].*|~/.*|[a-z]:[\\/].*", re.IGNORECASE)
_FILE_TYPE = re.compile(r"(?:image/|\.)?(?:jpe?g|png|gif|bmp|tiff?|webp|avif|hei[cf]|dcm|dicom)", re.IGNORECASE)
_PATH_LAST = frozenset({"folder", "dir", "directory", "path", "filepath", "filename", "basename"})


def _path(values: _Values) -> str | None:
    if values.mostly(_FILE.fullmatch):
        return "holds file names"
    if values.mostly(_FILE_TYPE.fullmatch):
        return "holds types of files"
    if values.words and values.words[-1] in _PATH_LAST and not values.mostly(_is_number):
        return "has the name of a path"
    few = values.per_class < FEWEST_PER_CLASS and values.distinct > 2
    if values.mostly(_FOLDERS.fullmatch) or (few and values.mostly(_IN_FOLDER.fullmatch)):
        is_class = set(values.words) & _CLASS_WORDS and not values.mostly(_ABSOLUTE.fullmatch)
        other = is_class or values.mostly(_is_date) or values.mostly(_TOPIC.fullmatch)
        return None if other else "holds paths"
    if values.files and values.distinct > 2:
        looked_at = zip(values.cells[:SAMPLE], values.files, strict=False)
        pairs = [(cell, file) for cell, file in looked_at if cell is not None]
        same = sum(_names(cell, PurePosixPath(file)) for cell, file in pairs)
        if len(pairs) >= 4 and same >= MOSTLY * len(pairs):
            return "holds the names of the images"
    return None


def _names(cell: str, file: PurePosixPath) -> bool:
    return cell in (str(file), file.name, str(file.with_suffix("")), file.stem)


_MONTH = (
    r"(?:jan|feb|f\u00e9v|mar|m\u00e4r|mrz|apr|avr|may|mai|jun|jul|jui|aug|ao\u00fb|sep|oct|okt|nov|dec|dez|d\u00e9c)"
    r"[^\W\d_]*\.?"
)
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?:\s*[ap]\.?m\.?)?(?:\s*(?:z|utc|gmt|[+-]\d{2}:?\d{2}))?"
_DAY = "|".join(
    (
        r"(?:1[89]|20)\d{2}(?:[-/]\d{1,2}(?:[-/]\d{1,2})?|[.:]\d{1,2}[.:]\d{1,2})",
        r"\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2})",
        rf"\d{{1,2}}(?:st|nd|rd|th)?[-/., ]{{1,2}}{_MONTH}[-/. ,]+\d{{2,4}}",
        r"\d{1,2}[-/]\d{4}",
        rf"{_MONTH}[-/. ]\d{{1,2}}(?:st|nd|rd|th)?,?[-/. ]\d{{2,4}}",
        rf"{_MONTH}[-/. ,]+\d{{4}}",
        r"\d{4}-w\d{2}(?:-\d)?",
    )
)
_DATE = re.compile(
    rf"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,?\s+)?(?:{_DAY})(?:[t\s,]+{_CLOCK})?|(?:-?\d+ days?,? )?{_CLOCK}",
    re.IGNORECASE,
)
_COMPACT = re.compile(r"(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[t_-]?\d{4,9})?", re.IGNORECASE)
_YEAR = re.compile(r"(?:1[89]|20)\d{2}(?:\.0+)?")
_SINCE = ((1e8, 4.2e9), (1e11, 4.2e12), (1e17, 4.2e18))
"""Seconds, milliseconds and nanoseconds since 1970, from 1973 to 2100."""
_TIME_WORDS = frozenset(
    {"date", "time", "timestamp", "datetime", "epoch", "created", "updated", "modified", "taken", "unix"}
)


def _is_date(value: str) -> bool:
    return _DATE.fullmatch(value) is not None or _COMPACT.fullmatch(value) is not None


def _date(values: _Values) -> str | None:
    if values.mostly(_YEAR.fullmatch):
        return "holds years"
    if values.mostly(_is_date) or (
        values.mostly(lambda value: _is_date(value) or _YEAR.fullmatch(value)) and values.share(_is_date) >= MANY_DATES
    ):
        return "holds dates or times"
    if values.words and values.words[-1] == "offset" and values.distinct > 2 and values.mostly(_is_number):
        return "has the name of a distance in time"
    numbers = values.numbers
    if values.distinct > 2 and len(numbers) == min(values.distinct, SAMPLE):
        since = any(all(low <= number < high for number in numbers) for low, high in _SINCE)
        if since and (_TIME_WORDS & set(values.words) or values.has_own_values):
            return "holds moments in time"
    return None


_SPLIT_VALUES = frozenset(
    {"train", "training", "val", "valid", "validation", "dev", "devel", "development", "test", "testing", "eval"}
    | {"evaluation", "holdout", "hold-out", "hold_out", "trainval", "publictest", "privatetest", "minival", "test-dev"}
    | {"train_val", "gallery", "probe", "heldout", "held-out", "held_out", "unused", "validate", "tr", "te", "va"}
)
_SPLIT_VALUE = re.compile(
    r"(?:train(?:ing)?|trn|val(?:id(?:ation)?)?|test(?:ing)?|tst|dev)"
    r"(?:[ _-]?\d{1,4}|[ _-][a-z]|[ _-](?:set|split|data))?|(?:fold|split)[ _-]?\d{1,2}",
    re.IGNORECASE,
)
_SPLIT_LAST = frozenset(
    {"split", "splits", "fold", "folds", "kfold", "partition", "partitions", "tfrecord", "tfrecords", "shard"}
)
_SPLIT_FLAGS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation", "holdout", "trainval"})
_SPLIT_MORE = frozenset({"is", "in", "use", "used", "for", "set", "service", "official", "default", "data", "image"})
_SPLIT_MORE |= {"images", "img", "sample", "split", "flag", "part", "of"}
_VEHICLES = frozenset({"bus", "car", "truck", "boat", "bicycle", "motorcycle", "airplane", "aeroplane", "tram", "bike"})
_TRUTH_VALUES = frozenset({"0", "1", "true", "false", "yes", "no", "y", "n", "t", "f", "0.0", "1.0"})


def _split(values: _Values) -> str | None:
    if all(value.lower() in _SPLIT_VALUES or _SPLIT_VALUE.fullmatch(value) for value in values.counts):
        return "names the part of a split"
    words = tuple(word for word in values.words if not word.isdecimal())
    if words and words[-1] in _SPLIT_LAST and values.distinct <= MANY:
        return "has the name of a split"
    flags = set(values.words)
    if flags == {"train"} and len(_VEHICLES & {name.lower() for name in values.header}) > 1:
        return None  # a class among others, each a column
    marked = flags <= _SPLIT_FLAGS | _SPLIT_MORE
    if values.words and marked and flags & _SPLIT_FLAGS and {value.lower() for value in values.counts} <= _TRUTH_VALUES:
        return "marks a part of a split"
    return None


_BOX_WORDS = frozenset({"bbox", "bboxes", "box", "boxes", "boundingbox", "bndbox", "roi", "rect", "rectangle"})
_PLACED_WORDS = frozenset({"crop", "landmark", "landmarks", "keypoint", "keypoints", "point", "face", "head", "eye"})
"""Such columns hold positions where a word of :data:`_CORNERS` stands beside."""
_CORNERS = frozenset({"x", "y", "w", "h", "cx", "cy", "left", "right", "top", "bottom"})
_SIZE_WORDS = frozenset({"width", "height", "resolution", "megapixels", "filesize", "bytes", "filesizebytes", "pixels"})
_SIDES = (frozenset({"w", "h"}), frozenset({"rows", "columns"}), frozenset({"rows", "cols"}))
_SIDE_WORDS = frozenset({"w", "h", "length", "rows", "columns", "cols"})
_PICTURE_WORDS = frozenset({"image", "img", "photo", "picture", "frame", "original", "orig"})
_WEIGHT_WORDS = frozenset({"weight", "bmi"})
"""A height that stands beside a weight is a person's."""
_BODY_WORDS = frozenset({"cm", "m", "inches", "feet", "ft", "body", "person", "patient", "plant", "tree", "building"})
_FOUR = re.compile(r"[\[({]?\s*-?[\d.]+(?:e-?\d+)?(?:\s*[,;|\s]\s*-?[\d.]+(?:e-?\d+)?){3}\s*[\])}]?", re.IGNORECASE)
_EXTENT = re.compile(
    r"[\[(]?\s*\d{2,6}\s*(?:[x\u00d7*]\s*|,\s+)\d{2,6}\s*[\])]?(?:\s*(?:px|pixels))?|[\[(]\d{2,6},\d{2,6}[\])]",
    re.IGNORECASE,
)
_FILE_SIZE = re.compile(r"\d+(?:[.,]\d+)?\s*(?:[kmg]i?)?b(?:ytes)?", re.IGNORECASE)
_DECIMALS = re.compile(
    r"[\[(]?\s*-?\d*\.\d+(?:e-?\d+)?(?:\s*[,;|\s]\s*-?\d+(?:\.\d*)?(?:e-?\d+)?)+\s*[\])]?", re.IGNORECASE
)


def _box(values: _Values) -> str | None:
    if values.mostly(_FOUR.fullmatch):
        return "holds four numbers per cell, as bounding boxes are written"
    lists_decimals = values.mostly(_DECIMALS.fullmatch) and not values.mostly(_is_number)
    if lists_decimals and looks_like_lists(list(values.counts)[:SAMPLE]) is None:
        return "holds lists of decimal numbers, as positions are written"
    if values.distinct < 3 or not values.mostly(_is_number) or not values.words:
        return None
    words, last = set(values.words), values.words[-1]
    if words & _BOX_WORDS or (words & _PLACED_WORDS and (words - _PLACED_WORDS) & _CORNERS - {"left", "right"}):
        return "has the name of a bounding box"
    alone = "".join(values.words)
    if alone in ("latitude", "longitude", "lat", "lon", "lng"):
        return "has the name of a geographic coordinate"
    if re.fullmatch(r"[xy][0-9]{1,2}|[xy](?:min|max|c|center|tl|br)|(?:min|max|center|c)[xy]", alone):
        return "has the name of a bounding box"
    if alone in _CORNERS:
        others = sum("".join(_words(name)) in _CORNERS for name in values.header)
        return "has the name of a bounding box" if others > 1 else None
    return "has the name of a position in the image" if last in ("x", "y") and len(values.words) > 1 else None


def _size(values: _Values) -> str | None:
    words = set(values.words)
    if values.mostly(_EXTENT.fullmatch) and not words & _CLASS_WORDS:
        return "holds sizes in pixels"
    if values.mostly(_FILE_SIZE.fullmatch):
        return "holds sizes of files"
    if (values.distinct < 3 and {"0", "1"} & set(values.counts)) or not values.mostly(_is_number):
        return None
    header = {word for name in values.header for word in _words(name)}
    if words & _BODY_WORDS or (words <= {"width", "height"} and header & _WEIGHT_WORDS):
        return None
    is_side = words & _PICTURE_WORDS or (len(words) == 1 and any(words < pair <= header for pair in _SIDES))
    if words & _SIZE_WORDS or (is_side and words & _SIDE_WORDS):
        return "has the name of an image size"
    return None


_RIGHTS_WORDS = frozenset(
    {"license", "licence", "copyright", "attribution", "rightsholder", "credit", "credits", "lizenz"}
)


_PLACE_WORDS = frozenset({"location", "place", "address", "venue"})


def _place(values: _Values) -> str | None:
    if set(values.words) & _PLACE_WORDS and values.mostly(re.compile(r".*\D, *\D").match):
        return "holds places or postal addresses"
    return None


def _rights(values: _Values) -> str | None:
    if set(values.words) & _RIGHTS_WORDS and not values.mostly(_is_number):
        return "has the name of a licence or a credit"
    return None


_ID_LAST = frozenset(
    {
        "id",
        "ids",
        "uid",
        "uuid",
        "guid",
        "key",
        "hash",
        "phash",
        "md5",
        "sha1",
        "sha256",
        "checksum",
        "digest",
        "serial",
    }
    | {"barcode", "mrn", "ssn", "accession", "isbn", "email", "mail", "phone", "identifier"}
)
_ID_NUMBER = frozenset({"no", "nr", "num", "number", "code", "name"})
_PERSON = frozenset(
    {
        "patient",
        "subject",
        "participant",
        "person",
        "individual",
        "donor",
        "user",
        "client",
        "customer",
        "animal",
        "study",
    }
    | {
        "series",
        "visit",
        "exam",
        "encounter",
        "session",
        "lesion",
        "image",
        "img",
        "file",
        "photo",
        "picture",
        "sample",
    }
    | {
        "record",
        "case",
        "scan",
        "slide",
        "frame",
        "instance",
        "annotation",
        "ann",
        "track",
        "video",
        "clip",
        "sequence",
    }
    | {"item", "entry", "order", "accession", "author", "photographer", "owner", "isic", "specimen"}
)
_PERSON_ALONE = frozenset({"patient", "subject", "participant", "pid", "mrn", "accession", "username", "login"})
_PERSON_ALONE |= {"photographer", "author", "uploader", "observer", "recordist"}
_PERSON_ALONE |= {"annotator", "rater", "grader", "labeler", "labeller", "reviewer", "worker"}
_NUMBERED_ALONE = frozenset({"video", "clip", "sequence", "session", "recording", "slide", "scan", "study", "series"})
_NUMBERED_ALONE |= {"case", "specimen", "lesion", "donor", "individual", "person", "frame"}
"""Such columns hold identifiers where their values are numbered names."""
_CLASS_WORDS = frozenset(
    {"class", "classes", "label", "labels", "category", "cat", "target", "species", "type", "group", "attribute", "tag"}
    | {
        "disease",
        "diagnosis",
        "dx",
        "finding",
        "race",
        "gender",
        "sex",
        "age",
        "emotion",
        "expression",
        "brand",
        "make",
    }
    | {"model", "breed", "style", "scene", "supercategory", "grade", "stage", "severity", "cluster", "genre", "color"}
    | {"colour", "identity", "train", "sign", "synset", "wnid", "taxon", "genus", "family", "landmark", "product"}
)
_RUN_TOGETHER = re.compile(
    rf"(?:{'|'.join(sorted({*_PERSON, 'patienten', 'bild', 'probanden'}, key=len, reverse=True))})"
    "(?:ids?|uid|no|nr|num|number|name|nummer|login)"
)
_UUID = re.compile(r"\{?[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\}?", re.IGNORECASE)
_HEX = re.compile(r"[0-9a-f]{16,}", re.IGNORECASE)
_SHORT_HEX = re.compile(r"(?=.*\d)(?=.*[a-f])[0-9a-f]{6,15}", re.IGNORECASE)
_TOKEN = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[\w+/=-]{20,}", re.ASCII)
_MAIL = re.compile(r"[^\s@]+@[^\s@]+\.\w+")
_NUMBERED = re.compile(r"(\D*[^\d.\s])?\s*?(\d+)(?:[-_./]\d+)*")
_PADDED = re.compile(r"0\d{3,}")


def _identifier(values: _Values) -> str | None:
    if values.distinct > 2 and any(values.mostly(form.fullmatch) for form in (_UUID, _HEX, _MAIL)):
        return "holds identifiers"
    few = values.per_class < FEWEST_PER_CLASS
    if values.distinct > 2 and few and any(values.mostly(form.fullmatch) for form in (_SHORT_HEX, _TOKEN)):
        return "holds codes of letters and digits"
    named = _named_identifier(values, few)
    if named is not None:
        return named
    if values.distinct < 4 or set(values.words) & _CLASS_WORDS or _is_prose(values):
        return None
    if (
        few
        and max(map(len, values.counts)) >= 4
        and values.share(_PADDED.fullmatch) >= 0.5
        and len({len(v) for v in values.counts}) == 1
    ):
        return f"holds {values.distinct} numbers with leading zeros for {values.rows} images"
    numbered = [found for value in list(values.counts)[:SAMPLE] if (found := _NUMBERED.fullmatch(value)) and found[1]]
    if len(numbered) >= MOSTLY * min(values.distinct, SAMPLE) and few:
        long = sum(len(found[2]) >= 3 for found in numbered) >= len(numbered) / 2
        own = values.distinct == values.rows or values.distinct > MANY // 2
        if len({found[1].lower() for found in numbered}) <= 3 and (long or own):
            return f"holds {values.distinct} numbered names for {values.rows} images"
    return None


def _named_identifier(values: _Values, few: bool) -> str | None:
    words = values.words
    if not words or set(words) & _CLASS_WORDS:
        return None
    last, before = words[-1], set(words[:-1])
    known = bool(before & _PERSON) and (last in _ID_LAST or last in _ID_NUMBER or last == "login")
    if known or (len(words) == 1 and _RUN_TOGETHER.fullmatch(last)):
        return "has the name of an identifier"
    if values.distinct < 3:
        return None
    if len(words) == 1 and (last in _ID_LAST or last in _PERSON_ALONE):
        return "has the name of an identifier"
    if len(words) == 1 and last in _NUMBERED_ALONE and values.mostly(_ends_in_digits):
        return "has the name of an identifier"
    many = values.distinct > MANY or (few and values.distinct > 3)
    return "has the name of an identifier" if last in _ID_LAST and many else None


def _is_number(value: str) -> bool:
    return parse_number(value) is not None or _DECIMAL_COMMA.fullmatch(value) is not None


_DECIMAL_COMMA = re.compile(r"-?(?:\d+|\d{1,3}(?:\.\d{3})+),\d+", re.ASCII)
_WITH_UNIT = re.compile(
    r"[$\u00a3\u20ac]?\s*[+-]?\d+[.,]\d+\s*(?:%|\u00b0|[$\u00a3\u20ac]|[a-z\u00b5\u00b2\u00b3/]{1,6})?", re.IGNORECASE
)


def _ends_in_digits(value: str) -> bool:
    return value[-1:].isdecimal()


def _is_prose(values: _Values) -> bool:
    words = [len(value.split()) for value in list(values.counts)[:SAMPLE]]
    return sum(words) >= 3 * len(words)


def _too_many_words(values: _Values) -> str | None:
    """Why a column of text has too many different values for its images to be a task; None if it has not."""
    if values.distinct > MAX_CLASSES:
        return f"holds {values.distinct} distinct values: it looks like an identifier"
    if values.has_own_values:
        return "holds a different value for nearly every image"
    length = sum(map(len, values.counts)) / values.distinct
    prose = _is_prose(values) and length >= 15 and (values.distinct >= 4 or length >= LONG_TEXT)
    if prose and values.per_class < FEWEST_PER_WORD:
        return "holds long text, hardly any of it twice"
    if values.distinct <= MANY:
        return None
    coded = sum(bool(re.search(r"\d", value)) for value in values.counts) >= values.distinct / 2
    if values.per_class < (FEWEST_PER_CLASS if coded else FEWEST_PER_WORD):
        return f"holds {values.distinct} values for {values.rows} images"
    return None


_OBJECT = re.compile(r"\{.*:.*\}|\[\s*[\[{].*\]", re.DOTALL)

_BOOKKEEPING: tuple[tuple[ColumnKind, Callable[[_Values], str | None]], ...] = (
    (ColumnKind.INDEX, _index),
    (ColumnKind.ADDRESS, _address),
    (ColumnKind.PATH, _path),
    (ColumnKind.DATE, _date),
    (ColumnKind.SPLIT, _split),
    (ColumnKind.BOX, _box),
    (ColumnKind.SIZE, _size),
    (ColumnKind.PLACE, _place),
    (ColumnKind.RIGHTS, _rights),
    (ColumnKind.IDENTIFIER, _identifier),
)
"""What is left out by default, in the order in which it is looked for."""
