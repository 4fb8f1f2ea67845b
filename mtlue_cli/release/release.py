"""A release as an object: the one owner of what is released, and of whether it is whole."""

import contextlib
import hashlib
import hmac
import io
import os
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from msgspec import structs

from mtlue_cli.budget import ReadingThreads
from mtlue_cli.errors import InputError, MtlueError, StorageError
from mtlue_cli.files import (
    OpenFolder,
    discard,
    expect,
    file_digest,
    has_digest,
    is_temporary,
    open_regular,
    synchronise,
    write_atomically,
)
from mtlue_cli.images.folder import find_files_and_links, may_be_photo
from mtlue_cli.metrics.flip import MeanFlip
from mtlue_cli.release.check import (
    FileCheck,
    ReleaseCheck,
    check_file,
    companions_of,
    folder_faults,
    label_faults,
)
from mtlue_cli.release.lent import Lent
from mtlue_cli.release.records import (
    FOLDER,
    LABELS_NAME,
    LENT_NAME,
    LOCK_NAME,
    MANIFEST_NAME,
    PLANNED_NAME,
    RUN_NAME,
    RUN_PATH,
    SHARDS_NAME,
    FileRecord,
    Manifest,
    Record,
    RunRecord,
    is_release,
    manifest_line,
    read_manifest,
    read_planned,
    record_path,
    records_folder,
    released_files,
    run_content,
    settings_digest,
    share_values,
    write_manifest,
    write_planned,
    write_run,
)
from mtlue_cli.release.seal import JOURNAL_NAME, SEAL_PATH, Authentication, Sealer, Trust, authenticate
from mtlue_cli.storage.mount import remote_folder
from mtlue_cli.storage.parts import Parts
from mtlue_cli.storage.writer import sole_remote_writer
from mtlue_cli.tasks.paths import folded, path_fault
from mtlue_cli.tasks.spec import LabelTable
from mtlue_cli.tasks.wording import counted

_SHORT_NAME = re.compile(r"mtlue~\d+|labels~\d+\.csv")
"""What Windows may also call them."""

CHECKED_AT_ONCE = 16
"""Files that a thread reads in a row: handing each over alone costs more than reading a small one."""

Seen = tuple[int, int] | None
"""Inode and time of a release's run record, which every run writes anew; None without one."""


@dataclass(frozen=True)
class Contents:
    """What a run finds in its output folder.

    Attributes:
        manifest: The records of the release there; None if there is none.
        ours: Every file that this run or an earlier one may have put there.
        seen: State of the run record when all this was read.
    """

    manifest: Manifest | None = None
    ours: frozenset[str] = frozenset()
    seen: Seen = None


@dataclass(frozen=True)
class Resumption:
    """What a run makes of what it finds.

    Attributes:
        records: Records to continue from, by source: those of the same settings.
        obsolete: Files to be removed before work starts: those of a release that is replaced, and those that a killed
            run left without a record.
        ours: Every file that this run or an earlier one may have put there.
        released: Released file of each digest, as the release calls it: what an original must not be.
        seen: State of the run record when the folder was read.
    """

    records: Mapping[str, FileRecord] = field(default_factory=dict)
    obsolete: frozenset[str] = frozenset()
    ours: frozenset[str] = frozenset()
    released: Mapping[str, str] = field(default_factory=dict)
    seen: Seen = None


