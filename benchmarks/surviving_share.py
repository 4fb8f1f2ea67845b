"""How exact ``mtlue trace copy`` is, and the table of what a surviving share is worth.

    python benchmarks/surviving_share.py accuracy RELEASE ORIGINALS [--images 200] [--weights FILE]
    python benchmarks/surviving_share.py worth RELEASE ORIGINALS RESULT.json ... [--blend SHARE=RESULT.json] --out FILE

``accuracy`` changes released photos in known ways and compares three shares of each: the true one (the difference of
the changed photo and of the changed original, projected on the perturbation), the one measured against the originals,
and the one of the matched filter, which knows released photos and weights alone.

``worth`` takes results of ``mtlue verify``, applies each condition's countermeasure to the images that its victims saw,
measures the share that is left, and writes it beside what the victims learned. ``--blend`` is a result for a release
whose perturbation was scaled by SHARE.
"""

import argparse
import io
import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from mtlue_cli.images.decode import decode_image
from mtlue_cli.images.square import to_square
from mtlue_cli.release.records import read_manifest, write_manifest, write_run
from mtlue_cli.verification.countermeasures.base import Augmentation, Preprocessing
from mtlue_cli.verification.countermeasures.registry import countermeasure_named
from mtlue_cli.workflows.progress import SilentProgress
from mtlue_cli.workflows.trace.alignment import WHOLE
from mtlue_cli.workflows.trace.config import CopyConfig
from mtlue_cli.workflows.trace.copy import CopyFile, trace_copy
from mtlue_cli.workflows.trace.pictures import GRID, on_grid
from mtlue_cli.workflows.trace.surviving import surviving_share
from mtlue_cli.workflows.trace.worth import Measured

Photo = Image.Image


def jpeg(quality: int) -> Callable[[Photo], Photo]:
    """A round trip through a JPEG file."""

    def change(photo: Photo) -> Photo:
        stream = io.BytesIO()
        photo.save(stream, "JPEG", quality=quality)
        return Image.open(io.BytesIO(stream.getvalue())).convert("RGB")

    return change


def scaled(share: float) -> Callable[[Photo], Photo]:
    """Both sides times ``share``."""
    return lambda photo: photo.resize(
        (round(photo.width * share), round(photo.height * share)), Image.Resampling.LANCZOS
    )


def cropped(share: float) -> Callable[[Photo], Photo]:
    """A part with ``share`` of both sides, not in the middle."""

    def change(photo: Photo) -> Photo:
        width, height = round(photo.width * share), round(photo.height * share)
        left, top = round(0.3 * (photo.width - width)), round(0.7 * (photo.height - height))
        return photo.crop((left, top, left + width, top + height))

    return change


def platform(photo: Photo) -> Photo:
    """Three quarters of the size, unsharp mask, JPEG 85."""
    return jpeg(85)(scaled(0.75)(photo).filter(ImageFilter.UnsharpMask(1, 60, 0)))


def filtered(photo: Photo) -> Photo:
    """Brighter, more contrast, more colour."""
    photo = ImageEnhance.Brightness(photo).enhance(1.1)
    return ImageEnhance.Color(ImageEnhance.Contrast(photo).enhance(1.25)).enhance(1.3)


CHANGES: Mapping[str, Callable[[Photo], Photo]] = {
    "none": lambda photo: photo,
    **{f"JPEG {quality}": jpeg(quality) for quality in (95, 75, 50, 30, 10)},
    "resize 0.5": scaled(0.5),
    "resize 0.25": scaled(0.25),
    "crop 0.9": cropped(0.9),
    "crop 0.6, JPEG 75": lambda photo: jpeg(75)(cropped(0.6)(photo)),
    "mirrored, JPEG 75": lambda photo: jpeg(75)(ImageOps.mirror(photo)),
    "platform": platform,
    "filter, JPEG 85": lambda photo: jpeg(85)(filtered(photo)),
    "grey": lambda photo: photo.convert("L").convert("RGB"),
    "blur, 3 px": lambda photo: photo.filter(ImageFilter.GaussianBlur(3)),
}
GEOMETRY = {"crop 0.9": cropped(0.9), "crop 0.6, JPEG 75": cropped(0.6), "mirrored, JPEG 75": ImageOps.mirror}
"""What a change does to the place of every pixel."""


