"""What is in a drawn lung: its depth, the tree of vessels, the airways, the fine grain of the tissue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triage.samples.anatomy import Outline, Patient
from triage.samples.canvas import Array, Canvas, Map, step, tube_points

#: Share of a healthy lung that is not air.
LUNG_DENSITY = 0.22
_LEVELS = 7
#: Depth of lung that reaches down behind the dome of the diaphragm, as a share of that above it.
_BEHIND_DOME = 0.30


@dataclass
class Lungs:
    """Both lungs of one drawing; diseases add to `water` and take from `depth`, in centimetres."""

    #: Depth of lung along the ray.
    depth: Map
    #: 0 outside, 1 inside the lungs, soft at the edge.
    inside: Map
    #: Centimetres of water beyond the healthy share; negative where there is more air than usual.
    water: Map


def lungs(canvas: Canvas, patient: Patient, shape: Outline, rng: np.random.Generator) -> Lungs:
    """Return the healthy lungs of `patient` with vessels, bronchi and grain."""
    edge = shape.lungs
    inside = step(edge, 0.006)
    round_off = 0.11 if not patient.child else 0.12
    rise = np.clip(shape.walls / round_off, 0, 1)
    depth = patient.depth_cm * (0.86 if not patient.child else 0.74) * np.sqrt(1 - (1 - rise) ** 2)
    depth *= 0.80 + 0.20 * np.clip(shape.q / 0.35, 0, 1)
    depth *= np.where(shape.floor > 0, 0.82 + 0.18 * np.clip(shape.floor / 0.2, 0, 1), _BEHIND_DOME)
    depth *= step(shape.floor + 0.13 * patient.tall, 0.26 * patient.tall)
    before = np.clip(shape.heart / (0.08 * patient.half / 0.3), 0, 1)
    depth *= 1 - (0.86 if patient.child else 0.66) * np.sqrt(1 - (1 - before) ** 2) * step(shape.heart, 0.006)
    depth = depth.astype(np.float32)
    water = vessels(canvas, patient, rng) + hila(canvas, patient, rng)
    water *= inside * np.float32(patient.film_cm * (0.7 if patient.child else 1.35))
    grain = (0.012 if patient.child else 0.028) * canvas.turbulence(rng, 0.03, 4) + 0.02 * canvas.noise(
        rng, 0.12
    )
    return Lungs(depth, inside, water + depth * grain.astype(np.float32))


def vessels(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> Map:
    """Return the thickness of the pulmonary vessels: a tree from each hilum, thinner towards the pleura."""
    legs: list[tuple[Array, Array, Array, Array]] = []
    for side in (-1.0, 1.0):
        legs.extend(_tree(patient, side, rng))
    start, end, thick, thin = (np.concatenate(column) for column in zip(*legs, strict=True))
    sheet = canvas.zeros()
    for lower, upper, across in ((0.0, 0.0016, 4), (0.0016, 0.004, 10), (0.004, 1.0, 28)):
        pick = (thick > lower) & (thick <= upper)
        if not pick.any():
            continue
        path = np.stack([start[pick], end[pick]], 1).reshape(-1, 3)
        radius = np.stack([thick[pick], thin[pick]], 1).reshape(-1)
        sheet += _separate(canvas, path, radius, across, rng)
    return canvas.blur(sheet, 0.0009)


def hila(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> Map:
    """Return the soft parts around the roots of the lungs, in film heights."""
    sheet = canvas.zeros()
    size = patient.half / 0.30
    for side, q in ((-1.0, 0.45), (1.0, 0.41)):
        for _ in range(4):
            at = patient.at(side * (0.22 + rng.normal(0, 0.025)), q + rng.normal(0, 0.035))
            half = size * rng.uniform(0.012, 0.020), size * rng.uniform(0.018, 0.034)
            sheet += canvas.ellipsoid(at, half, 0.020 * size, side * rng.uniform(-0.5, 0.1))
    return canvas.blur(sheet, 0.003)


def _separate(canvas: Canvas, path: Array, radius: Array, across: int, rng: np.random.Generator) -> Map:
    """Return the thickness of tubes given as pairs of ends; the gaps between pairs have no volume."""
    gap = radius.copy()
    joined = np.repeat(path, 1, axis=0)
    x, y, volume = tube_points(joined, gap, rng, 0.8 / canvas.height, across)
    leg = np.linalg.norm(np.diff(path, axis=0), axis=1)
    count = np.maximum(1, np.ceil(leg / (0.8 / canvas.height))).astype(int)
    real = np.repeat(np.arange(len(leg)) % 2 == 0, count * across)
    return canvas.splat(x[real], y[real], volume[real])


def _tree(patient: Patient, side: float, rng: np.random.Generator) -> list[tuple[Array, Array, Array, Array]]:
    """Return the legs of one lung's tree as (start, end, thick, thin)."""
    hx, hy = patient.at(side * 0.24, 0.43 if side < 0 else 0.395)
    size = patient.half / 0.30
    angle = np.concatenate([np.linspace(-1.45, 1.5, 12), rng.uniform(0.0, 1.4, 5)])
    angle = angle + rng.normal(0, 0.10, angle.shape)
    downward = np.clip(np.sin(angle), 0, 1)
    radius = size * (0.0054 + 0.0042 * downward) * rng.uniform(0.8, 1.15, angle.shape)
    length = size * (0.058 + 0.020 * downward) * rng.uniform(0.85, 1.15, angle.shape)
    along = np.clip(angle / 1.5, -1, 1) * 0.045 * size
    jitter = rng.normal(0, 0.008 * size, (2, len(angle)))
    point = np.stack([hx + jitter[0] + side * 0.3 * np.abs(along), hy + along + jitter[1], 0 * angle], 1)
    legs = []
    for level in range(_LEVELS):
        lift = rng.normal(0, 0.45, angle.shape)
        path = [point]
        turn = rng.normal(0, 0.22, angle.shape)
        for part in range(3):
            heading = angle + turn * (part - 1)
            flat = np.cos(lift)
            move = np.stack([side * np.cos(heading) * flat, np.sin(heading) * flat, np.sin(lift)], 1)
            path.append(path[-1] + move * (length / 3)[:, None])
        thin = radius * 0.82
        for part in range(3):
            a = radius + (thin - radius) * part / 3
            legs.append((path[part], path[part + 1], a, radius + (thin - radius) * (part + 1) / 3))
        point = np.concatenate([path[-1], path[-1]])
        spread = rng.uniform(0.15, 0.55, angle.shape) * rng.choice([-1, 1], angle.shape)
        angle = np.concatenate([angle + 0.45 * spread, angle - 1.25 * spread])
        share = rng.uniform(0.62, 0.80, radius.shape)
        radius = np.concatenate(
            [thin * np.sqrt(np.clip(1.05 - share**2, 0.2, 1)) * 0.98, thin * share * 0.92]
        )
        length = np.concatenate([length, length * 0.9]) * rng.uniform(0.72, 0.95, angle.shape)
        keep = (radius > 0.00045 * size) & (rng.random(radius.shape) < (1.0 if level < 3 else 0.93))
        point, angle, radius, length = point[keep], angle[keep], radius[keep], length[keep]
    return legs