class Release:
    """A folder of protected images with their labels and records.

    A run looks at the folder once (:meth:`look`), decides what to continue from (:meth:`resume`), and writes between
    :meth:`open` and :meth:`close`, a record at a time (:meth:`add`).

    Args:
        folder: Where it is, or is to be.
        beside: Whether the records of a new release stand beside it, in ``NAME.mtlue``: its loader takes every folder
            in it for a class.

    Attributes:
        opened: Its folder while it is open: what writes to it through that cannot be led elsewhere.
    """

    def __init__(self, folder: str | Path, *, beside: bool = False) -> None:
        self.folder = Path(folder)
        self._beside = beside
        self._run: RunRecord | None = None
        self._ours: frozenset[str] = frozenset()
        self._log: io.TextIOWrapper | None = None
        self.opened: OpenFolder | None = None
        self._sealer = Sealer()
        self._begun: hmac.HMAC | None = None
        self._macs: io.TextIOWrapper | None = None
        self._parts: Parts | None = None
        self._known: dict[Any, Any] = {}

    @property
    def records(self) -> Path:
        """The folder of its records."""
        if self._beside and not (self.folder / FOLDER).exists():
            absolute = Path(os.path.abspath(self.folder))
            return absolute.with_name(absolute.name + FOLDER)
        return records_folder(self.folder)

    @property
    def manifest(self) -> Manifest:
        """Its settings and the record of every file, read from the disk.

        Raises:
            InputError: It is no release, or a record is damaged.
        """
        return read_manifest(self.folder)

    def look(self, targets: frozenset[str]) -> Contents:
        """Read what the folder holds before a run that is to write ``targets``, relative POSIX; writes nothing.

        Raises:
            InputError: It is no folder, not empty and not ours, or holds links or images that mtlue did not write.
        """
        _refuse_reserved(targets)
        folder = self.folder
        if folder.exists() and not folder.is_dir():
            raise InputError(f"the output {folder} is a file, expected a folder", hint="give another output folder")
        if not folder.is_dir() or not any(folder.iterdir()):
            if self._beside and os.path.lexists(self.records):
                raise InputError(
                    f"{self.records} is there already, and the records of this release would stand there",
                    hint="remove it, or give another output folder with --out",
                )
            return Contents(ours=targets)
        files, links = find_files_and_links(folder)
        self._refuse_links(links)
        seen = self._state()
        if seen is None:
            if all(entry.name == FOLDER for entry in folder.iterdir()):
                return Contents(ours=targets)  # a run that was killed before it wrote its settings
            raise InputError(
                f"the output folder {folder} is not empty and holds no release of mtlue",
                hint="give another output folder",
            )
        if (self.records / SHARDS_NAME).is_file():
            raise InputError(f"{folder} holds a release in shards", hint="give another output folder with --out")
        manifest = self.manifest
        ours = manifest.names | read_planned(folder) | targets | companions_of(manifest.run)
        strangers = _strange_photos(folder, files, ours)
        if strangers:
            raise InputError(
                f"{folder} holds {counted(len(strangers), 'image')} that mtlue did not write, which may be unprotected",
                strangers,
                "move them out of the release, or give another output folder",
            )
        return Contents(manifest, ours, seen)

    def resume(self, contents: Contents, run: RunRecord, vouched: Manifest | None, *, overwrite: bool) -> Resumption:
        """What a run with the settings ``run`` continues from, of the ``contents`` that :meth:`look` found.

        No record is continued but those of ``vouched``, what the user's key vouches for; None: it vouches for nothing.
        ``overwrite`` replaces a release that was made with other settings, or whose codes are others than the run would
        draw in a new folder.

        Raises:
            InputError: The release was made with other settings, and is not to be replaced.
        """
        manifest, ours = contents.manifest, contents.ours
        if manifest is None:
            return Resumption(ours=ours)
        differences = run.differences(manifest.run)
        if differences and not overwrite:
            raise InputError(
                f"{self.folder} was made with other settings",
                differences,
                "repeat the settings of the release, give another folder with --out, or replace the release with "
                "--overwrite",
            )
        # A file that is its own original, which older versions released, says nothing of the originals.
        changed = (record for record in manifest.files if record.max_change > 0)
        released = {record.sha256: record.file_name for record in changed if record.sha256 != record.source_sha256}
        if vouched is None or differences or (overwrite and not run.has_codes_of(manifest.run)):
            return Resumption({}, ours, ours, released, contents.seen)
        records = {record.source: record for record in vouched.files}
        return Resumption(records, ours - vouched.names, ours, released, contents.seen)

    @contextmanager
    def open(
        self,
        run: RunRecord,
        resumption: Resumption,
        sealer: Sealer = Sealer(),  # noqa: B008 - frozen
        originals: Path | None = None,
    ) -> Iterator[None]:
        """Hold the release for one run, and make it ready: nothing half written, nothing of other settings.

        ``sealer`` seals it when it is closed, and vouches for each record until then. ``originals`` is their folder.

        Raises:
            InputError: Another run holds it, or has written to it since it was looked at.
            OSError: It cannot be written.
            StorageError: Likewise, by a URL.
        """
        if self._beside and not (self.folder / FOLDER).exists():
            write_atomically(self.folder / FOLDER, f"{self.records.name}\n".encode())
        with sole_writer(self.folder), contextlib.ExitStack() as leaving:
            if self._state() != resumption.seen:
                raise InputError(
                    f"another run has written to {self.folder} meanwhile",
                    hint="run the same command again to continue from there",
                )
            self._run, self._ours, self._sealer = run, resumption.ours, sealer
            discard(self.records / LENT_NAME)  # workers of an earlier run write no more
            self.opened = OpenFolder(self.folder)
            leaving.callback(self._leave)
            is_under_way = leaving.enter_context(sole_remote_writer(self.folder, self.records))
            remote = remote_folder(self.folder)
            if remote is not None:
                name = self.records.relative_to(remote.root).as_posix()
                source = None if originals is None else remote_folder(originals)
                self._parts = Parts(remote, name, sealer.mac, source, is_under_way)
                if resumption.records:
                    self._parts.take_up()
                else:
                    self._parts.discard()
                leaving.push(self._leave_parts)
            write_planned(self.folder, self._ours)
            self._remove_temporaries()
            self._remove(resumption.obsolete)
            journal = sealer.journal(run)
            self._begun = None if journal is None else journal.of_records
            if journal is not None:
                write_atomically(self.records / JOURNAL_NAME, journal.text(resumption.records.values()))
            if not resumption.records:
                write_manifest(self.folder, ())
            write_run(self.folder, run)
            discard(record_path(self.folder, SEAL_PATH))
            self._log = _open_log(self.records / MANIFEST_NAME)
            self._macs = None if journal is None else (self.records / JOURNAL_NAME).open("a", encoding="ascii")
            yield

    def add(self, record: Record) -> None:
        """Append a record to the manifest; it reaches the operating system at once. Only while the release is open."""
        assert self._log is not None, "the release is not open"
        if isinstance(record, FileRecord):
            share_values(record, self._known)
        line, digest = manifest_line(record), None
        self._log.write(line)
        self._log.flush()
        if self._begun is not None and self._macs is not None:
            mac = self._begun.copy()  # as Journal.of does it
            mac.update(line.encode("utf-8", "surrogatepass"))
            digest = mac.hexdigest()
            self._macs.write(f"{digest}\n")
            self._macs.flush()
        if self._parts is not None:
            self._parts.add(line, digest, released_files([record]), record.source)

    def lend(self) -> Lent:
        """Let other processes write photos and maps too, until the release is closed or another run opens it.

        Raises:
            OSError: The records cannot be written.
        """
        lent = Lent(self.folder, self.records, secrets.token_hex(16))
        write_atomically(self.records / LENT_NAME, lent.name.encode())
        return lent

    def close(
        self,
        records: Sequence[Record],
        labels: bytes,
        flip: MeanFlip | None,
        companions: Mapping[str, bytes] | None = None,
    ) -> None:
        """Remove what no longer belongs to the release; write manifest, labels and, last, that the run is complete.

        Before that all folders are synchronised: what is called complete survives a power cut. ``records`` are those of
        every original, in the order of the labels, which are the content of the label file. ``companions`` are other
        files of the layout, by their relative POSIX paths.

        Raises:
            MtlueError: The release holds images that no record names; it is not called complete.
            OSError: It cannot be written.
        """
        assert self._run is not None, "the release is not open"
        self._close_log()
        folder, released = self.folder, released_files(records)
        if self.opened is not None and not self.opened.is_in_place():
            raise MtlueError(
                f"{folder} was replaced by another folder or a link while the run wrote to it; put it back and run the "
                "same command again"
            )
        if (self.records / LENT_NAME).exists():
            discard(self.records / LENT_NAME)
            self._remove_temporaries()  # of workers that died
        remote = remote_folder(folder)
        if self._parts is not None and remote is not None:
            self._parts.put()
            remote.refresh()
        self._remove(self._ours - released)
        write_manifest(folder, records)
        self._merge_parts()
        texts = {**(companions or {}), LABELS_NAME: labels}
        for name, content in texts.items():
            write_atomically(folder / name, content, keep_name=False, within=self.opened)
        files, links = find_files_and_links(folder)
        strangers = [f"{name} (a link)" for name in links]
        strangers += _strange_photos(folder, files, released | texts.keys())
        if strangers:
            raise MtlueError(
                f"images that mtlue did not write appeared in {folder}, they may be unprotected: "
                f"{', '.join(strangers)}; move them out and run the same command again"
            )
        for parent in {name.rpartition("/")[0] for name in (*released, *texts)}:
            synchronise(folder / parent)
        images = sum(isinstance(record, FileRecord) for record in records)
        counts = {"released": images, "quarantined": len(records) - images}
        if len(released) > images:
            counts["maps"] = len(released) - images
        recorded = {} if flip is None else flip.to_json()
        run = structs.replace(self._run, complete=True, counts=counts, flip=recorded)
        digests = {name: file_digest(record_path(folder, name)) for name in (f"{FOLDER}/{MANIFEST_NAME}", *texts)}
        digests[RUN_PATH] = settings_digest(run.to_json())
        run = structs.replace(run, digests=digests)
        self._sealer.seal(folder, {RUN_PATH: hashlib.sha256(run_content(run)).hexdigest()})
        write_run(folder, run)
        for name in (PLANNED_NAME, JOURNAL_NAME):
            discard(self.records / name)

    def check(
        self,
        against: str | Path | None = None,
        labels: LabelTable | None = None,
        *,
        file_column: str | None = None,
        with_ssim: bool = False,
        workers: int = 2,
        on_start: Callable[[int], None] | None = None,
        on_file: Callable[[], None] | None = None,
        trust: Trust = Trust(),  # noqa: B008 - frozen
    ) -> ReleaseCheck:
        """Read every file again and hold it against the records, the labels and the originals; nothing is changed.

        Args:
            against: Folder of the originals, to measure every file against its own; None: hold files to their records.
            labels: The labels of the originals. Each row must be in the manifest, and be what its image was protected
                with; an original that no row names may be missing. None: the manifest alone says what is released.
            file_column: Header of the file column of the release's label file if its run record, made by an older
                version, does not say; None: by the usual names.
            with_ssim: Whether to measure SSIM too.
            workers: Threads that decode.
            on_start: Called with the number of files, before the first is checked.
            on_file: Called after each file.
            trust: Whose seal the release must have.

        Raises:
            InputError: It is no release, or its records are damaged.
        """
        manifest, folder = self.manifest, self.folder
        originals = None if against is None else Path(against)
        row_of = {} if labels is None else {name: row for row, name in enumerate(labels.file_names)}

        def look(record: FileRecord) -> FileCheck:
            row = row_of.get(record.source)
            maps: dict[str, Path] = {}
            if labels is not None and row is not None:
                maps = {name: labels.maps_folder / name for name in labels.map_files(row)}
            must_measure = labels is None or row is not None
            turns = {} if labels is None else labels.turns
            return check_file(
                folder, record, manifest.run, originals, maps, turns, must_measure=must_measure, with_ssim=with_ssim
            )

        expect(folder, [record.file_name for record in manifest.files])
        if originals is not None:
            expect(originals, [record.source for record in manifest.files])
            if with_ssim:
                import mtlue_cli.metrics.image_quality  # noqa: F401 - takes seconds, which are no file's
        if on_start is not None:
            on_start(len(manifest.files))
        found: list[FileCheck] = []
        at_once = CHECKED_AT_ONCE if originals is None else 1
        with ReadingThreads(max_workers=max(1, workers)) as pool:
            for result in pool.map(look, manifest.files, chunksize=at_once):
                found.append(result)
                if on_file is not None:
                    on_file()
        faults = folder_faults(folder, manifest, read_planned(folder), originals)
        if manifest.run.complete:
            known = {record.source for record in manifest.files} | {record.source for record in manifest.quarantine}
            faults += [f"{name}: not in the manifest" for name in row_of if name not in known]
        faults += [fault for result in found for fault in result.faults]
        faults += label_faults(folder, manifest, labels, file_column)
        seal = authenticate(folder, manifest, trust) if manifest.run.complete else Authentication()
        faults += seal.faults
        authentication = Authentication(tuple(faults)) if faults else seal
        return ReleaseCheck(folder, manifest, tuple(found), tuple(faults), manifest.run.measured_flip, authentication)

    def _state(self) -> Seen:
        """What changes whenever another run has begun or ended."""
        try:
            status = (self.records / RUN_NAME).stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    def _leave(self) -> None:
        try:
            self._close_log()
        finally:
            if self.opened is not None:
                self.opened.close()
                discard(self.records / LENT_NAME)
            self.opened = None

    def _merge_parts(self) -> None:
        """Let the manifest, which is written, and the journal take the place of the parts that a URL has."""
        if self._parts is not None:
            journal = self.records / JOURNAL_NAME
            if journal.exists():
                write_atomically(journal, journal.read_bytes())
            self._parts.discard()

    def _leave_parts(self, kind: type[BaseException] | None, *_: object) -> None:
        """Put the last part of a run that ends early; nothing if the store is why."""
        parts, self._parts = self._parts, None
        if parts is not None and kind is not None and not issubclass(kind, StorageError):
            with contextlib.suppress(StorageError):
                parts.put()

    def _close_log(self) -> None:
        """End the logs, and bring them to the disk."""
        logs = [log for log in (self._log, self._macs) if log is not None]
        self._log = self._macs = None
        with contextlib.ExitStack() as closing:  # each is closed, also where another cannot be written
            for log in logs:
                closing.enter_context(log)
            for log in logs:
                log.flush()
                os.fsync(log.fileno())

    def _remove_temporaries(self) -> None:
        names = {name.rpartition("/")[0] for name in self._ours}
        folders = {self.folder / name for name in names if path_fault(name) is None}
        for parent in {self.records, self.folder, *folders}:
            for left in parent.glob(".*.tmp") if os.path.isdir(parent) else ():
                if is_temporary(left.name):
                    left.unlink()

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            if path_fault(name) is None:
                discard(self.folder / name, self.opened)

    def _refuse_links(self, links: Sequence[str]) -> None:
        beside = self.records.parent != self.folder and os.path.islink(self.records)
        found = [*links, *([str(self.records)] if beside else [])]
        if found:
            raise InputError(
                f"{self.folder} contains symbolic links, through which a run could write outside it",
                found,
                "remove them, or give another output folder",
            )


