"""Small rendered scenes whose depth, surface normals and classes are known exactly: boxes and spheres on a ground.

One ray per pixel, through its centre, from a pinhole camera above the ground that looks ahead and a little down; light
from a random side, a random texture on every surface. Colours and textures say nothing of the class: shape does.

Coordinates are the camera's: x to the right, y down, z ahead. Depth is z, in metres. Normals are unit vectors that
point out of the surface, towards the camera. The sky has no depth (0) and no normal (the zero vector).
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from mtlue_cli.images.arrays import encode_array
from mtlue_cli.images.synthetic import LABELS_FILE

CLASSES = ("sky", "ground", "box", "sphere")
SKY, GROUND, BOX, SPHERE = range(len(CLASSES))
FOCAL = 1.1
"""Focal length in widths of the image."""
FARTHEST = 14.0
"""Metres at which the ground ends in the sky."""
DEPTH_UNIT = 0.001
"""Metres that one level of a written depth map stands for."""
SCENE_TASKS = (f"depth=depth:scale={DEPTH_UNIT:g}", "normals=normals")
"""Kinds of the columns that are not clear from their files, as ``--task`` takes them."""

_OBJECTS = 4
_CHUNK = 64
_AMBIENT = 0.45
_NOISE = 4.0

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RenderedScenes:
    """Scenes and all that is known of their pixels; layouts as the loops of training take them.

    Attributes:
        images: ``(N, 3, S, S)`` uint8 RGB.
        classes: ``(N, S, S)`` int64, indices into :data:`CLASSES`.
        depth: ``(N, 1, S, S)`` float32 in metres, 0 in the sky.
        normals: ``(N, 3, S, S)`` float32 unit vectors, zero in the sky.
    """

    images: npt.NDArray[np.uint8]
    classes: npt.NDArray[np.int64]
    depth: Floats
    normals: Floats


@dataclass(frozen=True)
class _Scenes:
    """What is drawn at random, ``n`` scenes of ``k`` objects; vectors in the camera's coordinates.

    Attributes:
        up: ``(n, 3)`` unit vectors out of the ground.
        height: ``(n,)`` of the camera above it, metres.
        light: ``(n, 3)`` unit vectors towards the light.
        is_box: ``(n, k)``.
        centre: ``(n, k, 3)`` of the objects.
        half: ``(n, k, 3)`` half sides of a box; a sphere's radius in the first.
        axes: ``(n, k, 3, 3)`` unit vectors along the sides, a row each.
        colour: ``(n, k + 2, 2, 3)`` the two colours of each object, of the ground and of the sky, in [0, 1].
        waves: ``(n, k + 2, 3)`` frequency of the texture along each axis, radians a metre.
        phase: ``(n, k + 2)`` radians.
        noise: ``(n, S, S, 3)`` of the picture, in 255ths.
    """

    up: Floats
    height: Floats
    light: Floats
    is_box: npt.NDArray[np.bool_]
    centre: Floats
    half: Floats
    axes: Floats
    colour: Floats
    waves: Floats
    phase: Floats
    noise: Floats


def camera_rays(size: int) -> Floats:
    """Direction of the ray through each pixel's centre, ``(S, S, 3)``, with z = 1: depth times it is the point seen."""
    steps = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size) - np.float32(0.5)
    rays = np.ones((size, size, 3), dtype=np.float32)
    rays[..., 0] = steps[None, :] / np.float32(FOCAL)
    rays[..., 1] = steps[:, None] / np.float32(FOCAL)
    return rays


def render_scenes(count: int, size: int, seed: int) -> RenderedScenes:
    """Render ``count`` scenes of ``size`` pixels; scene ``i`` depends on ``size``, ``seed`` and ``i`` alone."""
    parts = [
        _render([np.random.default_rng([seed, index]) for index in range(start, min(start + _CHUNK, count))], size)
        for start in range(0, count, _CHUNK)
    ]
    if not parts:
        empty = np.zeros((0, size, size), dtype=np.float32)
        parts = [(empty[..., None].repeat(3, 3), empty.astype(np.int64), empty, empty[..., None].repeat(3, 3))]
    images, classes, depth, normals = (np.concatenate(values) for values in zip(*parts, strict=True))
    return RenderedScenes(
        np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.uint8),
        classes,
        depth[:, None],
        np.ascontiguousarray(normals.transpose(0, 3, 1, 2)),
    )


