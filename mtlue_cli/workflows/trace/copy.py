"""``mtlue trace copy``: how much of the perturbation is left in copies of released photos, and what that is worth."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from statistics import fmean
from typing import Literal

import numpy as np
import numpy.typing as npt

from mtlue_cli.budget import ReadingThreads
from mtlue_cli.choices import ExitCode
from mtlue_cli.documents import Document
from mtlue_cli.errors import ImageError, InputError
from mtlue_cli.generator.generator import Generator
from mtlue_cli.images.decode import decode_bytes, read_content
from mtlue_cli.images.folder import find_images
from mtlue_cli.notebook import html_table
from mtlue_cli.perturbation.bound import protect_pixels
from mtlue_cli.release.records import FileRecord, Manifest
from mtlue_cli.release.release import Release
from mtlue_cli.tasks.spec import UNLABELLED
from mtlue_cli.tasks.wording import counted
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.trace.alignment import SAME_PICTURE, WHOLE, Alignment, Grey, Seen, align, part, turned
from mtlue_cli.workflows.trace.config import CopyConfig
from mtlue_cli.workflows.trace.matching import Names, Thumbnails, thumbnail
from mtlue_cli.workflows.trace.pictures import grid_size, luma, on_grid, reduced_opacity, reduced_pixels
from mtlue_cli.workflows.trace.release_weights import generator_of, weights_of
from mtlue_cli.workflows.trace.surviving import NORMAL_95, Planes, Surviving, surviving_share
from mtlue_cli.workflows.trace.worth import Worth, worth_of

CHUNK = 32
"""Copies that are kept in memory together."""

SEARCHED = 3
"""Released photos that are searched at every scale for a copy that fits none of the likely ones as a whole."""

SHOWN = 3
"""Released photos that a message names."""

AS_SIMILAR = 0.1
"""Two released photos whose correlations with a copy differ by less than this, both high enough, are both possible."""

METHOD_ERROR = 0.01
"""Standard error of a share beside the noise that is measured in each photo (docs/trace.md)."""

MATCHED_ERROR = 0.06
"""The same where the perturbation is computed from the released photo, for a copy that has none of it left; it falls
to nothing for one that has all (docs/trace.md)."""

LISTED = 500
"""Copies that a page lists: those that were not measured and those with the least left come first."""

_LOOKS = {ExitCode.SUCCESS: ("protected", "✓"), ExitCode.NOT_PROTECTED: ("not-protected", "✗")}

Method = Literal["originals", "weights"]
Status = Literal["measured", "ambiguous", "unmatched", "unmeasured", "unreadable"]

_FLIPPED = 4


class CopyFile(Document, frozen=True, kw_only=True, rename={"name": "file"}):
    """What was found of one copy.

    Attributes:
        name: The copy, relative to the folder that was given.
        status: ``measured``; or why nothing can be said: ``ambiguous`` (several released photos show the same picture),
            ``unmatched`` (none does, or too little of it), ``unmeasured`` (its perturbation is not known),
            ``unreadable``.
        reason: Why it was not measured, in words; null if it was.
        released: The released file that it is a copy of; null unless one was found.
        matched_by: How that file was found: by its bytes, its name, or the picture.
        rotated: Degrees clockwise by which the copy is turned against the released photo.
        mirrored: Whether it is mirrored.
        covered: Share of the photo's area that the copy shows.
        correlation: Of the aligned pictures, in fine detail; 1 where they are the same.
        share: Share of the perturbation that is left; 1 is all.
        share_low, share_high: 95 % interval of it.
    """

    name: str
    status: Status
    reason: str | None = None
    released: str | None = None
    matched_by: Literal["content", "name", "picture"] | None = None
    rotated: int | None = None
    mirrored: bool | None = None
    covered: float | None = None
    correlation: float | None = None
    share: float | None = None
    share_low: float | None = None
    share_high: float | None = None


class MeanShare(Document, frozen=True):
    """Mean share of the measured copies, its 95 % interval by errors of measurement, and the extremes of a copy."""

    mean: float
    low: float
    high: float
    smallest: float
    largest: float


class CopyResult(Document, frozen=True, kw_only=True):
    """What ``mtlue trace copy --json`` writes.

    Attributes:
        schema_version, command: Which document this is.
        release, copies: The folders that were compared.
        method: ``originals``: against the originals, exactly; ``weights``: with a matched filter for what the weights
            of the release add.
        weights: Name of the weights of the release.
        files: What was found of every copy.
        counts: Number of copies of each status.
        share: Over the measured copies; null if there are none.
        worth: What the mean share is worth; null without one, and for releases of universal weights.
        least_share: The share that was asked for.
        below: Copies with clearly less, in their order.
        reason: One sentence for a reader.
        exit_code: 0; 3: some copies could not be measured; 4: less than the least share may be left in all, or clearly
            is in one; 5: none could be measured.
    """

    schema_version: Literal[1] = 1
    command: Literal["trace copy"] = "trace copy"
    release: str
    copies: str
    method: Method
    weights: str
    files: tuple[CopyFile, ...]
    counts: dict[Status, int]
    share: MeanShare | None
    worth: Worth | None
    least_share: float
    below: tuple[str, ...]
    reason: str
    exit_code: ExitCode

    def rows(self) -> dict[str, str]:
        """The result in all, by name, in words; empty where there is nothing to say."""
        share, others = self.share, {name: count for name, count in self.counts.items() if name != "measured"}
        how = (
            "exact, against the originals" if self.method == "originals" else f"matched filter, weights {self.weights}"
        )
        return {
            "release": self.release,
            "copies": f"{len(self.files)}, {self.counts['measured']} measured",
            "not measured": ", ".join(f"{count} {name}" for name, count in others.items() if count),
            "method": how,
            "share left": ""
            if share is None
            else f"{share.mean:.0%}, 95 % interval {share.low:.0%} to {share.high:.0%}",
            "per copy": "" if share is None else f"{share.smallest:.0%} to {share.largest:.0%}",
            "worth": "" if share is None else self.worth.meaning if self.worth else "not measured for these weights",
        }

    def html(self) -> str:
        """The result as one self-contained page, without script or request; every text is escaped."""
        from mtlue_cli.verification.reports.pages import page_environment  # brings torch

        files = sorted(self.files, key=lambda one: (one.share is not None, one.share or 0.0))
        look, sign = _LOOKS.get(self.exit_code, ("inconclusive", "?"))
        template = page_environment("mtlue_cli.workflows", "trace").get_template("copy.html.jinja")
        return template.render(
            result=self,
            rows=self.rows(),
            files=files[:LISTED],
            below=frozenset(self.below),
            heading=f"{self.share.mean:.0%} of the perturbation is left" if self.share else "Nothing measured",
            look=look,
            sign=sign,
        )

    def _repr_html_(self) -> str:
        return html_table("Copies of a release", self.rows())


@dataclass(frozen=True)
class _Photo:
    """What is kept of a photo: reduced pixels, brightness and opacity; its own size, and its content's digest."""

    pixels: npt.NDArray[np.uint8]
    grey: Grey
    opacity: npt.NDArray[np.float32] | None
    size: tuple[int, int]
    digest: str

    @classmethod
    def of_file(cls, path: Path) -> "_Photo":
        """Read a file.

        Raises:
            ImageError: It cannot be read.
        """
        content = read_content(path)
        photo = decode_bytes(content, metadata=())
        pixels = reduced_pixels(photo)
        digest = hashlib.sha256(content).hexdigest()
        return cls(pixels, luma(pixels), reduced_opacity(photo), photo.size, digest)