def accuracy(options: argparse.Namespace) -> None:
    """Print the table of docs/trace.md."""
    with tempfile.TemporaryDirectory() as folder:
        release, originals = _sample(options, Path(folder))
        records = read_manifest(release).files
        print(
            "| change | not matched | true share | exact - true (rms) | filter - exact (mean, rms) | in the interval |"
        )
        print("|---|---|---|---|---|---|")
        for name, change in [*CHANGES.items(), ("the original itself", CHANGES["none"])]:
            copies = Path(folder) / "copies"
            copies.mkdir(exist_ok=True)
            true: dict[str, float] = {}
            for record in records:
                file = Path(record.file_name).stem
                saved, clean = _open(release / record.file_name), _open(originals / record.source)
                true[file] = _true(name, change, saved, clean)
                changed = clean if name == "the original itself" else change(saved)
                changed.save(copies / f"{file}.png")
            exact, matched = (_traced(release, copies, options, against) for against in (originals, None))
            known = [file for file, one in exact.items() if one.share is not None and matched[file].share is not None]
            if name == "the original itself":
                true = dict.fromkeys(true, 0.0)
            first = [_share(exact[file]) - true[file] for file in known]
            second = [_share(matched[file]) - _share(exact[file]) for file in known]
            held = [_holds(matched[file], _share(exact[file])) for file in known]
            print(
                f"| {name} | {len(exact) - len(known)} | {fmean(true[file] for file in known):.3f} | {_rms(first):.3f} "
                f"| {fmean(second):+.3f}, {_rms(second):.3f} | {100 * fmean(held):.0f} % |",
                flush=True,
            )


