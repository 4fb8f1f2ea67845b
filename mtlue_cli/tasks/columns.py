"""What a column of a label table is, by its name and its values: a task, or bookkeeping that is left out by default.

Row numbers, patients, web addresses or dates are nearly as varied as the images themselves. As tasks they would drown
the others, since a perturbation has to tell apart every class. So they are no tasks unless the user says so.
"""

import re
import shlex
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath

from mtlue_cli.tasks.bins import parse_number
from mtlue_cli.tasks.classes import MAX_CLASSES, too_few
from mtlue_cli.tasks.multi_label import RARE_SEPARATORS, looks_like_lists
from mtlue_cli.tasks.spelling import LIKELY_MISSING, TRUTH, folded
from mtlue_cli.tasks.wording import quoted, words

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
"""Characters from which a text is no name of a class, where few texts appear twice."""

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


@dataclass
class _Values:
    """The cells of a column; ``counts`` leaves out those that may stand for a missing label."""

    name: str
    cells: Sequence[str | None]
    counts: Mapping[str, int]
    header: Collection[str]
    files: Sequence[str]

    def __post_init__(self) -> None:
        self.parts = _parts(self.name)
        self.last = self.parts[-1] if self.parts else ""
        self.rows, self.distinct = sum(self.counts.values()), len(self.counts)
        self.per_class = self.rows / self.distinct
        self.has_few_rows = self.per_class < FEWEST_PER_CLASS
        # Nearly every image has a value of its own.
        most = self.distinct > max(FEWEST_ROWS + 1, OWN_VALUE * self.rows)
        self.has_own_values = self.rows >= FEWEST_ROWS if self.distinct == self.rows else most
        self.sample = list(self.counts)[:SAMPLE]
        self.numbers = [number for value in self.sample if (number := parse_number(value)) is not None]
        self.are_numbers = self.mostly(_is_number)

    def named(self, some: frozenset[str]) -> bool:
        """Whether a word of the name is one of ``some``."""
        return not some.isdisjoint(self.parts)

    def share(self, test: Callable[[str], object]) -> float:
        """Share of the rows whose value passes ``test``, over the values that are looked at."""
        passed = sum(self.counts[value] for value in self.sample if test(value))
        return passed / sum(self.counts[value] for value in self.sample)

    def mostly(self, test: Callable[[str], object]) -> bool:
        return self.share(test) >= MOSTLY


def infer_column(
    name: str, cells: Sequence[str | None], header: Collection[str] = (), files: Sequence[str] = ()
) -> Column:
    """What a column is, and whether it is a task by default.

    Cells are None where unlabelled. ``header`` has all headers of the table, as some names mean something together
    alone; ``files`` the image of each row, if known.
    """
    counts = Counter(cell for cell in cells if cell is not None)
    reason = too_few(tuple(counts))
    if reason is not None:
        return Column(name, ColumnKind.CONSTANT if counts else ColumnKind.EMPTY, reason)
    real = {value: count for value, count in counts.items() if value.lower() not in LIKELY_MISSING}
    values = _Values(name, cells, _by_meaning(real or counts), header, files)
    for is_found, kind, reason in _bookkeeping(values):
        if is_found:
            return Column(name, kind, reason)
    task = ColumnKind.BINARY if len(_by_meaning(counts)) == 2 else ColumnKind.CATEGORICAL
    if values.are_numbers:
        return _number(values, task)
    separator = looks_like_lists(values.sample)
    is_list = separator is not None and not (separator == " " and _is_prose(values))
    listed = f"{name}:{separator}" if separator in RARE_SEPARATORS else name
    advice = f"--multi-label {shlex.quote(listed)}" if is_list else ""
    if values.mostly(_OBJECT):
        return Column(name, ColumnKind.NESTED, "holds objects or lists of lists")
    if values.mostly(_WITH_UNIT):
        reason = "holds decimal numbers with a unit: write the numbers alone to sort them into bins"
        return Column(name, ColumnKind.DECIMAL, reason)
    reason = _too_many_words(values)
    if reason is not None:
        task = ColumnKind.TEXT if _is_prose(values) else ColumnKind.IDENTIFIER
    return Column(name, task, reason, advice)