@dataclass(frozen=True)
class _Match:
    """A copy with the released photo that it shows."""

    name: str
    copy: _Photo
    record: FileRecord
    by: Literal["content", "name", "picture"]
    alignment: Alignment
    released: _Photo


@dataclass(frozen=True)
class _Search:
    """Finds the released photos of copies, and measures what is left in these.

    Attributes:
        release: The release as a folder of photos.
        manifest: Its records.
        folder: Where the copies are.
        generator: What the release was made with; None where there are originals.
        config: How copies are compared.
        progress: Where it reports.
        damaged: Released photos that are not as recorded.
    """

    release: Path
    manifest: Manifest
    folder: Path
    generator: Generator | None
    config: CopyConfig
    progress: Progress
    damaged: set[str] = field(default_factory=set)

    @cached_property
    def names(self) -> Names:
        """Released files by name."""
        return Names(self.manifest.files)

    @cached_property
    def by_digest(self) -> dict[str, list[FileRecord]]:
        """Released files by the digest of their bytes."""
        found: dict[str, list[FileRecord]] = {}
        for record in self.manifest.files:
            found.setdefault(record.sha256, []).append(record)
        return found

    @cached_property
    def thumbnails(self) -> Thumbnails:
        """Thumbnails of all released files, read when they are first asked for."""
        self.progress.start("reading released photos", len(self.manifest.files))
        found = Thumbnails.of_release(self.release, self.manifest.files, self.config.workers, self.progress.advance)
        self.progress.finish()
        return found

    def by_name(self, names: Sequence[str]) -> dict[str, CopyFile]:
        """What is found of the copies that have the bytes or the name of a released photo, and of unreadable ones."""
        found: dict[str, CopyFile] = {}
        self.progress.start("comparing copies", len(names))
        with ReadingThreads(max_workers=max(1, self.config.workers)) as pool:
            for chunk in _chunks(names):
                matches: list[_Match] = []
                for one in pool.map(self._known, chunk):
                    if isinstance(one, CopyFile):
                        found[one.name] = one
                    elif one is not None:
                        matches.append(one)
                found |= {one.name: one for one in self._measured(matches)}
                self.progress.advance(len(chunk))
        return found

    def by_picture(self, names: Sequence[str]) -> dict[str, CopyFile]:
        """What is found of the other copies, which are compared with all released photos."""
        if not names:
            return {}
        found: dict[str, CopyFile] = {}
        _ = self.thumbnails
        self.progress.start("searching by picture", len(names))
        with ReadingThreads(max_workers=max(1, self.config.workers)) as pool:
            for chunk in _chunks(names):
                copies: dict[str, _Photo] = {}
                for name, copy in zip(chunk, pool.map(self._read, chunk), strict=True):
                    if isinstance(copy, CopyFile):
                        found[name] = copy
                    else:
                        copies[name] = copy
                matches: list[_Match] = []
                for cropped in (False, True):
                    seen = [thumbnail(copy.grey) for copy in copies.values()]
                    likely = self.thumbnails.likely(seen, cropped=cropped) if copies else []
                    compare = partial(self._most_similar, thorough=cropped)
                    for one in pool.map(compare, list(copies), list(copies.values()), likely):
                        if isinstance(one, _Match):
                            matches.append(one)
                        elif one.status == "unmatched" and not cropped:
                            continue  # small parts of released photos are tried next
                        else:
                            found[one.name] = one
                        del copies[one.name]
                found |= {one.name: one for one in self._measured(matches)}
                self.progress.advance(len(chunk))
        return found

    def _read(self, name: str) -> _Photo | CopyFile:
        """A copy, or why it cannot be read."""
        try:
            return _Photo.of_file(self.folder / name)
        except ImageError as error:
            return CopyFile(name=name, status="unreadable", reason=str(error))

    def _known(self, name: str) -> _Match | CopyFile | None:
        """The released photo with the same bytes or the same name, if the copy shows it; or why it cannot be read."""
        copy = self._read(name)
        if isinstance(copy, CopyFile):
            return copy
        named = self.names.of(name)
        same = self.by_digest.get(copy.digest, [])
        if len(same) > 1:
            same = [record for record in same if record in named]
        candidates: list[tuple[FileRecord, Literal["content", "name"]]] = [(record, "name") for record in named]
        if len(same) == 1:
            candidates.insert(0, (same[0], "content"))
        for record, by in candidates:
            found = self._compared(name, copy, record, by)
            if found is not None and found.alignment.correlation >= SAME_PICTURE:
                return found
        return None

    def _most_similar(
        self, name: str, copy: _Photo, likely: Sequence[tuple[FileRecord, Alignment]], *, thorough: bool
    ) -> _Match | CopyFile:
        """The released photo among the likely ones that shows the same picture, or why there is none.

        ``thorough`` aligns those that look most like it in every way before it gives up.
        """
        found = [match for record, hint in likely if (match := self._compared(name, copy, record, "picture", hint))]
        found.sort(key=lambda match: -match.alignment.correlation)
        if thorough and found and found[0].alignment.correlation < SAME_PICTURE:
            found = [replace(one, alignment=_aligned(one.released, copy)) for one in found[:SEARCHED]]
            found.sort(key=lambda match: -match.alignment.correlation)
        best = found[0].alignment.correlation if found else 0.0
        if best < SAME_PICTURE:
            reason = "no released photo shows this picture, or too little of it is left to tell"
            if named := self.names.of(name):
                reason += f"; {named[0].file_name}, which has its name, shows another"
            if self.damaged:
                some = counted(len(self.damaged), "released photo")
                reason += f"; {some} left out as not as recorded (mtlue inspect {self.release} lists them)"
            return CopyFile(name=name, status="unmatched", reason=reason, correlation=round(best, 3))
        least = max(SAME_PICTURE, best - AS_SIMILAR)
        rivals = [match.record.file_name for match in found if match.alignment.correlation >= least]
        if len(rivals) > 1:
            shown = ", ".join(rivals[:SHOWN]) + (", ..." if len(rivals) > SHOWN else "")
            reason = f"{len(rivals)} released photos show this picture: {shown}; give the copy the name of its own"
            return CopyFile(name=name, status="ambiguous", reason=reason, correlation=round(best, 3))
        return found[0]

    def _compared(
        self,
        name: str,
        copy: _Photo,
        record: FileRecord,
        by: Literal["content", "name", "picture"],
        hint: Alignment | None = None,
    ) -> _Match | None:
        """The copy aligned with a released photo; None if that is not as it was released."""
        try:
            released = _Photo.of_file(self.release / record.file_name)
        except ImageError:
            released = None
        if released is None or released.digest != record.sha256:
            self.damaged.add(record.file_name)
            return None
        found = _aligned(released, copy, hint, thorough=by != "picture")
        return _Match(name, copy, record, by, found, released)

    def _measured(self, matches: Sequence[_Match]) -> Iterator[CopyFile]:
        """The shares of copies whose released photos are known."""
        cleans: list[npt.NDArray[np.uint8] | str]
        if self.config.against is not None:
            cleans = [_original(self.config.against, match) for match in matches]
        else:
            assert self.generator is not None  # it is loaded where there are no originals
            cleans = _estimated(self.generator, matches, self.manifest)
        for match, clean in zip(matches, cleans, strict=True):
            if isinstance(clean, str):
                yield _described(match, status="unmeasured", reason=clean)
                continue
            left = _surviving(match, clean)
            if left is None:
                yield _described(match, status="unmeasured", reason="the part that it shows holds no perturbation")
                continue
            left = replace(left, error=math.hypot(left.error, _method_error(left.share, self.config.against)))
            if not math.isfinite(left.error):
                yield _described(match, status="unmeasured", reason="the copy has no contrast to measure in")
                continue
            share, low, high = (round(value, 3) for value in (left.share, left.low, left.high))
            yield _described(match, status="measured", share=share, share_low=low, share_high=high)