@contextmanager
def sole_writer(release: Path) -> Iterator[None]:
    """Hold a release for one run; the system lets go of it however the process ends. Folders are made if need be.

    Raises:
        InputError: Another run holds it.
        OSError: The lock file cannot be written.
    """
    from filelock import FileLock, Timeout

    path = records_folder(release) / LOCK_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(path, timeout=0).acquire()
    except Timeout:
        raise InputError(
            f"another run is writing to {release}",
            hint="wait until it has ended, or give another output folder",
        ) from None
    with lock:
        yield


def refuse_protected(images: Path, names: Sequence[str]) -> None:
    """Refuse originals that the manifest of a release, their folder or one above it, names byte for byte.

    Raises:
        InputError: Lists every one of them.
    """
    folder = images.resolve()
    release = next((parent for parent in (folder, *folder.parents) if is_release(parent)), None)
    if release is None:
        return
    digests = {record.file_name: record.sha256 for record in read_manifest(release).files}
    inside = folder.relative_to(release)
    faults: list[str] = []
    for name in names:
        recorded = digests.get((PurePosixPath(inside) / name).as_posix())
        if recorded is not None and has_digest(folder / name, recorded):
            faults.append(f"{name}: is a released file of {release}")
    if faults:
        raise InputError(
            f"{len(faults)} of {len(names)} images are protected already",
            faults,
            "give the folder of the originals, or --force to protect them a second time",
        )