def _by_meaning(counts: Mapping[str, int]) -> Mapping[str, int]:
    """Rows of each value with those of its other spellings; as they are where there are too many for a task."""
    if len(counts) > MAX_CLASSES:
        return counts
    first: dict[float | str, str] = {}
    together: Counter[str] = Counter()
    for value, count in counts.items():
        together[first.setdefault(folded(value), value)] += count
    return together


def settled_column(name: str, cells: Sequence[str | None]) -> Column:
    """A column that is a task by its format, or because the user says so, unless it has fewer than two classes."""
    values = {cell for cell in cells if cell is not None}
    if len(values) < 2:
        return infer_column(name, cells)
    advice = f"--bins {shlex.quote(name)}=quantiles:5" if len(values) > MANY and all(map(_is_number, values)) else ""
    return Column(name, ColumnKind.BINARY if len(values) == 2 else ColumnKind.CATEGORICAL, None, advice)


def _number(values: _Values, task: ColumnKind) -> Column:
    """A column of numbers, none of which has a meaning beside its value; ``task`` is its kind if it is a plain task."""
    numbers, distinct = values.numbers, values.distinct
    low, high = min(numbers, default=0), max(numbers, default=0)
    is_sparse = max(high, -low) >= 1000 and high - low > 20 * distinct
    reason: str | None = None
    kind, advice = ColumnKind.WHOLE, f"--bins {shlex.quote(values.name)}=quantiles:5"
    if len(numbers) < len(values.sample) and values.mostly(lambda value: "," in value):
        reason = "holds numbers with a decimal comma: write a point to sort them into bins"
        kind, advice = ColumnKind.DECIMAL, ""
    elif any(not number.is_integer() for number in numbers):
        kind, reason = ColumnKind.DECIMAL, "holds decimal numbers, which become classes only with --bins"
    elif distinct > MAX_CLASSES:
        reason = f"holds {distinct} distinct values: it looks like an identifier"
    elif values.has_own_values:
        reason = "holds a different value for nearly every image"
    elif distinct >= 4 and values.has_few_rows and not values.named(_CLASS_WORDS) and is_sparse:
        kind, advice = ColumnKind.IDENTIFIER, ""
        reason = f"holds {distinct} numbers far apart for {values.rows} images"
    elif distinct > MANY and values.has_few_rows:
        reason = f"holds {distinct} values for {values.rows} images"
    elif distinct <= MANY:
        kind, advice = task, ""
    return Column(values.name, kind, reason, advice)


def _parts(name: str) -> tuple[str, ...]:
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return tuple(word for word in re.split(r"[\W_]+", parted.lower()) if word)


def _form(pattern: str) -> Callable[[str], re.Match[str] | None]:
    """Tells whether a value as a whole has a form, in upper or lower case."""
    return re.compile(pattern, re.IGNORECASE).fullmatch


_CLASS_WORDS = words(
    "class classes label labels category cat target species type group attribute tag disease diagnosis dx finding race "
    "gender sex age emotion expression brand make model breed style scene supercategory grade stage severity cluster "
    "genre color colour identity train sign synset wnid taxon genus family landmark product"
)
"""Words in the names of tasks, which hold classes even where their values look like codes."""

_INDEX_NAME = _form(r"Unnamed: ?\d+(?:_level_\d+|\.\d+)?|__index_level_\d+__|level_\d+")
_INDEX_LAST = words("index idx row rownum rownumber rowid nr no")

_ADDRESS = _form(r"(?s)(?:[a-z][a-z0-9+.-]*://|www\.|[a-z]+:/|(?:doi:\s*)?10\.\d{4,9}/)\S.*")