def _aligned(released: _Photo, copy: _Photo, hint: Alignment | None = None, *, thorough: bool = True) -> Alignment:
    return align(Seen(released.grey, released.opacity), Seen(copy.grey, copy.opacity), hint, thorough=thorough)


def trace_copy(config: CopyConfig, progress: Progress, plain: Path | None = None) -> CopyResult:
    """Measure what of the perturbation of ``config.release`` is left in ``config.copies``.

    ``plain`` is the release as a folder of photos, if ``config.release`` holds shards.

    Raises:
        InputError: There are no copies, it is no release, or neither originals nor weights and key are at hand.
    """
    release = plain or config.release
    manifest = Release(release).manifest
    if not manifest.files:
        raise InputError(f"{config.release} holds no released photo")
    folder, names = _found_copies(config.copies)
    generator: Generator | None = None
    if config.against is None:
        if dense := manifest.dense_tasks:
            raise InputError(
                f"the release protects labels of every pixel ({', '.join(sorted(dense))}), for which this needs its "
                "originals",
                hint="give the folder of the originals with --against",
            )
        weights = weights_of(
            manifest.run.weights_name,
            manifest.run.weights_sha256,
            config.weights,
            "name them with --weights FILE, or give the folder of the originals with --against",
        )
        generator = generator_of(manifest.run, weights, config.key, config.device)
    search = _Search(release, manifest, folder, generator, config, progress)
    try:
        found = search.by_name(names)
        found |= search.by_picture([name for name in names if name not in found])
    finally:
        progress.finish()
    return _result(config, manifest, tuple(found[name] for name in names))


