"""Protect a data set in shards: unpack it beside the release, protect its images, write the shards again."""

import os
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from msgspec import structs

from mtlue_cli.choices import LabelFormat
from mtlue_cli.errors import InputError, MtlueError
from mtlue_cli.files import unwritable
from mtlue_cli.images.folder import file_check, refuse_nesting, refuse_secret_inside
from mtlue_cli.keys import find_key
from mtlue_cli.layouts.shards import FILE_COLUMN, Shards
from mtlue_cli.release.packed import CARDS, is_packed, pack, refuse_other, unpack
from mtlue_cli.release.records import FOLDER, is_release, read_run
from mtlue_cli.release.release import sole_writer
from mtlue_cli.storage.mount import work_folder
from mtlue_cli.storage.writer import sole_remote_writer
from mtlue_cli.tasks.label_options import LabelOptions
from mtlue_cli.tasks.wording import counted, listed
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.plan import refuse_keys_inside, sealer_of
from mtlue_cli.workflows.protect.run import ProtectResult, protect_folder

WORK = ".mtlue-work"
"""End of the name of the folder beside the release where images are unpacked; it is removed at the end."""


def protect_shards(config: ProtectConfig, shards: Shards, progress: Progress) -> ProtectResult:
    """Write a protected copy of every shard in ``config.images``; an interrupted run continues where it stopped.

    Raises:
        InputError: Something does not fit; the release was not touched.
        MtlueError: The output cannot be written; the same command continues later.
    """
    out = config.release
    refuse_nesting(config.images, out)
    refuse_secret_inside(config.sign, config.images, out)
    refuse_keys_inside(config, out)
    refuse_other(out)
    if is_packed(config.images) and not config.force:
        raise InputError(
            f"{config.images} is a release: its images are protected already",
            hint="give the folder of the originals, or --force to protect them a second time",
        )
    inside = file_check(config.images, shards.names)
    copied = [name for name in CARDS if os.path.lexists(config.images / name)]
    if faults := [fault for name in (*shards.names, *copied) if (fault := inside(name)) is not None]:
        raise InputError(f"files of {config.images} cannot be released", faults, "put the files themselves there")
    absolute = out.resolve()
    work = work_folder(absolute) or absolute.with_name(f".{absolute.name}{WORK}")
    images, plain = work / config.images.resolve().name, work / "release"
    if images == plain:
        images = work / "originals"
    labels = work / "labels.jsonl"
    reading = replace(config.reading, format=LabelFormat.JSONL, file_column=FILE_COLUMN)
    own = LabelOptions(LabelFormat.JSONL, FILE_COLUMN).arguments(labels)
    names = {f" {shlex.join(own)}": "", str(images): str(config.images), str(plain): str(out)}
    progress = _Renaming(progress, names)
    others = [name for name in shards.others if name not in CARDS]
    if others:
        progress.note(f"{counted(len(others), 'other file')} not in the release: {listed(others)}")
    with _renamed(names), sole_writer(work), sole_remote_writer(out, out / FOLDER) as is_under_way:
        work.chmod(0o700)
        try:
            progress.start("unpacking shards", len(shards.names))
            shutil.rmtree(images, ignore_errors=True)
            remarks = shards.unpack(images, labels, progress.advance)
            progress.finish()
            for line in remarks:
                progress.note(line)
            unpacked = _prepared(out, plain, overwrite=config.overwrite)
            inner = replace(config, images=images, labels=labels, out=plain, reading=reading)
            try:
                result = protect_folder(inner, progress)
            except InputError:  # nothing was written
                if unpacked:
                    shutil.rmtree(plain, ignore_errors=True)
                raise
            is_under_way()
            progress.start("writing shards", len(shards.names))
            key = None if result.key_fingerprint is None else find_key(config.key)

            def on_shard() -> None:
                is_under_way()
                progress.advance()

            pack(shards, plain, out, on_shard, sealer_of(config.sign, key)[0])
            progress.finish()
            shutil.rmtree(plain)
        except OSError as error:
            raise MtlueError(unwritable(Path(error.filename or work), error)) from error
        finally:
            # What is protected already stays, so that the run can be resumed.
            shutil.rmtree(images if is_release(plain) else work, ignore_errors=True)
    return structs.replace(
        result,
        release=out,
        fixes=tuple(_with_names(fix, names) for fix in result.fixes),
        warnings=tuple(_with_names(warning, names) for warning in result.warnings),
    )


def _prepared(out: Path, plain: Path, *, overwrite: bool) -> bool:
    """Unpack a complete release in shards, so that it is continued, unless an interrupted run left a plain one.

    One that it left with other settings is dropped, unless it is to replace the release.

    Returns:
        Whether the release was unpacked.
    """
    run = read_run(out) if is_packed(out) and is_release(out) else None
    if run is None or not run.complete:
        return False
    if is_release(plain):
        if overwrite or not read_run(plain).differences(run):
            return False
        shutil.rmtree(plain)
    unpack(out, plain)
    return True


class _Renaming:
    """Progress that speaks of the user's folders, not of those in which shards are unpacked."""

    def __init__(self, progress: Progress, names: Mapping[str, str]) -> None:
        self._progress, self._names = progress, names
        self.start, self.advance, self.finish = progress.start, progress.advance, progress.finish

    def note(self, message: str) -> None:
        """Say something."""
        self._progress.note(_with_names(message, self._names))


@contextmanager
def _renamed(names: Mapping[str, str]) -> Iterator[None]:
    """Within it errors speak of the user's folders."""
    try:
        yield
    except MtlueError as error:
        error.reword(lambda text: _with_names(text, names))
        raise


def _with_names(text: str, names: Mapping[str, str]) -> str:
    for place, name in names.items():
        text = text.replace(place, name)
    return text
