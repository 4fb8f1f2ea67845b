"""Ask a model file about probes: TorchScript, ``torch.export`` or ONNX."""

import json
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mtlue_cli.devices import choose_device
from mtlue_cli.errors import InputError, MtlueError, first_line
from mtlue_cli.files import open_regular
from mtlue_cli.images.decode import decode_image
from mtlue_cli.images.square import to_square
from mtlue_cli.tasks.wording import counted, listed
from mtlue_cli.workflows.progress import Progress
from mtlue_cli.workflows.trace.answers import Answers, Numbers, Renamed, TaskAnswers, as_scores, of_one_column
from mtlue_cli.workflows.trace.config import JudgeConfig
from mtlue_cli.workflows.trace.sealed import SealedAnswers

PREPROCESSING = "preprocessing.json"
"""Extra file of TorchScript and torch.export, and without suffix the metadata entry of ONNX: ``size``, ``mean``,
``std``, ``outputs`` (tasks) and ``classes`` (task to class names, in the order of the output)."""

IMAGENET_SIZE = 224
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
BATCH = 16

Pixels = npt.NDArray[np.float32]
Outputs = list[tuple[str | None, Numbers]]


@dataclass(frozen=True)
class LoadedModel:
    """A model file.

    Attributes:
        run: ``(B, 3, S, S)`` float32 to its outputs, each with its name if it has one.
        described: What the file says of its preprocessing.
        size: Side that its input must have; None: any.
        batch: Images that its input must hold; None: any.
    """

    run: Callable[[Pixels], Outputs]
    described: Mapping[str, Any]
    size: int | None = None
    batch: int | None = None


def ask_model(
    probes: Path, sealed: SealedAnswers, config: JudgeConfig, renamed: Renamed, progress: Progress
) -> Answers:
    """Answers of a model file to all probes.

    Raises:
        InputError: The file cannot be used, or its outputs are not the tasks of the release.
    """
    assert config.model is not None
    model = load_model(config.model, config.device)
    size = config.size or model.described.get("size") or model.size or IMAGENET_SIZE
    mean = _three("--mean", config.mean or model.described.get("mean") or IMAGENET_MEAN)
    std = _three("--std", config.std or model.described.get("std") or IMAGENET_STD)
    if not std.all():
        raise InputError("--std holds a zero")
    from_file = "as the file says" if {"size", "mean", "std"} <= set(model.described) else "ImageNet's where not given"
    described = (
        f"images are scaled to {size} x {size} pixels, mean {_shown(mean)}, std {_shown(std)} ({from_file}; --size, "
        "--mean, --std)"
    )
    progress.note(described)

    def shown(files: Sequence[str]) -> Pixels:
        squares = np.stack([to_square(decode_image(probes / file), int(size)) for file in files])
        found: Pixels = ((squares / 255.0 - mean[:, None, None]) / std[:, None, None]).astype(np.float32)
        return found

    files = [probe.file for probe in sealed.probes]
    try:
        first = model.run(np.repeat(shown(files[:1]), model.batch or 1, axis=0))
    except MtlueError:
        raise
    except Exception as error:  # each runtime has exceptions of its own
        raise InputError(
            f"{config.model} cannot answer images of {size} x {size} pixels: {first_line(error)}",
            hint="give the side of its images with --size",
        ) from error
    tasks, remark = _tasks_of(first, sealed, config.outputs or tuple(model.described.get("outputs", ())))
    progress.note(remark)
    parts: list[Outputs] = []
    batch = model.batch or BATCH
    progress.start("asking the model", len(files))
    for start in range(0, len(files), batch):
        part = files[start : start + batch]
        try:
            outputs = model.run(shown([*part, *part[:1] * (batch - len(part))] if model.batch else part))
        except (RuntimeError, ValueError, AssertionError):
            if batch == 1:
                raise
            outputs = _one_by_one(model, [shown([file]) for file in part])  # made for one image at a time
        parts.append([(name, values[: len(part)]) for name, values in outputs])
        progress.advance(len(part))
    progress.finish()
    whole = [np.concatenate([part[place][1] for part in parts]) for place in range(len(first))]
    found: dict[str, TaskAnswers] = {}
    notes = [described, remark]
    classes = model.described.get("classes", {})
    for task, (place, column) in tasks.items():
        values = whole[place] if column is None else whole[place][:, column : column + 1]
        order = [renamed.ours(task, str(name)) for name in classes.get(task, sealed.tasks[task])]
        found[task], note = _read(task, values, order, tuple(sealed.tasks[task]), config.unknown_names)
        notes.append(note)
        progress.note(note)
    return Answers(str(config.model), found, tuple(notes))