def _found_copies(copies: Path) -> tuple[Path, list[str]]:
    if copies.is_dir():
        names = find_images(copies)
        if not names:
            raise InputError(f"{copies} holds no image", hint="give a photo, or a folder of photos")
        return copies, names
    return copies.parent, [copies.name]


def _chunks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), CHUNK):
        yield names[start : start + CHUNK]


def _method_error(share: float, against: Path | None) -> float:
    """Standard error of a share that all copies have in common."""
    return METHOD_ERROR if against is not None else math.hypot(METHOD_ERROR, MATCHED_ERROR * (1 - share))


def _described(match: _Match, **more: object) -> CopyFile:
    found, turn = match.alignment, match.alignment.turn
    return CopyFile(
        name=match.name,
        released=match.record.file_name,
        matched_by=match.by,
        rotated=90 * (turn % 4),
        mirrored=turn >= _FLIPPED,
        covered=round(found.covered, 3),
        correlation=round(found.correlation, 3),
        **more,  # type: ignore[arg-type]  # fields of it
    )


def _surviving(match: _Match, clean: npt.NDArray[np.uint8]) -> Surviving | None:
    box, copy = match.alignment.box, match.copy
    size = grid_size(box)
    seen = on_grid(turned(copy.pixels, match.alignment.turn), WHOLE, size)
    base = on_grid(clean, box, size)
    delta: Planes = on_grid(match.released.pixels, box, size) - base
    weight = _weight(match, size)
    return surviving_share(seen, base, delta, weight, (round(box[3] - box[1], 3), round(box[2] - box[0], 3)))


