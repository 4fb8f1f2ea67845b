"""Small rendered scenes whose depth, surface normals and classes are known exactly: boxes and spheres on a ground.

One ray per pixel, through its centre, from a pinhole camera above the ground that looks ahead and a little down; light
from a random side, a random texture on every surface. Colours and textures say nothing of the class: shape does.

Coordinates are the camera's: x to the right, y down, z ahead. Depth is z, in metres. Normals are unit vectors that
point out of the surface, towards the camera. The sky has no depth (0) and no normal (the zero vector).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from mtlue_cli.images.arrays import encode_array
from mtlue_cli.images.synthetic import write_labels

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
_AMBIENT = 0.45
_NOISE = 4.0
_FILES = {"image": "png", "mask": "png", "depth": "png", "normals": "npy"}
"""Folders of a written set, and the format of the files in each."""

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class RenderedScene:
    """A scene and all that is known of its pixels.

    Attributes:
        image: ``(S, S, 3)`` uint8 RGB.
        classes: ``(S, S)`` uint8, indices into :data:`CLASSES`.
        depth: ``(S, S)`` float32 in metres, 0 in the sky.
        normals: ``(S, S, 3)`` float32 unit vectors, zero in the sky.
    """

    image: npt.NDArray[np.uint8]
    classes: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32]
    normals: npt.NDArray[np.float32]


def camera_rays(size: int) -> Floats:
    """Direction of the ray through each pixel's centre, ``(S, S, 3)``, with z = 1: depth times it is the point seen."""
    steps = ((np.arange(size) + 0.5) / size - 0.5) / FOCAL
    return np.stack([*np.meshgrid(steps, steps), np.ones((size, size))], axis=2)


def render_scene(rng: np.random.Generator, size: int = 64) -> RenderedScene:
    """Draw and render one scene, ``size`` pixels wide and high."""
    # The camera above the ground, and the light.
    pitch, roll = rng.uniform(0.12, 0.3), rng.uniform(-0.06, 0.06)
    up = np.array([np.sin(roll), -np.cos(roll) * np.cos(pitch), -np.cos(roll) * np.sin(pitch)])
    ahead = np.array([0.0, 0.0, 1.0]) - up * up[2]
    ahead /= np.linalg.norm(ahead)
    right = np.cross(ahead, up)
    height = rng.uniform(1.1, 1.7)
    light = up * rng.uniform(0.6, 1.0) + right * rng.uniform(-0.7, 0.7) - ahead * rng.uniform(0.1, 0.7)
    light /= np.linalg.norm(light)

    # The objects. A box stands on its lower side, a sphere touches the ground.
    is_box = rng.random(_OBJECTS) < 0.5
    far = rng.uniform(2.6, 7.5, _OBJECTS)
    aside = rng.uniform(-0.42, 0.42, _OBJECTS) * far
    half = rng.uniform(0.3, 0.8, (_OBJECTS, 3))
    lift = np.where(is_box, half[:, 1], half[:, 0]) - height
    centre = far[:, None] * ahead + aside[:, None] * right + lift[:, None] * up
    turn = rng.uniform(0, np.pi / 2, _OBJECTS)

    # Two colours for each surface, in waves through space; the last two surfaces are the ground and the sky.
    surfaces = _OBJECTS + 2
    base = rng.uniform(0.25, 0.75, (surfaces, 1, 3))
    colours = np.clip(base + rng.uniform(-0.22, 0.22, (surfaces, 2, 3)), 0.05, 0.95)
    waves = rng.normal(0, 1, (surfaces, 3))
    waves *= rng.uniform(4, 11, (surfaces, 1)) / np.linalg.norm(waves, axis=1, keepdims=True)
    waves[-1] *= 0.02
    phase = rng.uniform(0, 2 * np.pi, surfaces)
    noise = rng.normal(0, _NOISE, (size, size, 3))

    rays = camera_rays(size)
    towards = np.minimum(rays @ up, -1e-4)
    depth = -height / towards
    ground = depth < FARTHEST
    depth[~ground] = np.inf
    classes = np.where(ground, GROUND, SKY)
    surface = np.where(ground, _OBJECTS, _OBJECTS + 1)
    normals = np.where(ground[..., None], up, 0)
    for at in range(_OBJECTS):
        if is_box[at]:
            first = np.cos(turn[at]) * right + np.sin(turn[at]) * ahead
            found, outward = _hit_box(rays, centre[at], half[at], np.stack([first, up, np.cross(first, up)]))
        else:
            found, outward = _hit_sphere(rays, centre[at], half[at, 0])
        nearer = found < depth
        depth[nearer], normals[nearer] = found[nearer], outward[nearer]
        classes[nearer], surface[nearer] = BOX if is_box[at] else SPHERE, at

    seen = np.isfinite(depth)
    points = rays * np.where(seen, depth, FARTHEST)[..., None]
    wave = np.sin((points * waves[surface]).sum(axis=2) + phase[surface])
    share = (0.5 + 0.5 * np.tanh(3 * wave))[..., None]
    flat = colours[surface, 0] * share + colours[surface, 1] * (1 - share)
    brightness = np.where(seen, _AMBIENT + (1.15 - _AMBIENT) * np.maximum(normals @ light, 0), 1)
    image = np.clip(np.rint(flat * brightness[..., None] * 255 + noise), 0, 255)
    depth[~seen] = 0
    return RenderedScene(
        image.astype(np.uint8), classes.astype(np.uint8), depth.astype(np.float32), normals.astype(np.float32)
    )