def load_model(path: Path, device_name: str) -> LoadedModel:
    """A model file, by its suffix: ``.onnx``, ``.pt2``, else TorchScript.

    Raises:
        InputError: It cannot be read, or ONNX is not installed.
    """
    is_onnx = path.suffix.lower() == ".onnx"
    hint = "expected TorchScript, torch.export (.pt2) or ONNX (.onnx)"
    if not is_onnx and not zipfile.is_zipfile(path):
        raise InputError(f"{path} cannot be read as a model", hint=hint)
    try:
        open_regular(path).close()  # a FIFO would be waited for
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of formats that will be replaced some day
            return (_load_onnx if is_onnx else _load_torch)(path, choose_device(device_name))
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read as a model: {first_line(error)}", hint=hint) from error


def _load_torch(path: Path, device: torch.device) -> LoadedModel:
    extra = {PREPROCESSING: ""}
    if path.suffix.lower() == ".pt2":
        model = torch.export.load(str(path), extra_files=extra).module().to(device)
    else:
        model = torch.jit.load(str(path), device, extra).eval()  # type: ignore[no-untyped-call]  # it has no types
    return LoadedModel(_torch_run(model, device), _described(extra[PREPROCESSING]))


def _load_onnx(path: Path, device: torch.device) -> LoadedModel:
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError("ONNX needs onnxruntime", hint="pip install 'mtlue[onnx]'") from error
    providers = [
        name for name in onnxruntime.get_available_providers() if device.type != "cpu" or name.startswith("CPU")
    ]
    try:
        session = onnxruntime.InferenceSession(str(path), providers=providers)
    except Exception as error:  # onnxruntime's own, which has no public base class
        raise ValueError(str(error)) from error
    given = session.get_inputs()[0]
    names = [output.name for output in session.get_outputs()]

    def run(pixels: Pixels) -> Outputs:
        found = session.run(None, {given.name: pixels})
        return [(name, _matrix(np.asarray(values))) for name, values in zip(names, found, strict=True)]

    batch, _, side, _ = (length if isinstance(length, int) else None for length in given.shape)
    entry = session.get_modelmeta().custom_metadata_map.get(PREPROCESSING.removesuffix(".json"), "")
    return LoadedModel(run, _described(entry), side, batch)


def _torch_run(model: Callable[[torch.Tensor], Any], device: torch.device) -> Callable[[Pixels], Outputs]:
    @torch.inference_mode()
    def run(pixels: Pixels) -> Outputs:
        found = model(torch.from_numpy(pixels).to(device))
        named: list[tuple[str | None, Any]]
        if isinstance(found, Mapping):
            named = [(str(name), values) for name, values in found.items()]
        else:
            named = [(None, values) for values in (found if isinstance(found, tuple | list) else (found,))]
        return [(name, _matrix(values.float().cpu().numpy())) for name, values in named]

    return run


def _matrix(values: npt.NDArray[Any]) -> Numbers:
    """An output as ``(B, C)``."""
    return values.astype(np.float64).reshape(len(values), -1)


def _described(text: str | bytes) -> Mapping[str, Any]:
    """What a file says of its preprocessing; nothing if it says nothing."""
    found = json.loads(text) if text else {}
    if not isinstance(found, dict):
        raise ValueError(f"its {PREPROCESSING} is no table")
    return found