def _weight(match: _Match, size: tuple[int, int]) -> npt.NDArray[np.float32] | None:
    """Opacity of what both photos show; None where all is opaque."""
    found: npt.NDArray[np.float32] | None = None
    if match.released.opacity is not None:
        found = part(match.released.opacity, match.alignment.box, *size)
    if match.copy.opacity is not None:
        own = part(turned(match.copy.opacity, match.alignment.turn), WHOLE, *size)
        found = own if found is None else found * own
    return found


def _original(originals: Path, match: _Match) -> npt.NDArray[np.uint8] | str:
    """The original of a released photo, or why there is none."""
    try:
        photo = _Photo.of_file(originals / match.record.source)
    except ImageError as error:
        return f"its original {match.record.source} {error}"
    if photo.size != match.released.size:
        return f"its original {match.record.source} has another size than the released photo"
    return photo.pixels


def _estimated(
    generator: Generator, matches: Sequence[_Match], manifest: Manifest
) -> list[npt.NDArray[np.uint8] | str]:
    """Released photos without what the generator adds to them, or why that is not known.

    The perturbation depends a little on the photo. It is computed for the released photo and for what is left without
    it; the mean of the two comes nearer to the true one than either (docs/trace.md).
    """
    faults: list[str | None] = [None] * len(matches)
    labels: dict[str, list[int]] = {name: [] for name in manifest.run.tasks}
    for number, match in enumerate(matches):
        if match.record.drawn:
            faults[number] = "it was protected as one of random classes; give its originals with --against"
        for name, column in labels.items():
            label, task = match.record.labels.get(name), generator.tasks[name]
            known = label is None or label in task.classes
            if not known:
                faults[number] = f"its label {label!r} of {name} is no class of the weights"
            column.append(task.classes.index(label) if known and label is not None else UNLABELLED)
    epsilon = manifest.run.epsilon
    released = [match.released.pixels for match in matches]

    def deltas(photos: Sequence[npt.NDArray[np.uint8]]) -> list[npt.NDArray[np.float32]]:
        return generator.perturb([generator.square(pixels) for pixels in photos], labels, epsilon)

    def without(found: Sequence[npt.NDArray[np.float32]]) -> list[npt.NDArray[np.uint8]]:
        return [protect_pixels(pixels, -delta, epsilon) for pixels, delta in zip(released, found, strict=True)]

    first = deltas(released)
    second = deltas(without(first))
    estimates = without([((one + other) / 2).astype(np.float32) for one, other in zip(first, second, strict=True)])
    return [fault or estimate for fault, estimate in zip(faults, estimates, strict=True)]


