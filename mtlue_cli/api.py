"""The commands as functions: ``protect``, ``train_generator``, ``verify`` and ``inspect``.

Keyword arguments are the fields of the config classes that the command line is made from. Importing this module loads
no torch; the first call does. Nothing of the process is changed but, while weights are trained in the main thread, what
Ctrl-C does: the step at hand is finished and the run can be resumed.
"""

import difflib
import inspect as signatures
import operator
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import structs

from mtlue_cli.budget import Budget, limited_to
from mtlue_cli.choices import TRAIN_MINUTES
from mtlue_cli.commands.console import Terminal
from mtlue_cli.commands.inspect import InspectOptions
from mtlue_cli.errors import InputError, MtlueError, first_line
from mtlue_cli.files import remote_of, shown
from mtlue_cli.options import OptionField, option_fields, range_faults
from mtlue_cli.storage.mount import located, mounted
from mtlue_cli.storage.urls import UrlPath, url_of
from mtlue_cli.tasks.label_options import LabelOptions
from mtlue_cli.workflows.progress import Progress, SilentProgress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.train.config import TrainConfig, check_usage
from mtlue_cli.workflows.verify.config import VerifyConfig

if TYPE_CHECKING:
    from mtlue_cli.release.check import ReleaseCheck
    from mtlue_cli.verification.report import VerifyResult
    from mtlue_cli.workflows.inspect import CheckpointReport
    from mtlue_cli.workflows.protect.run import ProtectResult
    from mtlue_cli.workflows.train.settings import TrainResult

ConfigT = TypeVar("ConfigT")
FunctionT = TypeVar("FunctionT")

Labels = Any
"""A path; a mapping of column names to columns, a pandas ``DataFrame`` or a pyarrow ``Table`` with a file column and a
column per task; or None for the label file among the images."""

_COMMAND = re.compile(r"(\bmtlue (?:protect|train-generator|verify|inspect|demo|trace) .*)")
_FLAG = re.compile(r"(?<![\w-])(--[a-z][a-z-]*)(?: ([\w.]*\w))?")
_NUMBER = re.compile(r"\d+(\.\d+)?")


class Arguments:
    """The arguments of a function: the options of config classes.

    Args:
        function: Its name.
        configs: The classes.
        without: Fields of these that the function does not take.
    """

    def __init__(self, function: str, *configs: type[Any], without: tuple[str, ...] = ()) -> None:
        self.function = function
        self.fields: dict[str, OptionField] = {}
        self._flags: dict[str, tuple[OptionField, bool]] = {}
        for found in (each for config in configs for each in option_fields(config) if each.name not in without):
            self.fields[found.name] = found
            for position, flag in enumerate(found.option.flags.split()[0].split("/") if found.option.flags else ()):
                self._flags[flag] = found, position == 0

    def shown_by(self, function: FunctionT) -> FunctionT:
        """``function`` with a signature that lists every argument, for ``help()`` and completion."""
        own = signatures.signature(function)  # type: ignore[arg-type]  # it is a function
        fixed = [each for each in own.parameters.values() if each.kind is not each.VAR_KEYWORD]
        rest = [
            signatures.Parameter(found.name, signatures.Parameter.KEYWORD_ONLY, default=found.default)
            for found in self.fields.values()
            if found.name not in own.parameters
        ]
        function.__signature__ = own.replace(parameters=[*fixed, *rest])  # type: ignore[attr-defined]  # likewise
        return function

    def values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """What config classes hold for what was given; None is left out.

        Raises:
            TypeError: An argument is unknown.
            InputError: Values of a wrong type, files that are not there; lists all.
        """
        for name in given:
            if name not in self.fields:
                near = difflib.get_close_matches(name, self.fields, 1)
                advice = f"; did you mean {near[0]!r}?" if near else ""
                raise TypeError(f"{self.function}() got an unexpected keyword argument {name!r}{advice}")
        values: dict[str, Any] = {}
        faults: list[str] = []
        for name, value in given.items():
            if value is None:
                continue
            try:
                values[name] = _value(self.fields[name], value)
            except (TypeError, ValueError) as error:
                faults.append(f"{name} is {value!r}, {error}")
        faults += [fault for name, value in values.items() if (fault := _path_fault(self.fields[name], value))]
        if faults:
            raise InputError("wrong arguments", faults)
        return values

    def worded(self, text: str) -> str:
        """A message of the command line with arguments in place of options; command lines in it stay."""
        parts = _COMMAND.split(text)
        return "".join(part if position % 2 else _FLAG.sub(self._word, part) for position, part in enumerate(parts))

    def _word(self, match: re.Match[str]) -> str:
        flag, following = match.groups()
        if flag not in self._flags:
            return match.group()
        found, positive = self._flags[flag]
        if found.value_type is bool:
            return f"{found.name}={positive}" + (f" {following}" if following else "")
        if following and _NUMBER.fullmatch(following):
            return f"{found.name}={following}"
        if following and _is_enum(found.value_type) and following in list(found.value_type):
            return f'{found.name}="{following}"'
        return f"{found.name} {following}" if following else found.name

    @contextmanager
    def located(self, values: dict[str, Any]) -> Iterator[None]:
        """Within it ``values`` have paths of this machine in place of URLs, and errors speak of the URLs.

        Raises:
            InputError: A URL is not taken, or cannot be listed.
        """
        with located(self.fields.values(), values) as found:
            values.update(found)
            try:
                yield
            except MtlueError as error:
                error.reword(shown)
                raise

    @contextmanager
    def boundary(self) -> Iterator[None]:
        """Within it errors speak of arguments."""
        try:
            yield
        except MtlueError as error:
            error.reword(self.worded)
            raise


