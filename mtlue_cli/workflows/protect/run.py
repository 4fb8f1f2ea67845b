"""Protect a folder of labelled images: plan, stream, record."""

import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Literal

from msgspec import structs

from mtlue_cli.choices import GPU_CALL_SIZE, ExitCode, ImageFormat
from mtlue_cli.documents import Document
from mtlue_cli.engines.engine import Engine, engine_of
from mtlue_cli.errors import InputError, MtlueError
from mtlue_cli.files import remote_of, unwritable
from mtlue_cli.generator.code_patterns import is_tinted
from mtlue_cli.generator.generator import Generator
from mtlue_cli.generator.shipped import is_shipped
from mtlue_cli.images.encode import is_compressed_with_loss, writes_fast
from mtlue_cli.layouts.companions import companion_files
from mtlue_cli.metrics.flip import MeanFlip
from mtlue_cli.notebook import html_table
from mtlue_cli.release.records import FileRecord, QuarantineRecord, Record, codes_in_words
from mtlue_cli.tasks.labels import released_labels
from mtlue_cli.tasks.overview import ColumnUse, overview_lines
from mtlue_cli.tasks.wording import counted, quoted
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.protect.config import ProtectConfig
from mtlue_cli.workflows.protect.flip import release_flip
from mtlue_cli.workflows.protect.own_weights import find_weights
from mtlue_cli.workflows.protect.photos import Remarks, protect_photos
from mtlue_cli.workflows.protect.plan import ProtectInputs, ProtectPlan, Weights, plan_protection, read_inputs


class Quarantined(Document, frozen=True, rename={"source": "file"}):
    """An original that is not released, and why."""

    source: str
    reason: str


class MeanChange(Document, frozen=True):
    """Mean changes of the released files, in 255ths."""

    smallest: float
    median: float
    largest: float


class ProtectResult(
    Document,
    frozen=True,
    kw_only=True,
    rename={
        "kept": "already_protected",
        "quarantine": "quarantined",
        "unlabelled": "without_labels",
        "compressed": "compressed_with_loss",
    },
):
    """What came out.

    Attributes:
        release: The output folder.
        protected: Images written by this run.
        kept: Files that an earlier run had already written.
        maps: Masks and maps in the release.
        turned_maps: Of these, how many were turned upright with their photos.
        quarantine: Originals that could not be protected, with the reason; they and their maps are not released.
        fixes: What to do about those that got too little, each said once.
        unlabelled: Images of the folder without a row; they are not released.
        tasks, unprotected_tasks: Names.
        kept_useful: Those of ``unprotected_tasks`` that the weights were trained to keep useful.
        epsilon: Bound in 255ths.
        max_change: Largest measured change over all released files in 255ths; None if there is none.
        mean_change: Over all released files; None without any.
        mean_psnr: Mean over all released files in dB; None if there is none.
        flip: Mean FLIP over a sample of the released files; None if none could be compared.
        compressed: Released files that are compressed with loss: their bound holds before compression.
        weights: Name of the generator.
        key_fingerprint: Of the key, for weights that take one, and for traceable releases.
        signer: Fingerprint of the signing key; None: the release is not signed.
        traceable: Bound in 255ths of the codes beside what trained weights add; None without any.
        warnings: What the user must know of the weights and of colour profiles.
        device: Where it ran, in words.
        seconds: Time taken.
        columns: What became of each column of the labels.
        exit_code: :attr:`ExitCode.QUARANTINE` if an image was left out.
    """

    schema_version: Literal[1] = 1
    command: Literal["protect"] = "protect"
    release: Path
    protected: int
    kept: int
    maps: int
    turned_maps: int
    quarantine: tuple[Quarantined, ...]
    fixes: tuple[str, ...]
    unlabelled: tuple[str, ...]
    tasks: tuple[str, ...]
    unprotected_tasks: tuple[str, ...]
    epsilon: int
    max_change: float | None
    mean_change: MeanChange | None
    mean_psnr: float | None
    flip: MeanFlip | None
    compressed: int
    weights: str
    key_fingerprint: str | None
    signer: str | None = None
    traceable: int | None = None
    warnings: tuple[str, ...]
    device: str
    seconds: float
    columns: tuple[ColumnUse, ...] = ()
    kept_useful: tuple[str, ...] = ()
    exit_code: ExitCode

    def rows(self) -> dict[str, str]:
        """The result by name, in words; empty where there is nothing to say."""
        done = f"{self.protected} protected, {self.kept} already done, {len(self.quarantine)} in quarantine"
        spread = "smallest {:.1f}, median {:.1f}, largest {:.1f} levels"
        return {
            "release": str(self.release),
            "images": done,
            "masks and maps": _maps_in_words(self.maps, self.turned_maps),
            "tasks": ", ".join(self.tasks),
            "not protected": ", ".join(self.unprotected_tasks),
            "kept useful": ", ".join(self.kept_useful),
            "largest change": "" if self.max_change is None else self._largest_change(),
            "change per file": "" if self.mean_change is None else spread.format(*structs.astuple(self.mean_change)),
            "mean PSNR": "" if self.mean_psnr is None else f"{self.mean_psnr:.2f} dB",
            "FLIP": "" if self.flip is None else self.flip.described(),
            "weights": self.weights,
            "key": self.key_fingerprint or "",
            "signed by": self.signer or "",
            "traceable": codes_in_words(self.traceable),
        }

    def _largest_change(self) -> str:
        compressed = (" after compression", " before it") if self.compressed else ("", "")
        return f"{self.max_change:g}/255{compressed[0]} (bound {self.epsilon}/255{compressed[1]})"

    def _repr_html_(self) -> str:
        more = {
            "in quarantine": [record.source for record in self.quarantine],
            "without labels": self.unlabelled,
            "warnings": self.warnings,
            "seconds": self.seconds,
        }
        return html_table("Protected images", self.rows() | more)