def write_scenes(
    folder: Path, count: int, *, size: int = 64, seed: int = 0, on_image: Callable[[], None] | None = None
) -> Path:
    """Write scenes as a labelled folder: ``image/``, ``mask/``, ``depth/``, ``normals/`` and, last, the label file.

    Masks are grey PNG, depth is 16-bit PNG in levels of :data:`DEPTH_UNIT`, normals are float32 arrays.

    Args:
        folder: Made if it does not exist.
        count: Number of scenes.
        size: Side in pixels.
        seed: Any whole number from 0.
        on_image: Called after each scene.

    Returns:
        The label file, with the columns ``segmentation``, ``depth`` and ``normals``.
    """
    scenes = render_scenes(count, size, seed)
    for name in ("image", "mask", "depth", "normals"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows: list[tuple[str, ...]] = []
    for index in range(count):
        row = tuple(f"{part}/{index:05d}.{suffix}" for part, suffix in _WRITTEN.items())
        image, mask, depth, normals = (folder / name for name in row)
        Image.fromarray(np.ascontiguousarray(scenes.images[index].transpose(1, 2, 0))).save(image, compress_level=1)
        Image.fromarray(scenes.classes[index].astype(np.uint8)).save(mask)
        levels = np.rint(scenes.depth[index, 0].astype(np.float64) / DEPTH_UNIT)
        Image.fromarray(levels.astype(np.uint16)).save(depth)
        normals.write_bytes(encode_array(np.ascontiguousarray(scenes.normals[index].transpose(1, 2, 0))))
        rows.append(row)
        if on_image is not None:
            on_image()
    labels = folder / LABELS_FILE
    with labels.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("file_name", "segmentation", "depth", "normals"), *rows])
    return labels


_WRITTEN = {"image": "png", "mask": "png", "depth": "png", "normals": "npy"}


def _render(rngs: list[np.random.Generator], size: int) -> tuple[Floats, npt.NDArray[np.int64], Floats, Floats]:
    """Images in [0, 255], classes, depth and normals of a scene a source of random numbers, channels last."""
    scenes = _Scenes(*(np.stack(values) for values in zip(*(_draw(rng, size) for rng in rngs), strict=True)))
    rays = camera_rays(size).reshape(-1, 3)
    count = len(rngs)
    depth = _ground_depth(scenes, rays)
    classes = np.where(depth < FARTHEST, GROUND, SKY)
    surface = np.where(classes == GROUND, _OBJECTS, _OBJECTS + 1)
    depth = np.where(classes == GROUND, depth, np.inf).astype(np.float32)
    normals = np.where((classes == GROUND)[..., None], scenes.up[:, None, :], 0).astype(np.float32)
    for at in range(_OBJECTS):
        box = scenes.is_box[:, at, None]
        box_depth, box_normals = _hit_box(scenes, rays, at)
        sphere_depth, sphere_normals = _hit_sphere(scenes, rays, at)
        found = np.where(box, box_depth, sphere_depth)
        nearer = found < depth
        depth = np.where(nearer, found, depth)
        normals = np.where(nearer[..., None], np.where(box[..., None], box_normals, sphere_normals), normals)
        classes = np.where(nearer, np.where(box, BOX, SPHERE), classes)
        surface = np.where(nearer, at, surface)
    seen = np.isfinite(depth)
    depth = np.where(seen, depth, 0).astype(np.float32)
    picture = _shaded(scenes, rays * np.where(seen, depth, FARTHEST)[..., None], normals, surface, seen)
    noisy = picture.reshape(count, size, size, 3) * 255 + scenes.noise
    return (
        np.clip(np.rint(noisy), 0, 255).astype(np.float32),
        classes.reshape(count, size, size).astype(np.int64),
        depth.reshape(count, size, size),
        normals.reshape(count, size, size, 3).astype(np.float32),
    )