PROTECT = Arguments("protect", ProtectConfig, Budget)
TRAIN = Arguments("train_generator", TrainConfig, Budget)
VERIFY = Arguments("verify", VerifyConfig, Budget, without=("split",))
INSPECT = Arguments("inspect", InspectOptions, Budget)


@PROTECT.shown_by
def protect(
    images: str | Path,
    *,
    labels: Labels = None,
    progress: bool = False,
    **options: Any,  # noqa: ANN401 - fields of the config
) -> "ProtectResult":
    """Write a protected copy of every labelled image; called again, it continues.

    Args:
        images: Folder of the originals; never changed.
        labels: Label file or table; None: the label file among the images. In a table, paths of masks and maps lead
            from ``images``.
        progress: Whether to show progress on standard error.
        options: Fields of :class:`~mtlue_cli.workflows.protect.config.ProtectConfig` and
            :class:`~mtlue_cli.tasks.label_options.LabelOptions`, such as ``out``, ``weights``, ``epsilon``; and of
            :class:`~mtlue_cli.budget.Budget`, such as ``max_pixels``.

    Raises:
        InputError: Something does not fit; nothing was written.
        MtlueError: The output cannot be written; the same call continues later.
        TypeError: An argument is unknown.
    """
    with PROTECT.boundary():
        values = PROTECT.values({**options, "images": images})
        with limits(values), PROTECT.located(values), _reading(labels, values) as (file, reading):
            config = checked(config_of(ProtectConfig, values, labels=file, reading=reading))

            from mtlue_cli.workflows.protect.packed import protect_shards
            from mtlue_cli.workflows.protect.run import protect_folder
            from mtlue_cli.workflows.shards import shards_of

            shards = shards_of(config.images, file, reading)
            if shards is None:
                result = protect_folder(config, progress_of(progress))
            else:
                result = protect_shards(config, shards, progress_of(progress))

            def worded(text: str) -> str:
                return PROTECT.worded(shown(text if is_file(labels) else text.replace(str(file), "labels")))

            return structs.replace(
                result,
                release=_by_url(result.release),
                fixes=tuple(map(worded, result.fixes)),
                warnings=tuple(map(worded, result.warnings)),
                quarantine=tuple(structs.replace(record, reason=worded(record.reason)) for record in result.quarantine),
            )