_FILE = _form(
    r"(?s).*\.(?:jpe?g|jfif|png|webp|bmp|dib|tiff?|gif|p[gbpn]m|avif|hei[cf]|jp2|j2k|jxl|svg|tga|ico|raw|cr2|nef|arw|dng|exr|hdr|"
    r"psd|dcm|dicom|nii|mha|mhd|nrrd|svs|ndpi|npy|npz|mat|h5|hdf5|pt|pth|pkl|txt|csv|tsv|json|jsonl|xml|ya?ml|parquet|md|"
    r"pdf|html?|zip|tar|gz|tgz|7z|mp[34]|avi|mov|mkv|webm|wav|flac)"
)
_FOLDERS = _form(r"\.{0,2}/\S.*|~/.*|[a-z]:[\\/].*|\\\\.*|[^/\\]+(?:[/\\][^/\\]+){2,}[/\\]?")
_TOPIC = _form(r"/[a-z]/\w+")  # Open Images names its classes so
_IN_FOLDER = _form(r"(?=.*\d)(?!\d{1,3}/\d{1,4}$)[^/\\\s]+[/\\][^/\\\s]+")
_ABSOLUTE = _form(r"\.{0,2}[/\\].*|~/.*|[a-z]:[\\/].*")
_FILE_TYPE = _form(r"(?:image/|\.)?(?:jpe?g|png|gif|bmp|tiff?|webp|avif|hei[cf]|dcm|dicom)")
_PATH_LAST = words("folder dir directory path filepath filename basename")

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
_DATE = _form(
    rf"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,?\s+)?(?:{_DAY})(?:[t\s,]+{_CLOCK})?|(?:-?\d+ days?,? )?{_CLOCK}|"
    r"(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[t_-]?\d{4,9})?"
)
_YEAR = _form(r"(?:1[89]|20)\d{2}(?:\.0+)?")
_SINCE = ((1e8, 4.2e9), (1e11, 4.2e12), (1e17, 4.2e18))
"""Seconds, milliseconds and nanoseconds since 1970, from 1973 to 2100."""
_TIME_WORDS = words("date time timestamp datetime epoch created updated modified taken unix")

_SPLIT_VALUE = _form(
    r"(?:train(?:ing)?|trn|val(?:id(?:ation)?)?|test(?:ing)?|tst|dev)"
    r"(?:[ _-]?\d{1,4}|[ _-][a-z]|[ _-](?:set|split|data))?|(?:fold|split)[ _-]?\d{1,2}|"
    r"h[eo]ld[-_]?out|train_?val|minival|publictest|privatetest|test-dev|devel(?:opment)?|eval(?:uation)?|validate|"
    r"gallery|probe|unused|tr|te|va"
)
_SPLIT_LAST = words("split splits fold folds kfold partition partitions tfrecord tfrecords shard")
_SPLIT_FLAGS = words("train training test testing val valid validation holdout trainval")
_SPLIT_MORE = words("is in use used for set service official default data image images img sample split flag part of")
_VEHICLES = words("bus car truck boat bicycle motorcycle airplane aeroplane tram bike")

_BOX_WORDS = words("bbox bboxes box boxes boundingbox bndbox roi rect rectangle")
_PLACED_WORDS = words("crop landmark landmarks keypoint keypoints point face head eye")
"""Such columns hold positions if their name has a word of :data:`_CORNERS` too."""
_CORNERS = words("x y w h cx cy left right top bottom")
_SIZE_WORDS = words("width height resolution megapixels filesize bytes filesizebytes pixels")
_SIDES = (words("w h"), words("rows columns"), words("rows cols"))
_SIDE_WORDS = words("w h length rows columns cols")
_PICTURE_WORDS = words("image img photo picture frame original orig")
_WEIGHT_WORDS = words("weight bmi")
"""A height beside a weight is a person's."""
_BODY_WORDS = words("cm m inches feet ft body person patient plant tree building")
_FOUR = _form(r"[\[({]?\s*-?[\d.]+(?:e-?\d+)?(?:\s*[,;|\s]\s*-?[\d.]+(?:e-?\d+)?){3}\s*[\])}]?")
_EXTENT = _form(
    r"[\[(]?\s*\d{2,6}\s*(?:[x\u00d7*]\s*|,\s+)\d{2,6}\s*[\])]?(?:\s*(?:px|pixels))?|[\[(]\d{2,6},\d{2,6}[\])]"
)
_FILE_SIZE = _form(r"\d+(?:[.,]\d+)?\s*(?:[kmg]i?)?b(?:ytes)?")
_DECIMALS = _form(r"[\[(]?\s*-?\d*\.\d+(?:e-?\d+)?(?:\s*[,;|\s]\s*-?\d+(?:\.\d*)?(?:e-?\d+)?)+\s*[\])]?")
_COORDINATE = _form(r"latitude|longitude|lat|lon|lng")
_CORNER = _form(r"[xy][0-9]{1,2}|[xy](?:min|max|c|center|tl|br)|(?:min|max|center|c)[xy]")

