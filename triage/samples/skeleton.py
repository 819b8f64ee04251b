"""Bones of the drawn chest: ribs as tilted rings in space, clavicles, shoulder blades, spine, upper arms."""

from __future__ import annotations

import numpy as np

from triage.samples.anatomy import Patient
from triage.samples.canvas import Array, Canvas, Map, step

_RIBS = 11


def skeleton(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> Map:
    """Return the thickness of compact bone over the film, in centimetres."""
    bone = ribs(canvas, patient, rng) + clavicles(canvas, patient, rng)
    bone += spine(canvas, patient, rng) + shoulders(canvas, patient, rng)
    if patient.child:
        bone += jaw(canvas, patient)
    return canvas.blur(bone, 0.0008) * np.float32(patient.film_cm * patient.bone)


def _shell(
    path: Array, outward: Array, half_height: Array, half_depth: Array, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Return points and volumes of a hollow bar along `path`: dense outside, spongy inside."""
    tangent = np.gradient(path, axis=0)
    length = np.linalg.norm(tangent, axis=1)
    tangent /= length[:, None]
    across = np.cross(tangent, outward)
    rays = 96
    angle = (np.arange(rays) + rng.random((len(path), rays))) / rays * 2 * np.pi
    reach = np.sqrt(rng.random((len(path), rays)))
    a, b = np.cos(angle) * reach, np.sin(angle) * reach
    x = path[:, :1] + across[:, :1] * half_height[:, None] * a + outward[:, :1] * half_depth[:, None] * b
    y = path[:, 1:2] + across[:, 1:2] * half_height[:, None] * a + outward[:, 1:2] * half_depth[:, None] * b
    density = np.where(reach > 0.78, 1.0, 0.30)
    density = np.where((reach > 0.7) & (a > 0.55), 1.25, density)
    volume = (length * np.pi * half_height * half_depth)[:, None] / rays * density
    return x.ravel(), y.ravel(), volume.ravel()


def ribs(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> Map:
    """Return the ribs of both sides; the back ends nearly level, the front ends falling to the middle."""
    parts = [_rib(canvas, patient, number, side, rng) for number in range(_RIBS) for side in (-1.0, 1.0)]
    x, y, volume = (np.concatenate(column) for column in zip(*parts, strict=True))
    return canvas.splat(x, y - 0.0, volume)


def _rib(
    canvas: Canvas, patient: Patient, number: int, side: float, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    spacing = (1.14 if patient.child else 1.10) / 10.5
    start = -0.055 + number * spacing + rng.normal(0, 0.004)
    drop = patient.rib_drop * (0.8 + 0.2 * min(1.0, number / 4)) * (1.0 + rng.normal(0, 0.03))
    last = min(2.25, 1.85 + 0.2 * number) if number < 7 else 2.25 - 0.25 * (number - 6)
    points = int(1.6 * canvas.height * patient.half * 2.2)
    theta = np.linspace(0.06, last, points)
    turned = np.where(theta < np.pi / 2, np.sin(theta), 2 - np.sin(theta))
    fall = 0.6 * turned + 0.4 * (1 - np.cos(theta))
    level = start + drop * fall / 2 - 0.012 * np.sin(np.clip(theta * 1.5, 0, np.pi)) ** 2
    reach = float(patient.wall(np.array(start + drop * 0.5))) + (0.022 if patient.child else 0.01)
    if number == 0:
        reach *= 0.92
    flat = 1.0 - 0.10 * np.sin(theta) ** 6
    s = side * reach * np.sin(theta) / flat * (1 - 0.1 * np.sin(theta) ** 6)
    z = np.cos(theta) * 0.32
    x, y = patient.at(0.0, 0.0)[0] + s * patient.half, patient.top + level * patient.tall
    y = y + patient.tilt * (x - patient.centre)
    x = x - patient.tilt * (y - 0.5)
    path = np.stack([x, y, z], 1)
    outward = np.stack([side * np.sin(theta), np.zeros(points), np.cos(theta)], 1)
    size = 0.0108 * (1.0 if not patient.child else 1.2) * (0.85 + 0.15 * np.sin(np.pi * (number + 1) / 12))
    width = (
        size
        * (0.62 + 0.38 * np.clip((theta - 0.06) / 0.5, 0, 1))
        * (1 + 0.22 * (theta > 1.7) * (theta - 1.7))
    )
    width = width * np.clip((last - theta) / 0.02, 0.3, 1)
    depth = np.full(points, 0.0068 if not patient.child else 0.0115)
    return _shell(path, outward, width, depth, rng)


def clavicles(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> Map:
    """Return both collar bones: S-shaped, thick at the breastbone, rising outward."""
    parts = []
    inner = 0.075 if patient.child else 0.055
    rise = rng.uniform(0.02, 0.09) if not patient.child else rng.uniform(0.04, 0.10)
    for side in (-1.0, 1.0):
        t = np.linspace(0, 1, int(canvas.height * 0.7))
        slope = rise + rng.normal(0, 0.012)
        low = 0.12 if not patient.child else 0.01
        s = side * (0.13 + t * (0.83 if not patient.child else 0.66))
        q = low - slope * 1.3 * t + 0.018 * np.sin(2 * np.pi * t) - 0.05 * t * t
        x, y = patient.centre + s * patient.half, patient.top + q * patient.tall
        path = np.stack([x, y, 0 * x], 1)
        out = np.tile(np.array([0.0, 0.0, 1.0]), (len(t), 1))
        width = 0.0105 + 0.007 * np.exp(-((t / 0.10) ** 2)) - 0.001 * np.sin(np.pi * t)
        width *= 1.0 if not patient.child else 0.9
        parts.append(_shell(path, out, width, np.full(len(t), inner * 0.15), rng))
    x, y, volume = (np.concatenate(column) for column in zip(*parts, strict=True))
    return canvas.splat(x, y, volume * 1.1)


def spine(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> Map:
    """Return the vertebrae, their arches and spines; lower ones are larger."""
    total = canvas.zeros()
    pitch0 = 0.040 if not patient.child else 0.050
    y = -0.02
    number = 0
    bend = rng.normal(0, 0.006)
    while y < 1.02:
        pitch = pitch0 * (0.82 + 0.38 * np.clip(y, 0, 1))
        half = (0.030 if not patient.child else 0.041) * (0.85 + 0.30 * np.clip(y, 0, 1))
        cx = patient.centre + bend * np.sin(3 * y) - patient.tilt * (y - 0.5)
        rows, vertebra = _vertebra(canvas, (cx, y), half, pitch)
        total[rows] += vertebra * np.float32(rng.uniform(0.92, 1.05))
        y += pitch
        number += 1
    return total


def _vertebra(canvas: Canvas, centre: tuple[float, float], half: float, pitch: float) -> tuple[slice, Map]:
    """Return one vertebra and the rows on which it lies."""
    rows = slice(
        max(0, int((centre[1] - 1.2 * pitch) * canvas.height)),
        max(1, int((centre[1] + 1.6 * pitch) * canvas.height)),
    )
    x, y = canvas.x - centre[0], canvas.y[rows] - centre[1]
    waist = half * (0.88 + 0.12 * (2 * y / pitch) ** 2)
    body = step(waist - np.abs(x), 0.006) * step(0.42 * pitch - np.abs(y), 0.006)
    plate = body * (
        np.exp(-(((np.abs(y) - 0.40 * pitch) / 0.0022) ** 2))
        + 0.5 * np.exp(-(((np.abs(x) - waist) / 0.003) ** 2))
    )
    sheet = 0.007 * body + 0.010 * plate
    for side in (-1, 1):
        u, v = (x - side * 0.66 * half) / (0.20 * half), (y + 0.12 * pitch) / (0.26 * pitch)
        ring = np.exp(-(((np.hypot(u, v) - 0.9) / 0.25) ** 2))
        sheet = sheet + 0.007 * ring
        u, v = (
            (x - side * 1.45 * half) / (0.75 * half),
            (y + 0.16 * pitch + 0.10 * (np.abs(x) - half)) / (0.17 * pitch),
        )
        sheet = sheet + 0.006 * step(1 - np.hypot(u, v), 0.4)
    u, v = x / (0.13 * half), (y - 0.40 * pitch) / (0.42 * pitch)
    sheet = sheet + 0.010 * step(1 - np.hypot(u, v), 0.5)
    return rows, np.asarray(sheet, np.float32)


def shoulders(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> Map:
    """Return shoulder blades and the heads and shafts of the upper arms."""
    total = canvas.zeros()
    for side in (-1.0, 1.0):
        total += _blade(canvas, patient, side, rng)
        total += _humerus(canvas, patient, side)
    return total


def jaw(canvas: Canvas, patient: Patient) -> Map:
    """Return the lower jaw, which a child's film often shows at its top."""
    middle = (patient.centre, patient.top - 0.215)
    outer = canvas.ellipsoid(middle, (0.175, 0.115), 0.05)
    return np.maximum(outer - canvas.ellipsoid(middle, (0.12, 0.075), 0.05), 0)


def joint(patient: Patient, side: float) -> tuple[float, float]:
    """Return the middle of the shoulder joint."""
    return patient.at(side * (1.13 if not patient.child else 1.0), 0.03 if not patient.child else -0.05)


def elbow(patient: Patient, side: float) -> tuple[float, float]:
    """Return the lower end of the upper arm: beside the trunk in adults, raised in children."""
    x, y = joint(patient, side)
    return (x + side * 0.045, y + 0.55) if not patient.child else (x + side * 0.34, y - 0.16)


def _blade(canvas: Canvas, patient: Patient, side: float, rng: np.random.Generator) -> Map:
    jx, jy = joint(patient, side)
    scale = 1.0 if not patient.child else 0.85
    away = rng.uniform(-0.01, 0.015)
    corners = np.array(
        [
            (jx - side * 0.02, jy + 0.005),
            (jx - side * (0.105 - away) * scale, jy - 0.012),
            (jx - side * (0.115 - away) * scale, jy + 0.06),
            (jx - side * (0.075 - away) * scale, jy + 0.215 * scale),
            (jx - side * (0.055 - away) * scale, jy + 0.21 * scale),
        ]
    )
    inside = np.full((canvas.height, canvas.width), 1.0, np.float32)
    middle = corners.mean(0)
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        nx, ny = a[1] - b[1], b[0] - a[0]
        norm = np.hypot(nx, ny)
        if (middle[0] - a[0]) * nx + (middle[1] - a[1]) * ny < 0:
            nx, ny = -nx, -ny
        inside = np.minimum(inside, ((canvas.x - a[0]) * nx + (canvas.y - a[1]) * ny) / norm)
    plate = step(inside, 0.008)
    rim = np.exp(-(((inside - 0.004) / 0.004) ** 2)) * plate
    ridge = canvas.capsule((jx - side * 0.10 * scale, jy + 0.035), (jx + side * 0.015, jy - 0.025), 0.007)
    return np.asarray((0.0045 * plate + 0.012 * rim + 1.1 * ridge), np.float32)


def _humerus(canvas: Canvas, patient: Patient, side: float) -> Map:
    (x, y), end = joint(patient, side), elbow(patient, side)
    scale = 1.0 if not patient.child else 0.8
    head = canvas.ellipsoid((x + side * 0.022, y + 0.012), (0.034 * scale, 0.036 * scale), 0.030 * scale)
    outer = canvas.capsule((x + side * 0.026, y + 0.012), end, 0.019 * scale)
    inner = canvas.capsule((x + side * 0.026, y + 0.012), end, 0.011 * scale)
    return np.asarray(0.75 * head + 0.8 * outer - 0.75 * inner, np.float32)