def write_scenes(
    folder: Path, count: int, *, size: int = 64, seed: int = 0, on_image: Callable[[], None] | None = None
) -> Path:
    """As :func:`~mtlue_cli.images.synthetic.draw_set`, of scenes: ``image/``, ``mask/``, ``depth/`` and ``normals/``.

    Masks are grey PNG, depth is 16-bit PNG in levels of :data:`DEPTH_UNIT`, normals are float32 arrays. The columns of
    the label file are ``segmentation``, ``depth`` and ``normals``.
    """
    for name in _FILES:
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows: list[list[str]] = []
    for index in range(count):
        row = [f"{name}/{index:05d}.{suffix}" for name, suffix in _FILES.items()]
        image, mask, depth, normals = (folder / name for name in row)
        scene = render_scene(np.random.default_rng([seed, index]), size)
        Image.fromarray(scene.image).save(image, compress_level=1)
        Image.fromarray(scene.classes).save(mask)
        levels = np.rint(scene.depth.astype(np.float64) / DEPTH_UNIT)
        Image.fromarray(levels.astype(np.uint16)).save(depth)
        normals.write_bytes(encode_array(scene.normals))
        rows.append(row)
        if on_image is not None:
            on_image()
    return write_labels(folder, ("file_name", "segmentation", "depth", "normals"), rows)


def _hit_sphere(rays: Floats, centre: Floats, radius: float) -> tuple[Floats, Floats]:
    """Depth of the near side of a sphere, infinite where a ray misses it, and its outward normals."""
    square = (rays**2).sum(axis=2)
    along = rays @ centre
    rest = along**2 - square * (centre @ centre - radius**2)
    depth = np.where(rest > 0, (along - np.sqrt(np.maximum(rest, 0))) / square, np.inf)
    depth[depth <= 0] = np.inf
    points = rays * np.where(np.isfinite(depth), depth, 0)[..., None]
    return depth, (points - centre) / radius


def _hit_box(rays: Floats, centre: Floats, half: Floats, axes: Floats) -> tuple[Floats, Floats]:
    """As :func:`_hit_sphere`, of a box: where a ray has entered the last of its three slabs.

    ``half`` are its half sides, ``(3,)``, and ``axes`` the unit vectors along them, a row each.
    """
    slope = rays @ axes.T
    slope[np.abs(slope) < 1e-6] = 1e-6
    middle = axes @ centre
    one, other = (middle - half) / slope, (middle + half) / slope
    enter, leave = np.minimum(one, other), np.maximum(one, other)
    depth, entered = enter.max(axis=2), enter.argmax(axis=2)
    hit = (depth <= leave.min(axis=2)) & (depth > 0)
    outward = -np.sign(np.take_along_axis(slope, entered[..., None], axis=2))
    return np.where(hit, depth, np.inf), axes[entered] * outward