@TRAIN.shown_by
def train_generator(
    images: str | Path,
    *,
    out: str | Path,
    labels: Labels = None,
    progress: bool = False,
    **options: Any,  # noqa: ANN401 - fields of the config
) -> "TrainResult":
    """Train a generator on labelled images; interrupted, the same call resumes.

    Args:
        images: Folder of the images.
        out: The generator's file, ``.safetensors``.
        labels: As :func:`protect` takes them.
        progress: Whether to show progress on standard error.
        options: Fields of :class:`~mtlue_cli.workflows.train.config.TrainConfig` and
            :class:`~mtlue_cli.tasks.label_options.LabelOptions`, such as ``epochs``, ``objective``; and of
            :class:`~mtlue_cli.budget.Budget`, such as ``max_pixels``.

    Raises:
        InputError: Faults in labels, images or arguments; nothing was written.
        TypeError: An argument is unknown.
    """
    with TRAIN.boundary():
        values = TRAIN.values({**options, "images": images, "out": out})
        with limits(values), TRAIN.located(values), _reading(labels, values) as (file, reading):
            config = checked(config_of(TrainConfig, values, labels=file, reading=reading))
            if config.epochs is None and config.max_minutes is None:
                config = replace(config, max_minutes=TRAIN_MINUTES)
            check_usage(config)

            from mtlue_cli.workflows.shards import unpacked_images
            from mtlue_cli.workflows.train.generator import train_generator as run

            with unpacked_images(config.images, file, reading) as (folder, table, how):
                return run(replace(config, images=folder, labels=table, reading=how), progress_of(progress))


@VERIFY.shown_by
def verify(
    clean: str | Path,
    *,
    labels: Labels = None,
    progress: bool = False,
    **options: Any,  # noqa: ANN401 - fields of the config
) -> "VerifyResult":
    """Train victims on a release, or on what a generator makes, and judge whether the protection holds.

    Args:
        clean: Folder of the originals.
        labels: As :func:`protect` takes them.
        progress: Whether to show progress on standard error.
        options: Fields of :class:`~mtlue_cli.workflows.verify.config.VerifyConfig` and
            :class:`~mtlue_cli.tasks.label_options.LabelOptions`, such as ``protected``, ``tier``; and of
            :class:`~mtlue_cli.budget.Budget`, such as ``max_pixels``.
            Without ``cache`` no finished victim is kept.

    Raises:
        InputError: A fault of the input, found before anything is trained.
        TypeError: An argument is unknown.
    """
    with VERIFY.boundary():
        values = VERIFY.values({**options, "clean": clean})
        words = [repr(str(clean)), *(f"{name}={value!r}" for name, value in options.items())]
        if labels is not None:
            words.append(f"labels={str(labels)!r}" if is_file(labels) else "labels=labels")
        with limits(values), VERIFY.located(values), _reading(labels, values) as (file, reading):
            typed = f"verify({', '.join(words)})"
            config = config_of(VerifyConfig, values, labels=file, reading=reading, command_line=typed)
            config = config.with_test_labels()
            checked(config)

            from mtlue_cli.workflows.shards import unpacked_images, unpacked_release
            from mtlue_cli.workflows.verify.run import verify_release

            with (
                unpacked_images(config.clean, file, reading) as (folder, table, how),
                unpacked_release(config.protected) as release,
            ):
                config = replace(config, clean=folder, labels=table, reading=how, protected=release)
                result = verify_release(config, progress_of(progress))
    if is_file(labels):
        return result
    settings = {**result.settings, "labels": "labels"}  # the file of a table is gone
    return structs.replace(result, settings=settings)