def airways(canvas: Canvas, patient: Patient) -> Map:
    """Return the thickness of air in the windpipe and the main bronchi, in film heights."""
    radius = 0.0195 if not patient.child else 0.021
    cx, carina = patient.at(0.02, 0.335)
    top = patient.top - 0.2
    wind = canvas.capsule((patient.centre + 0.003, top), (cx, carina - 0.01), radius)
    right = canvas.capsule((cx, carina - 0.008), patient.at(-0.22, 0.45), radius * 0.72)
    left = canvas.capsule((cx, carina - 0.008), patient.at(0.27, 0.45), radius * 0.62)
    return np.maximum(wind, 0.75 * np.maximum(right, left)).astype(np.float32)


def bronchi(canvas: Canvas, patient: Patient, rng: np.random.Generator) -> Map:
    """Return the thickness of air in the bronchi of both lungs."""
    legs = [leg for side in (-1.0, 1.0) for leg in _tree(patient, side, rng)]
    start, end, thick, thin = (np.concatenate(column) for column in zip(*legs, strict=True))
    pick = thick > 0.0016
    path = np.stack([start[pick], end[pick]], 1).reshape(-1, 3)
    radius = np.stack([thick[pick], thin[pick]], 1).reshape(-1)
    return canvas.blur(_separate(canvas, path, radius, 10, rng), 0.0008)