_PLACE_WORDS = words("location place address venue")
_TWO_PARTS = _form(r"(?s).*\D, *\D.*")
_RIGHTS_WORDS = words("license licence copyright attribution rightsholder credit credits lizenz")

_ID_LAST = words(
    "id ids uid uuid guid key hash phash md5 sha1 sha256 checksum digest serial barcode mrn ssn accession isbn email "
    "mail phone identifier"
)
_ID_NUMBER = words("no nr num number code name login")
_PERSON = words(
    "patient subject participant person individual donor user client customer animal study series visit exam encounter "
    "session lesion image img file photo picture sample record case scan slide frame instance annotation ann track "
    "video clip sequence item entry order accession author photographer owner isic specimen"
)
_PERSON_ALONE = words(
    "patient subject participant pid mrn accession username login photographer author uploader observer recordist "
    "annotator rater grader labeler labeller reviewer worker"
)
_NUMBERED_ALONE = words(
    "video clip sequence session recording slide scan study series case specimen lesion donor individual person frame"
)
"""Such columns hold identifiers where their values are numbered names."""
_RUN_TOGETHER = _form(
    rf"(?:{'|'.join(sorted({*_PERSON, 'patienten', 'bild', 'probanden'}, key=len, reverse=True))})"
    "(?:ids?|uid|no|nr|num|number|name|nummer|login)"
)
_ID_VALUES = (
    _form(r"\{?[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\}?"),
    _form(r"[0-9a-f]{16,}"),
    _form(r"[^\s@]+@[^\s@]+\.\w+"),
)
_CODES = (
    _form(r"(?=.*\d)(?=.*[a-f])[0-9a-f]{6,15}"),
    _form(r"(?a)(?=.*\d)(?=.*[a-z])[\w+/=-]{20,}"),
)
_NUMBERED = _form(r"(\D*[^\d.\s])?\s*?(\d+)(?:[-_./]\d+)*")
_PADDED = _form(r"0\d{3,}")

_DECIMAL_COMMA = _form(r"(?a)-?(?:\d+|\d{1,3}(?:\.\d{3})+),\d+")
_WITH_UNIT = _form(r"[$\u00a3\u20ac]?\s*[+-]?\d+[.,]\d+\s*(?:%|\u00b0|[$\u00a3\u20ac]|[a-z\u00b5\u00b2\u00b3/]{1,6})?")
_OBJECT = _form(r"(?s)\{.*:.*\}|\[\s*[\[{].*\]")