@INSPECT.shown_by
def inspect(
    path: str | Path,
    *,
    against: str | Path | None = None,
    key: str | Path | None = None,
    signer: str | Path | None = None,
    progress: bool = False,
    **options: Any,  # noqa: ANN401 - fields of the config
) -> "CheckpointReport | ReleaseCheck":
    """Describe a checkpoint or a release, and check its files against their recorded hashes.

    Args:
        path: A ``.safetensors`` file, the name of shipped weights, or a release.
        against: Folder of the originals. Measures every released file against its original.
        key: File with the key that must have sealed the release.
        signer: File with the public key that must have signed it.
        progress: Whether to show progress on standard error.
        options: ``workers``, and fields of :class:`~mtlue_cli.budget.Budget`, such as ``max_pixels``.

    Raises:
        InputError: ``path`` is neither, or the checkpoint is damaged.
        TypeError: An argument is unknown.
    """
    with INSPECT.boundary():
        values = INSPECT.values({**options, "path": path, "against": against, "key": key, "signer": signer})
        with limits(values), INSPECT.located(values):
            found = checked(config_of(InspectOptions, values))
            from mtlue_cli.release.seal import trust_of
            from mtlue_cli.workflows.inspect import CheckpointReport, inspect_path

            report = inspect_path(
                found.path,
                progress_of(progress),
                against=found.against,
                workers=found.workers,
                trust=trust_of(found.key, found.signer),
            )
            if isinstance(report, CheckpointReport):
                return replace(report, path=_by_url(report.path))
            return replace(report, path=_by_url(report.path), faults=tuple(map(shown, report.faults)))


def _by_url(path: Path) -> Path:
    """A path as the caller gave it: the URL that it stands for, if it stands for one."""
    return path if remote_of(path) is None else UrlPath(shown(str(path)))


def _value(found: OptionField, value: Any) -> Any:  # noqa: ANN401 - whatever the field holds
    """What the field holds for a value from Python.

    Raises:
        TypeError, ValueError: It fits not; says what is expected.
        InputError: Text in the form of the command line is not understood.
    """
    option, several = found.option, isinstance(value, list | tuple)
    parts: list[Any] = list(value) if several else [value]
    if option.convert is not None:
        if found.repeated and all(isinstance(part, str) for part in parts):
            return option.convert(parts)
        if not found.repeated and isinstance(value, str):
            return option.convert(value)
        fitting = tuple(_fitting(found, part) for part in parts)
        return fitting if found.repeated or several else fitting[0]
    if found.listed and several and all(isinstance(part, str) for part in parts):
        return ",".join(parts)
    if found.repeated:
        return tuple(_single(found.value_type, part) for part in parts)
    return _single(found.value_type, value)


def _fitting(found: OptionField, part: Any) -> Any:  # noqa: ANN401 - whatever the field holds
    """What a field that is written as text on the command line holds for a value that is none.

    Raises:
        TypeError: It fits not.
    """
    kinds = found.kinds
    if type(part).__module__.startswith(f"{__package__}.") or type(part) in kinds or part is None:
        return part
    if isinstance(part, int | float) and not isinstance(part, bool):
        for kind in (float, str):
            if kind in kinds:
                return kind(part)
    raise TypeError(f"expected {'one or more of ' if found.repeated else ''}{found.option.metavar or 'text'}")


def _single(kind: Any, value: Any) -> Any:  # noqa: ANN401 - any type, any value
    if kind is Path:
        if not isinstance(value, str | Path):
            raise TypeError("expected a path")
        return Path(value)
    if _is_enum(kind):
        if value not in list(kind):
            raise ValueError(f"expected one of {', '.join(member.value for member in kind)}")
        return kind(value)
    if kind is str:
        if not isinstance(value, str | Path):
            raise TypeError("expected text")
        return str(value)
    if kind is bool and not isinstance(value, bool):
        raise TypeError("expected True or False")
    if kind is int and hasattr(value, "__index__") and not isinstance(value, bool):
        return operator.index(value)  # also of NumPy
    return value  # the range is checked when the config is whole


def _is_enum(kind: Any) -> bool:  # noqa: ANN401 - any type
    return isinstance(kind, type) and issubclass(kind, StrEnum)