def _maps_in_words(maps: int, turned: int) -> str:
    if not turned:
        return f"{maps} copied as they are" if maps else ""
    others = "" if turned == maps else f", {maps - turned} copied as they are"
    return f"{turned} turned upright with their photos (EXIF){others}"


def protect_folder(config: ProtectConfig, progress: Progress, inputs: ProtectInputs | None = None) -> ProtectResult:
    """Write a protected copy of every labelled image; an interrupted run continues where it stopped.

    ``inputs`` are what :func:`read_inputs` gave; None: they are read now.

    Raises:
        InputError: Something does not fit; nothing was written.
        MtlueError: The output cannot be written; the same command continues later.
    """
    began = time.monotonic()
    inputs = inputs or read_inputs(config)
    with engine_of(config.engine, config.ray_address, config.device, config.workers) as engine:
        return _protected(config, progress, inputs, engine, began)


def _protected(
    config: ProtectConfig, progress: Progress, inputs: ProtectInputs, engine: Engine, began: float
) -> ProtectResult:
    found = find_weights(config, inputs, progress)
    if isinstance(found, Weights):
        plan = plan_protection(config, inputs, found)
        show_columns(plan.columns, plan.labels.notes, progress)
    else:
        show_columns(found.columns, inputs.labels.notes, progress)
        plan = plan_protection(config, inputs, found.made())
    generator = load_generator(config, plan, "cpu" if engine.is_remote else config.device)
    described = engine.described(generator.described_device)
    progress.note(f"device: {described}")
    if plan.key is not None:
        for line in plan.key.described():
            progress.note(line)
    if not plan.card.universal and is_shipped(plan.weights):
        progress.note(
            f"the weights {plan.card.name} are public: whoever has them can learn to undo the perturbation; "
            f"weights of your own, kept to yourself, do not have that weakness: {plan.training_command}"
        )
    if plan.run.traceable is not None:
        progress.note(
            f"traceable: codes of the key are added, {plan.run.traceable.levels}/255 strong; keep the key to use mtlue "
            "trace later"
        )
    elif config.traceable is not None:
        progress.note(f"--traceable changes nothing: all that {plan.card.name} adds are codes of the key")
    for line in plan.notes:
        progress.note(line)
    if config.fast and not writes_fast():
        progress.note("--fast has no effect without an extra: pip install 'mtlue[fast]'")
    done = sum(isinstance(record, FileRecord) for record in plan.earlier.records.values())
    if config.fast and done:
        progress.note(
            f"--fast is for files that are still to be written: {counted(done, 'file')} of the release stay as they "
            "are; --overwrite writes all again"
        )
    if plan.key is not None and len(plan.tasks.dense) and not is_tinted(plan.tasks):
        names = ", ".join(map(quoted, plan.tasks.dense.names))
        progress.note(
            f"these weights hardly protect the masks of {names} together with more than one other column: "
            f"protect one column with them (--tasks), or train weights of your own: {plan.training_command}"
        )
    generator.check_label_effect(plan.run.epsilon, f"train weights on these images: {plan.training_command}")
    release = plan.release
    try:
        with release.open(plan.run, plan.earlier, plan.sealer, config.images):
            records, remarks = protect_photos(plan, config.images, generator, engine, progress)
            ordered = [records[row] for row in sorted(records)]
            released = {row: record for row, record in records.items() if isinstance(record, FileRecord)}
            sources = {record.file_name: record.source for record in released.values()}
            flip = release_flip(config.images, release.folder, sources, progress)
            labels = released_labels(plan.labels, {row: record.file_name for row, record in released.items()})
            targets = {source: name for name, source in sources.items()}
            companions = companion_files(config.images, config.labels, config.reading, plan.labels, targets)
            release.close(ordered, labels, flip, companions)
    except OSError as error:
        raise MtlueError(unwritable(Path(error.filename or release.folder), error)) from error
    return _result(plan, records, remarks, flip, described, time.monotonic() - began)