def _one_by_one(model: LoadedModel, images: Sequence[Pixels]) -> Outputs:
    each = [model.run(image) for image in images]
    return [(name, np.concatenate([one[place][1] for one in each])) for place, (name, _) in enumerate(each[0])]


def _tasks_of(
    outputs: Outputs, sealed: SealedAnswers, named: Sequence[str]
) -> tuple[dict[str, tuple[int, int | None]], str]:
    """Task to output and, where one output holds several tasks, its column; and that in words.

    Raises:
        InputError: It is not clear which output belongs to which task.
    """
    tasks = list(sealed.tasks)
    if odd := [name for name in named if name not in tasks]:
        raise InputError(
            f"outputs name {listed(odd)}, the release has {listed(tasks)}", hint="name them with --outputs"
        )
    width = outputs[0][1].shape[1]
    names = [name for name, _ in outputs]
    if named and len(named) == len(outputs):
        found, how = {name: (place, None) for place, name in enumerate(named)}, "as named"
    elif len(outputs) == 1 and width == len(tasks) > 1 and all(len(own) == 2 for own in sealed.tasks.values()):
        order = list(named) or tasks
        columns: dict[str, tuple[int, int | None]] = {name: (0, place) for place, name in enumerate(order)}
        return columns, f"the columns of its output are {', '.join(order)} (--outputs)"
    elif any(name in tasks for name in names):
        found = {str(name): (place, None) for place, name in enumerate(names) if name in tasks}
        how = "by their names"
    elif len(outputs) == len(tasks):
        found, how = {name: (place, None) for place, name in enumerate(tasks)}, "in the order of the release"
    else:
        raise InputError(
            f"the model has {counted(len(outputs), 'output')}, the release {counted(len(tasks), 'task')}: it is not "
            "known which is which",
            hint=f"name the task of each output with --outputs, of {listed(tasks)}",
        )
    return dict(found), f"its outputs are {', '.join(found)} ({how}; --outputs)"


def _read(
    task: str, values: Numbers, order: Sequence[str], classes: tuple[str, ...], unknown: bool
) -> tuple[TaskAnswers, str]:
    """The answers for one task, and how they were understood.

    Raises:
        InputError: The output has another number of classes, or others, or is not a number.
    """
    if values.shape[1] == 1 and len(order) == 2:
        scores, words = of_one_column(values[:, 0])
    elif values.shape[1] == len(order) or unknown:
        scores, words = as_scores(values)
        order = order if values.shape[1] == len(order) else [str(place) for place in range(values.shape[1])]
    else:
        raise InputError(
            f"the output for {task} has {counted(values.shape[1], 'value')}, expected one for each of "
            f"{listed(list(order))}",
            hint="name the task of each output with --outputs",
        )
    if unreadable := int(np.isnan(scores).any(axis=1).sum()):
        raise InputError(f"the model's output for {task} is not a number for {counted(unreadable, 'probe')}")
    note = f"task {task}: outputs are {words}"
    if unknown:
        return TaskAnswers(tuple(order), scores.argmax(axis=1), scores), note
    if set(order) != set(classes):
        raise InputError(
            f"the model has the classes {listed(list(order))} for {task}, the release {listed(list(classes))}",
            hint="say which is which with --map theirs=ours, or use --unknown-names",
        )
    scores = scores[:, [list(order).index(name) for name in classes]]
    return TaskAnswers(classes, scores.argmax(axis=1), scores), f"{note}, of {listed(list(order))} in this order"


def _three(option: str, given: Sequence[Any]) -> Numbers:
    try:
        values = np.array([float(value) for value in given])
    except (TypeError, ValueError):
        values = np.array([])
    if values.shape != (3,) or not np.isfinite(values).all():
        raise InputError(f"{option} is {given}, expected three numbers separated by commas")
    return values


def _shown(values: Numbers) -> str:
    return ",".join(f"{value:g}" for value in values)