def _bookkeeping(values: _Values) -> Iterator[tuple[object, ColumnKind, str]]:
    """What is left out by default, in the order in which it is looked for: whether it is so, what it is, and why."""
    several, few = values.distinct > 2, values.has_few_rows
    kind = ColumnKind.INDEX
    yield _INDEX_NAME(values.name), kind, "has the name that pandas gives to row numbers"
    yield _numbers_rows(values), kind, "numbers the rows"
    yield values.mostly(_ADDRESS), ColumnKind.ADDRESS, "holds addresses"
    kind = ColumnKind.PATH
    yield values.mostly(_FILE), kind, "holds file names"
    yield values.mostly(_FILE_TYPE), kind, "holds file types"
    yield values.last in _PATH_LAST and not values.are_numbers, kind, "has the name of a path"
    yield _holds_paths(values), kind, "holds paths"
    yield several and _names_images(values), kind, "holds the names of the images"
    kind = ColumnKind.DATE
    yield values.mostly(_YEAR), kind, "holds years"
    yield _holds_dates(values), kind, "holds dates or times"
    yield several and values.last == "offset" and values.are_numbers, kind, "has the name of a time offset"
    yield several and _holds_moments(values), kind, "holds timestamps"
    kind = ColumnKind.SPLIT
    yield all(map(_SPLIT_VALUE, values.counts)), kind, "names the part of a split"
    yield _is_named_split(values), kind, "has the name of a split"
    yield _marks_split(values), kind, "marks a part of a split"
    kind = ColumnKind.BOX
    yield values.mostly(_FOUR), kind, "holds four numbers per cell, as bounding boxes are written"
    yield _lists_decimals(values), kind, "holds lists of decimal numbers, as positions are written"
    if several and values.are_numbers:
        yield _COORDINATE("".join(values.parts)), kind, "has the name of a geographic coordinate"
        yield _is_named_box(values), kind, "has the name of a bounding box"
        yield values.last in ("x", "y") and values.parts[1:], kind, "has the name of a position in the image"
    kind, is_class = ColumnKind.SIZE, values.named(_CLASS_WORDS)
    yield values.mostly(_EXTENT) and not is_class, kind, "holds sizes in pixels"
    yield values.mostly(_FILE_SIZE), kind, "holds file sizes"
    yield values.are_numbers and _is_named_size(values), kind, "has the name of an image size"
    is_place = values.named(_PLACE_WORDS) and values.mostly(_TWO_PARTS)
    yield is_place, ColumnKind.PLACE, "holds places or postal addresses"
    is_credit = values.named(_RIGHTS_WORDS) and not values.are_numbers
    yield is_credit, ColumnKind.RIGHTS, "has the name of a licence or a credit"
    kind = ColumnKind.IDENTIFIER
    yield several and any(map(values.mostly, _ID_VALUES)), kind, "holds identifiers"
    is_code = several and few and any(map(values.mostly, _CODES))
    yield is_code, kind, "holds codes of letters and digits"
    yield not is_class and _is_named_identifier(values), kind, "has the name of an identifier"
    if values.distinct > 3 and few and not is_class and not _is_prose(values):
        total = f"for {values.rows} images"
        yield _are_padded(values), kind, f"holds {values.distinct} numbers with leading zeros {total}"
        yield _are_numbered(values), kind, f"holds {values.distinct} numbered names {total}"


def _numbers_rows(values: _Values) -> bool:
    each = values.distinct == values.rows
    numbers = [parse_number(cell) for cell in values.cells[:SAMPLE] if cell is not None]
    first = numbers[0] if numbers else None
    counts_up = first is not None and numbers == [first + row for row in range(len(numbers))]
    is_index = values.last in _INDEX_LAST and (each or values.has_own_values)
    return is_index or (each and values.rows >= FEWEST_ROWS and counts_up)


def _holds_paths(values: _Values) -> bool:
    short = values.has_few_rows and values.distinct > 2 and values.mostly(_IN_FOLDER)
    if not (short or values.mostly(_FOLDERS)) or values.mostly(_DATE) or values.mostly(_TOPIC):
        return False
    return not values.named(_CLASS_WORDS) or values.mostly(_ABSOLUTE)


def _names_images(values: _Values) -> bool:
    looked_at = zip(values.cells[:SAMPLE], map(PurePosixPath, values.files), strict=False)
    pairs = [(cell, file) for cell, file in looked_at if cell is not None]
    same = [cell in (str(file), file.name, str(file.with_suffix("")), file.stem) for cell, file in pairs]
    return len(same) >= 4 and sum(same) >= MOSTLY * len(same)


def _holds_dates(values: _Values) -> bool:
    with_years = values.mostly(lambda value: _DATE(value) or _YEAR(value))
    return values.mostly(_DATE) or (with_years and values.share(_DATE) >= MANY_DATES)


def _holds_moments(values: _Values) -> bool:
    numbers = values.numbers
    since = any(all(low <= number < high for number in numbers) for low, high in _SINCE)
    return since and len(numbers) == len(values.sample) and (values.named(_TIME_WORDS) or values.has_own_values)