def _result(config: CopyConfig, manifest: Manifest, files: tuple[CopyFile, ...]) -> CopyResult:
    covered = [one.covered for one in files if one.share is not None and one.covered is not None]
    counts: dict[Status, int] = dict.fromkeys(("measured", "ambiguous", "unmatched", "unmeasured", "unreadable"), 0)
    for one in files:
        counts[one.status] += 1
    share = _mean_share(files, config.against)
    least = config.least_share
    below = tuple(one.name for one in files if one.share_high is not None and one.share_high < least)
    others = len(files) - counts["measured"]
    counts_as = (
        "1 copy could not be measured and counts" if others == 1 else f"{others} copies could not be measured and count"
    )
    if share is None:
        reason, code = "no copy could be measured", ExitCode.INCONCLUSIVE
    else:
        reason = f"{share.mean:.0%} of the perturbation is left ({share.low:.0%} to {share.high:.0%})"
        code = ExitCode.QUARANTINE if others else ExitCode.SUCCESS
        least_likely = max(share.low, 0.0)  # less than nothing is noise
        if below or least_likely < least:
            code = ExitCode.NOT_PROTECTED
            if least_likely < least:
                reason += f", and at least {least:.0%} is asked for"
            if below:
                reason += f"; {len(below)} of {counts['measured']} copies have less than {least:.0%}"
        reason += f"; {counts_as} as unprotected" if others else ""
    return CopyResult(
        release=str(config.release),
        copies=str(config.copies),
        method="weights" if config.against is None else "originals",
        weights=manifest.run.weights_name,
        files=files,
        counts=counts,
        share=share,
        # Measured with trained weights; patterns of universal weights are lost in other ways, such as in grey.
        worth=None if share is None or manifest.run.key_fingerprint else worth_of(share.low, fmean(covered)),
        least_share=least,
        below=below,
        reason=reason,
        exit_code=code,
    )


def _mean_share(files: Sequence[CopyFile], against: Path | None) -> MeanShare | None:
    """The mean over the measured copies, with the error of measurement: what all have in common stays in the mean."""
    found = [(one.share, (one.share_high or 0.0) - one.share) for one in files if one.share is not None]
    if not found:
        return None
    shares = [share for share, _ in found]
    mean, count = fmean(shares), len(shares)
    own = math.sqrt(sum(half**2 for _, half in found)) / count / NORMAL_95
    half = NORMAL_95 * math.hypot(_method_error(mean, against), own)
    return MeanShare(
        round(mean, 3), round(mean - half, 3), round(mean + half, 3), round(min(shares), 3), round(max(shares), 3)
    )