def _sample(options: argparse.Namespace, folder: Path) -> tuple[Path, Path]:
    """A release of some of the photos, spread over the manifest, and where the originals are."""
    manifest = read_manifest(options.release)
    step = max(1, len(manifest.files) // options.images)
    files = manifest.files[::step][: options.images]
    release = folder / "release"
    for record in files:
        (release / record.file_name).parent.mkdir(parents=True, exist_ok=True)
        (release / record.file_name).symlink_to((options.release / record.file_name).resolve())
    write_run(release, manifest.run)
    write_manifest(release, files)
    return release, options.originals


def _traced(release: Path, copies: Path, options: argparse.Namespace, against: Path | None) -> dict[str, CopyFile]:
    config = CopyConfig(copies, release, against=against, weights=options.weights, device="cpu", workers=1)
    return {Path(one.name).stem: one for one in trace_copy(config, SilentProgress()).files}


def _true(name: str, change: Callable[[Photo], Photo], saved: Photo, clean: Photo) -> float:
    place = GEOMETRY.get(name, CHANGES["none"])
    left = _centred(_planes(change(saved)) - _planes(change(clean)))
    whole = _centred(_planes(place(saved)) - _planes(place(clean)))
    return float((left * whole).sum() / np.square(whole).sum())


def _planes(photo: Photo) -> npt.NDArray[np.float32]:
    return on_grid(np.asarray(photo.convert("RGB")), WHOLE, (GRID, GRID))


def _centred(planes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = planes - planes.mean(axis=(1, 2), keepdims=True)
    return found


def _open(path: Path) -> Photo:
    with Image.open(path) as opened:
        return ImageOps.exif_transpose(opened).convert("RGB")


def _share(one: CopyFile) -> float:
    assert one.share is not None
    return one.share


def _holds(one: CopyFile, share: float) -> bool:
    return one.share_low is not None and one.share_high is not None and one.share_low <= share <= one.share_high


def _rms(values: Sequence[float]) -> float:
    return math.sqrt(fmean(value**2 for value in values))


def worth(options: argparse.Namespace) -> None:
    """Write the table that is shipped."""
    rows: list[Measured] = []
    for path in options.results:
        document = json.loads(path.read_text())
        rows += _rows(document, options)
    for text in options.blend:
        share, _, path = text.partition("=")
        document = json.loads(Path(path).read_text())
        judged = next(one for one in document["conditions"] if one["role"] == "judged")
        rows.append(_measured(f"perturbation times {share}", float(share), 0.0, 1.0, judged, document))
    unique = {(row.condition, row.converged): row for row in rows}
    table = {
        "schema_version": 1,
        "where": options.where,
        "about": options.about,
        "rows": [row.to_json() for row in sorted(unique.values(), key=lambda row: (-row.share, row.condition))],
    }
    options.out.write_text(json.dumps(table, indent=2) + "\n")


def _rows(document: Mapping[str, Any], options: argparse.Namespace) -> list[Measured]:
    side = round(document["settings"]["size"] * 1.1)
    found: list[Measured] = []
    for condition in document["conditions"]:
        if condition["role"] != "judged":
            continue
        name = condition["countermeasure"]
        if name is None:
            found.append(_measured("as released", 1.0, 0.0, 1.0, condition, document))
            continue
        change = countermeasure_named(name).settings
        if not isinstance(change, Preprocessing) and name not in ("colour-jitter", "random-resized-crop"):
            continue  # it mixes images, or fits them all at once: there is no copy of one photo
        shares = _shares(change, side, options)
        covered = 0.625 if name == "random-resized-crop" else 1.0  # its mean area
        title = condition["title"].removeprefix("small + ").lower().replace("jpeg", "JPEG")
        found.append(_measured(title, fmean(shares), pstdev(shares), covered, condition, document))
    return found


def _shares(change: Any, side: int, options: argparse.Namespace) -> list[float]:  # noqa: ANN401 - any countermeasure
    manifest = read_manifest(options.release)
    files = manifest.files[:: max(1, len(manifest.files) // options.images)][: options.images]
    rng = torch.Generator().manual_seed(0)
    found: list[float] = []
    for record in files:
        pair = [
            torch.from_numpy(to_square(decode_image(path), side))
            for path in (options.release / record.file_name, options.originals / record.source)
        ]
        saved, clean = pair
        if isinstance(change, Augmentation) and hasattr(change, "draw"):
            from mtlue_cli.verification.countermeasures.augmentation import zoom

            windows = change.draw(1, side, side, rng)
            copy = (zoom(saved[None] / 255, windows)[0] * 255).round()
            saved, clean = (zoom(each[None] / 255, windows)[0] * 255 for each in pair)
        elif isinstance(change, Augmentation):
            copy = (change.augment(saved[None] / 255, {}, rng).images[0] * 255).round()
        else:
            copy = change(saved[None])[0]
        seen, base, whole = (_grid(each) for each in (copy, clean, saved))
        left = surviving_share(seen, base, whole - base)
        if left is not None and math.isfinite(left.error):
            found.append(left.share)
    return found


def _grid(image: torch.Tensor) -> npt.NDArray[np.float32]:
    planes = [Image.fromarray(plane).resize((GRID, GRID), Image.Resampling.BILINEAR) for plane in image.float().numpy()]
    return np.stack([np.asarray(plane) for plane in planes])


def _measured(
    name: str, share: float, deviation: float, covered: float, condition: Mapping[str, Any], document: Mapping[str, Any]
) -> Measured:
    last, best = condition["average"], condition["best_epoch_average"] or condition["average"]
    tests, tasks = document["counts"]["test_images"], condition["tasks"]
    variance = fmean(task["score"]["mean"] * (1 - task["score"]["mean"]) for task in tasks) / tests / len(tasks)
    error = math.sqrt(variance) / (last["clean_score"]["mean"] - last["floor"])
    settings = document["settings"]
    steps = math.ceil(document["counts"]["train_images"] / settings["batch_size"]) * settings["epochs"]
    return Measured(
        condition=name,
        share=round(share, 3),
        deviation=round(deviation, 3),
        covered=covered,
        learned=round(last["learned_fraction"]["mean"], 2),
        learned_best_epoch=round(best["learned_fraction"]["mean"], 2),
        learned_error=round(error, 2),
        steps=steps,
        images=document["counts"]["train_images"],
    )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, run in (("accuracy", accuracy), ("worth", worth)):
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        command.add_argument("release", type=Path)
        command.add_argument("originals", type=Path)
        command.add_argument("--images", type=int, default=200)
        command.add_argument("--weights", type=Path)
        if name == "worth":
            command.add_argument("results", type=Path, nargs="*")
            command.add_argument("--blend", action="append", default=[], metavar="SHARE=RESULT.json")
            command.add_argument("--where", required=True)
            command.add_argument("--about", required=True)
            command.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