def _is_named_split(values: _Values) -> bool:
    named = [word for word in values.parts if not word.isdecimal()]
    return bool(named) and named[-1] in _SPLIT_LAST and values.distinct <= MANY


def _marks_split(values: _Values) -> bool:
    # A class among others, each a column.
    is_vehicle = values.parts == ("train",) and len(_VEHICLES & {name.lower() for name in values.header}) > 1
    marked = values.named(_SPLIT_FLAGS) and set(values.parts) <= _SPLIT_FLAGS | _SPLIT_MORE
    return marked and not is_vehicle and all(value.lower() in TRUTH for value in values.counts)


def _lists_decimals(values: _Values) -> bool:
    decimals = values.mostly(_DECIMALS) and not values.are_numbers
    return decimals and looks_like_lists(values.sample) is None


def _is_named_box(values: _Values) -> bool:
    alone, others = "".join(values.parts), set(values.parts) - _PLACED_WORDS
    placed = values.named(_PLACED_WORDS) and others & _CORNERS - {"left", "right"}
    corner = alone in _CORNERS and sum("".join(_parts(name)) in _CORNERS for name in values.header) > 1
    return bool(values.named(_BOX_WORDS) or placed or corner or _CORNER(alone))


def _is_named_size(values: _Values) -> bool:
    own, header = set(values.parts), {word for name in values.header for word in _parts(name)}
    is_body = values.named(_BODY_WORDS) or (own <= {"width", "height"} and header & _WEIGHT_WORDS)
    if is_body or (values.distinct < 3 and {"0", "1"} & values.counts.keys()):
        return False
    is_side = values.named(_PICTURE_WORDS) or (len(own) == 1 and any(own < pair <= header for pair in _SIDES))
    return values.named(_SIZE_WORDS) or (is_side and values.named(_SIDE_WORDS))


def _is_named_identifier(values: _Values) -> bool:
    last, is_alone = values.last, len(values.parts) == 1
    known = last in _ID_LAST | _ID_NUMBER and not _PERSON.isdisjoint(values.parts[:-1])
    if known or (is_alone and _RUN_TOGETHER(last)):
        return True
    numbered = last in _NUMBERED_ALONE and values.mostly(lambda value: value[-1:].isdecimal())
    if is_alone and (last in _ID_LAST | _PERSON_ALONE or numbered):
        return values.distinct > 2
    return last in _ID_LAST and (values.distinct > MANY or (values.has_few_rows and values.distinct > 3))


def _are_padded(values: _Values) -> bool:
    lengths = {len(value) for value in values.counts}
    return len(lengths) == 1 and max(lengths) >= 4 and values.share(_PADDED) >= 0.5


def _are_numbered(values: _Values) -> bool:
    found = [match for value in values.sample if (match := _NUMBERED(value)) and match[1]]
    if len(found) < MOSTLY * len(values.sample) or len({match[1].lower() for match in found}) > 3:
        return False
    long = sum(len(match[2]) >= 3 for match in found) >= len(found) / 2
    return long or values.distinct == values.rows or values.distinct > MANY // 2


def _is_number(value: str) -> bool:
    return parse_number(value) is not None or _DECIMAL_COMMA(value) is not None


def _is_prose(values: _Values) -> bool:
    return sum(len(value.split()) for value in values.sample) >= 3 * len(values.sample)


def _too_many_words(values: _Values) -> str | None:
    """Why a column of text has too many different values for its images to be a task; None if it has not."""
    distinct = values.distinct
    if distinct > MAX_CLASSES:
        return f"holds {distinct} distinct values: it looks like an identifier"
    if values.has_own_values:
        return "holds a different value for nearly every image"
    length = sum(map(len, values.counts)) / distinct
    is_long = length >= LONG_TEXT or (length >= 15 and distinct >= 4)
    if is_long and _is_prose(values) and values.per_class < FEWEST_PER_WORD:
        return "holds long texts, few of them twice"
    coded = sum(bool(re.search(r"\d", value)) for value in values.counts) >= distinct / 2
    if distinct > MANY and values.per_class < (FEWEST_PER_CLASS if coded else FEWEST_PER_WORD):
        return f"holds {distinct} values for {values.rows} images"
    return None