def _path_fault(found: OptionField, value: object) -> str | None:
    if not isinstance(value, Path):
        return None
    if found.option.url is not None and url_of(value) is not None:
        return None
    if not value.exists():
        return f"{found.name}: {value} does not exist" if found.option.exists else None
    if found.option.takes == "folder" and not value.is_dir():
        return f"{found.name}: {value} is not a folder"
    return f"{found.name}: {value} is a folder" if found.option.takes == "file" and value.is_dir() else None


def config_of(config: type[ConfigT], values: Mapping[str, Any], **more: Any) -> ConfigT:  # noqa: ANN401 - other fields
    """A config of the ``values`` that are its fields; ``more`` are fields that come from elsewhere."""
    own = {field.name for field in fields(config)}  # type: ignore[arg-type]  # config classes are dataclasses
    return config(**{name: value for name, value in values.items() if name in own}, **more)


def checked(config: ConfigT) -> ConfigT:
    """``config``, its numbers checked.

    Raises:
        InputError: Numbers are out of range; lists all.
    """
    if faults := range_faults(config):
        raise InputError("wrong arguments", faults)
    return config


@contextmanager
def _reading(labels: Labels, values: Mapping[str, Any]) -> Iterator[tuple[Path, LabelOptions]]:
    """The label file, and how it is read; a table is a file within the context alone, and errors call it ``labels``."""
    from mtlue_cli.layouts.find import find_labels

    images = values["clean"] if "clean" in values else values["images"]
    reading = config_of(LabelOptions, values)
    reading.refuse_lone_split()
    if labels is None:
        yield find_labels(images, reading.format, reading.preset.labels if reading.preset else ()), reading
        return
    if isinstance(labels, str | Path):
        with mounted(Path(labels), is_file=True, exists=True) as file:
            if not file.exists():
                raise InputError(f"labels: {labels} does not exist")
            yield file, reading
        return
    with table_file(labels, "labels") as file:
        yield file, replace(reading, maps_folder=images)


def is_file(labels: Labels) -> bool:
    """Whether ``labels`` is no table: a path, or None."""
    return labels is None or isinstance(labels, str | Path)


@contextmanager
def table_file(table: Any, name: str) -> Iterator[Path]:  # noqa: ANN401 - many kinds
    """A table, the argument ``name``, as a Parquet file within the context alone; errors call the file ``name``.

    Raises:
        InputError: It is no table.
    """
    with tempfile.TemporaryDirectory(prefix="mtlue-") as folder:
        file = Path(folder) / f"{name}.parquet"
        _write_table(table, file, name)
        try:
            yield file
        except MtlueError as error:
            error.reword(lambda text: text.replace(str(file), name))
            raise


def _write_table(given: Any, file: Path, name: str) -> None:  # noqa: ANN401 - many kinds
    import pyarrow
    from pyarrow import parquet

    try:
        if isinstance(given, Mapping):
            columns = {str(own): pyarrow.array(column, from_pandas=True) for own, column in given.items()}
            table = pyarrow.table(columns)
        elif isinstance(given, pyarrow.Table):
            table = given
        elif hasattr(given, "iloc"):  # a pandas DataFrame; an index with a name is a column
            table = pyarrow.Table.from_pandas(given)
        else:
            raise InputError(
                f"{name} is a {type(given).__name__}, expected a path, a mapping of columns, a pandas DataFrame or a "
                "pyarrow Table"
            )
        parquet.write_table(table, file)
    except (pyarrow.ArrowException, TypeError, ValueError) as error:
        reason = first_line(error)
        raise InputError(f"{name} cannot be read as a table: {reason}") from error


@contextmanager
def limits(values: Mapping[str, Any]) -> Iterator[None]:
    """Within it files are read within the limits among ``values``."""
    with limited_to(checked(config_of(Budget, values))):
        yield


def progress_of(shown: bool) -> Progress:
    """Progress on standard error, or none."""
    return Terminal().progress if shown else SilentProgress()