def _open_log(path: Path) -> io.TextIOWrapper:
    """The manifest, to append to; a torn last line is cut off."""
    with contextlib.suppress(FileNotFoundError), io.BufferedReader(open_regular(path)) as stream:
        end = sum(len(line) for line in stream if line.endswith(b"\n"))
        if end < stream.tell():
            os.truncate(path, end)
    return path.open("a", encoding="utf-8")


def _strange_photos(folder: Path, files: Iterable[str], ours: Collection[str]) -> list[str]:
    """Files of the folder that are photos, by name or content, and not ours; those half written are left out."""
    return [name for name in files if name not in ours and not is_temporary(name) and may_be_photo(folder / name)]


def is_reserved(name: str) -> bool:
    """Whether a file of a release would stand where its records or its label file do, on some file system."""
    first = folded(name.split("/")[0].split(":")[0])  # Windows keeps streams of a file after a colon
    return first in (FOLDER, LABELS_NAME) or _SHORT_NAME.fullmatch(first) is not None


def _refuse_reserved(targets: frozenset[str]) -> None:
    faults = [f"{name}: is reserved for the release's own records" for name in sorted(targets) if is_reserved(name)]
    if faults:
        raise InputError(
            "files have names that the release needs for its own records",
            faults,
            "rename them, and in the label file too",
        )