def _draw(rng: np.random.Generator, size: int) -> tuple[npt.NDArray[np.generic], ...]:
    """One scene, in the order of :class:`_Scenes`."""
    pitch, roll = rng.uniform(0.12, 0.3), rng.uniform(-0.06, 0.06)
    up = np.array([np.sin(roll), -np.cos(roll) * np.cos(pitch), -np.cos(roll) * np.sin(pitch)])
    ahead = np.array([0.0, 0.0, 1.0])
    ahead = ahead - up * (ahead @ up)
    ahead /= np.linalg.norm(ahead)
    right = np.cross(ahead, up)
    height = rng.uniform(1.1, 1.7)
    light = up * rng.uniform(0.6, 1.0) + right * rng.uniform(-0.7, 0.7) - ahead * rng.uniform(0.1, 0.7)
    is_box = rng.random(_OBJECTS) < 0.5
    far = rng.uniform(2.6, 7.5, _OBJECTS)
    aside = rng.uniform(-0.42, 0.42, _OBJECTS) * far
    half = rng.uniform(0.3, 0.8, (_OBJECTS, 3))
    # A box stands on its lower side, a sphere touches the ground.
    lift = np.where(is_box, half[:, 1], half[:, 0])
    centre = far[:, None] * ahead + aside[:, None] * right + (lift - height)[:, None] * up
    turn = rng.uniform(0, np.pi / 2, _OBJECTS)[:, None]
    first = np.cos(turn) * right + np.sin(turn) * ahead
    axes = np.stack([first, np.broadcast_to(up, first.shape), np.cross(first, up)], axis=1)
    surfaces = _OBJECTS + 2
    base = rng.uniform(0.25, 0.75, (surfaces, 1, 3))
    colour = np.clip(base + rng.uniform(-0.22, 0.22, (surfaces, 2, 3)), 0.05, 0.95)
    waves = rng.normal(0, 1, (surfaces, 3))
    waves *= rng.uniform(4, 11, (surfaces, 1)) / np.linalg.norm(waves, axis=1, keepdims=True)
    waves[-1] *= 0.02
    drawn = (
        up,
        height,
        light / np.linalg.norm(light),
        is_box,
        centre,
        half,
        axes,
        colour,
        waves,
        rng.uniform(0, 2 * np.pi, surfaces),
        rng.normal(0, _NOISE, (size, size, 3)),
    )
    return tuple(np.asarray(value, dtype=bool if value is is_box else np.float32) for value in drawn)


def _ground_depth(scenes: _Scenes, rays: Floats) -> Floats:
    """Depth of the plane that lies ``height`` below the camera, ``(n, rays)``; infinite where a ray misses it."""
    towards = scenes.up @ rays.T
    return np.where(towards < -1e-4, -scenes.height[:, None] / np.minimum(towards, -1e-4), np.inf).astype(np.float32)


def _hit_sphere(scenes: _Scenes, rays: Floats, at: int) -> tuple[Floats, Floats]:
    """Depth of the near side of a sphere and its outward normals."""
    centre, radius = scenes.centre[:, at], scenes.half[:, at, 0]
    square = (rays**2).sum(axis=1)[None]
    along = centre @ rays.T
    rest = along**2 - square * ((centre**2).sum(axis=1) - radius**2)[:, None]
    depth = np.where(rest > 0, (along - np.sqrt(np.maximum(rest, 0))) / square, np.inf)
    depth = np.where(depth > 0, depth, np.inf).astype(np.float32)
    points = rays * np.where(np.isfinite(depth), depth, 0)[..., None]
    return depth, ((points - centre[:, None]) / radius[:, None, None]).astype(np.float32)


def _hit_box(scenes: _Scenes, rays: Floats, at: int) -> tuple[Floats, Floats]:
    """Depth of the near side of a box and its outward normals: where a ray has entered the last of the three slabs."""
    axes = scenes.axes[:, at]
    middle = np.einsum("nij,nj->ni", axes, scenes.centre[:, at])[:, None]
    slope = np.einsum("rj,nij->nri", rays, axes)
    slope = np.where(np.abs(slope) < 1e-6, np.float32(1e-6), slope)
    sides = scenes.half[:, at][:, None]
    one, other = (middle - sides) / slope, (middle + sides) / slope
    enter, leave = np.minimum(one, other), np.maximum(one, other)
    depth, entered = enter.max(axis=2), enter.argmax(axis=2)
    hit = (depth <= leave.min(axis=2)) & (depth > 0)
    outward = -np.sign(np.take_along_axis(slope, entered[..., None], axis=2))
    normals = np.take_along_axis(axes, entered[..., None], axis=1) * outward
    return np.where(hit, depth, np.inf).astype(np.float32), normals.astype(np.float32)


def _shaded(
    scenes: _Scenes, points: Floats, normals: Floats, surface: npt.NDArray[np.int64], seen: npt.NDArray[np.bool_]
) -> Floats:
    """Colours in [0, 1] and beyond: a texture of waves through space, in the light."""
    chosen = np.arange(len(points))[:, None], surface
    wave = np.sin((points * scenes.waves[chosen]).sum(axis=2) + scenes.phase[chosen])
    share = (0.5 + 0.5 * np.tanh(3 * wave))[..., None]
    colours = scenes.colour[chosen]
    flat = colours[..., 0, :] * share + colours[..., 1, :] * (1 - share)
    lit = np.maximum(np.einsum("nrj,nj->nr", normals, scenes.light), 0)
    brightness = np.where(seen, _AMBIENT + (1.15 - _AMBIENT) * lit, 1.0)
    shaded: Floats = (flat * brightness[..., None]).astype(np.float32)
    return shaded