def show_columns(columns: Sequence[ColumnUse], notes: Sequence[str], progress: Progress) -> None:
    """Show what becomes of each column, and what else is to know of the labels."""
    for line in (*overview_lines(columns, "protected"), *notes):
        progress.note(line)


def load_generator(config: ProtectConfig, plan: ProtectPlan, device: str) -> Generator:
    """The generator of a plan, bound to its key if it takes one.

    Raises:
        InputError: The weights are no longer those of the plan.
    """
    generator = Generator.load(
        plan.weights,
        key=None if plan.key is None else plan.key.key,
        tasks=plan.tasks,
        shares=plan.run.shares,
        cells=plan.run.code_cells,
        traceable=0 if plan.run.traceable is None else plan.run.traceable.levels,
        device=device,
        call_size=config.batch_size or GPU_CALL_SIZE,
    )
    if generator.card.digest != plan.run.weights_sha256:
        raise InputError(f"the weights {plan.weights} were replaced by others since the run began", hint="run it again")
    return generator


def _result(
    plan: ProtectPlan,
    records: Mapping[int, Record],
    remarks: Remarks,
    flip: MeanFlip | None,
    device: str,
    seconds: float,
) -> ProtectResult:
    columns = dict.fromkeys((*plan.card.tasks.names, *plan.labels.table.tasks.names))
    files = [record for record in records.values() if isinstance(record, FileRecord)]
    in_order = [records[row] for row in sorted(records)]
    left_out = tuple(Quarantined(one.source, one.reason) for one in in_order if isinstance(one, QuarantineRecord))
    kept = sum(plan.earlier.records.get(record.source) is record for record in files)
    changes = [record.mean_change for record in files if record.mean_change is not None]
    psnrs = [record.psnr for record in files if record.psnr is not None]
    maps = {name for record in files for name in record.maps}
    keeps = plan.run.image_format == ImageFormat.KEEP
    return ProtectResult(
        release=plan.release.folder,
        protected=len(files) - kept,
        kept=kept,
        maps=len(maps),
        turned_maps=len(maps & plan.labels.table.turns.keys()),
        quarantine=left_out,
        fixes=tuple(sorted(remarks.fixes)),
        unlabelled=plan.unlabelled,
        tasks=plan.tasks.names,
        unprotected_tasks=tuple(name for name in columns if name not in plan.tasks),
        epsilon=plan.run.epsilon,
        max_change=max((record.max_change for record in files), default=None),
        mean_change=MeanChange(min(changes), round(median(changes), 3), max(changes)) if changes else None,
        mean_psnr=sum(psnrs) / len(psnrs) if psnrs else None,
        flip=flip,
        compressed=sum(keeps and _is_compressed_with_loss(plan.release.folder / record.file_name) for record in files),
        weights=plan.card.name,
        key_fingerprint=plan.run.key_fingerprint,
        signer=None if plan.sealer.signer is None else plan.sealer.signer.public.fingerprint,
        traceable=None if plan.run.traceable is None else plan.run.traceable.levels,
        warnings=(*plan.warnings, *_profile_warnings(remarks.lost_profiles)),
        device=device,
        seconds=round(seconds, 3),
        columns=plan.columns,
        kept_useful=plan.run.keep,
        exit_code=ExitCode.QUARANTINE if left_out else ExitCode.SUCCESS,
    )


def _profile_warnings(lost: Collection[str]) -> tuple[str, ...]:
    if not lost:
        return ()
    return (
        f"{counted(len(lost), 'photo')} protected without the colour profile, which is damaged or for colours that the "
        f"released file does not have, such as {min(lost)}: convert them to sRGB first if their colours look wrong",
    )


def _is_compressed_with_loss(released: Path) -> bool:
    if remote_of(released) is not None:  # not worth fetching each
        return released.suffix.lower() in (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".avif")
    try:
        with released.open("rb") as stream:
            return is_compressed_with_loss(stream.read(12))
    except OSError:  # it was there when the release was complete
        return False
