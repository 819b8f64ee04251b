"""What diseases add to a drawn lung, as the share of its air that they replace by water."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from triage.samples.anatomy import Outline, Patient
from triage.samples.canvas import Canvas, Map, step
from triage.samples.lungs import LUNG_DENSITY, Lungs, bronchi, vessels


class Kind(StrEnum):
    """What a frontal sample shows."""

    NORMAL = "normal"
    CONSOLIDATION = "consolidation"
    INTERSTITIAL = "interstitial"
    GROUND_GLASS = "ground-glass"
    CAVITIES = "cavities"
    EFFUSION = "effusion"
    LARGE_HEART = "large-heart"
    MASS = "mass"


#: Middles (s, q) and half sizes of the lobes in which a consolidation may sit.
_LOBES = (
    (-0.58, 0.26, 0.36, 0.20),
    (-0.52, 0.74, 0.40, 0.20),
    (-0.66, 0.86, 0.38, 0.24),
    (0.64, 0.84, 0.36, 0.26),
    (0.56, 0.36, 0.34, 0.24),
)


@dataclass(frozen=True)
class Chest:
    """The chest that a disease befalls, and the randomness of its course; only `lung` is changed."""

    canvas: Canvas
    patient: Patient
    shape: Outline
    lung: Lungs
    rng: np.random.Generator


def affect(kind: Kind, chest: Chest) -> None:
    """Draw what `kind` shows into the lungs of `chest`; a normal chest stays as it is."""
    draw = _DRAWN.get(kind)
    if draw is not None:
        draw(chest)


def _parts(chest: Chest) -> tuple[Canvas, Patient, Outline, Lungs, np.random.Generator]:
    return chest.canvas, chest.patient, chest.shape, chest.lung, chest.rng


def _fill(lung: Lungs, share: Map) -> None:
    """Replace that share of the lung's air by water."""
    air = np.maximum(lung.depth * np.float32(1 - LUNG_DENSITY) - lung.water, 0)
    lung.water += (np.clip(share, 0, 1) * air).astype(np.float32)


def consolidation(chest: Chest) -> None:
    """Fill most of one lobe, its airways left open, and a weaker patch elsewhere."""
    canvas, patient, shape, lung, rng = _parts(chest)
    first = int(rng.integers(len(_LOBES)))
    second = (first + int(rng.integers(1, len(_LOBES)))) % len(_LOBES)
    share = canvas.zeros()
    for lobe, strength, size in ((first, 0.95, 1.4), (second, 0.7, 1.0)):
        s, q, wide, tall = _LOBES[lobe]
        away = np.hypot((shape.s - s) / (wide * size), (shape.q - q) / (tall * size))
        away = away + 0.22 * canvas.turbulence(rng, 0.10, 4)
        share = np.maximum(share, np.float32(strength) * step(1.0 - away, 0.9))
    share = np.maximum(share, 0.22 * lung.inside)
    _fill(lung, share)
    air = bronchi(canvas, patient, rng) * np.float32(patient.film_cm * 0.8)
    lung.water -= air * share


def interstitial(chest: Chest) -> None:
    """Thicken the tissue around bronchi on both sides, most near the hila, with a net of fine lines."""
    canvas, patient, shape, lung, rng = _parts(chest)
    away = np.minimum(
        np.hypot((shape.s + 0.34) / 0.78, (shape.q - 0.54) / 0.55),
        np.hypot((shape.s - 0.38) / 0.78, (shape.q - 0.54) / 0.55),
    )
    near = np.exp(-(away**2)).astype(np.float32)
    haze = near * (0.44 + 0.18 * canvas.turbulence(rng, 0.09, 4))
    net = np.exp(-((canvas.turbulence(rng, 0.022, 2) / 0.28) ** 2))
    streaks = canvas.blur(vessels(canvas, patient, rng), 0.0022) * lung.inside
    _fill(lung, haze + (0.05 + 0.20 * near) * net * lung.inside)
    lung.water += streaks * near * np.float32(patient.film_cm * 2.2)


def ground_glass(chest: Chest) -> None:
    """Veil the outer and lower parts of both lungs in patches, with fine lines in them."""
    canvas, patient, shape, lung, rng = _parts(chest)
    outer = np.exp(-((np.clip(shape.walls, 0, 1) / (0.36 * patient.half)) ** 1.5))
    lower = step(shape.q - rng.uniform(0.32, 0.45), 0.6)
    patches = step(canvas.turbulence(rng, 0.11, 4) + 0.55, 1.6)
    net = np.exp(-((canvas.turbulence(rng, 0.016, 2) / 0.3) ** 2))
    share = (0.12 + 0.88 * outer) * (0.18 + 0.82 * lower) * (0.35 + 0.65 * patches)
    _fill(lung, (share * (0.85 + 0.3 * net) * lung.inside).astype(np.float32))


def cavities(chest: Chest) -> None:
    """Draw cavities, nodules and scars in the upper lobes, worse on one side."""
    canvas, patient, shape, lung, rng = _parts(chest)
    worse = 1.0 if rng.random() < 0.5 else -1.0
    share = canvas.zeros()
    for side, strength in ((worse, 1.0), (-worse, 0.95)):
        middle = (side * rng.uniform(0.48, 0.60), rng.uniform(0.20, 0.28))
        away = np.hypot((shape.s - middle[0]) / 0.66, (shape.q - middle[1]) / 0.56)
        cloud = np.exp(-(away**2)) * (0.6 + 0.5 * canvas.turbulence(rng, 0.05, 4))
        share = np.maximum(share, np.float32(strength) * cloud.astype(np.float32))
        share = np.maximum(
            share, _nodules(canvas, patient, middle, int(110 * strength), rng) * np.float32(strength)
        )
        share = np.maximum(share, _scars(canvas, patient, middle, side, rng) * np.float32(0.9 * strength))
        for _ in range(4 if side == worse else 2):
            share = _hollow(canvas, patient, middle, share, rng)
    cap = step(0.10 - shape.q, 0.1) * 0.4
    _fill(lung, np.maximum(share, cap) * lung.inside)


def _nodules(
    canvas: Canvas, patient: Patient, middle: tuple[float, float], count: int, rng: np.random.Generator
) -> Map:
    sheet = canvas.zeros()
    for _ in range(count):
        x, y = patient.at(middle[0] + rng.normal(0, 0.26), middle[1] + abs(rng.normal(0, 0.34)) - 0.1)
        size = rng.uniform(0.004, 0.012) * patient.half / 0.3
        sheet = np.maximum(sheet, 0.75 * np.exp(-(((canvas.x - x) ** 2 + (canvas.y - y) ** 2) / size**2)))
    return sheet.astype(np.float32)


def _scars(
    canvas: Canvas, patient: Patient, middle: tuple[float, float], side: float, rng: np.random.Generator
) -> Map:
    sheet = canvas.zeros()
    hilum = patient.at(side * 0.22, 0.38)
    for _ in range(9):
        end = patient.at(middle[0] + rng.normal(0, 0.14), middle[1] + rng.normal(-0.03, 0.09))
        strand = canvas.capsule(hilum, end, rng.uniform(0.0015, 0.0035))
        sheet = np.maximum(sheet, strand / 0.006)
    bend = canvas.noise(rng, 0.05) * 0.3 + 0.7
    return (canvas.blur(sheet.astype(np.float32), 0.0015) * bend).astype(np.float32)


def _hollow(
    canvas: Canvas, patient: Patient, middle: tuple[float, float], share: Map, rng: np.random.Generator
) -> Map:
    x, y = patient.at(middle[0] + rng.normal(0, 0.12), middle[1] + rng.normal(0, 0.07))
    radius = rng.uniform(0.028, 0.048) * patient.half / 0.3
    away = np.hypot(canvas.x - x, (canvas.y - y) / rng.uniform(0.9, 1.3)) + 0.007 * canvas.noise(rng, 0.03)
    wall = np.exp(-(((away - radius) / (0.26 * radius)) ** 2))
    inside = step(radius * 0.9 - away, 0.3 * radius)
    return np.asarray(np.maximum(share * (1 - 0.75 * inside), 0.55 * wall), np.float32)


def effusion(chest: Chest) -> None:
    """Fill the bottom of one pleural space up to a level that climbs along the chest wall."""
    _, _, shape, lung, rng = _parts(chest)
    side = 1.0 if rng.random() < 0.5 else -1.0
    level = rng.uniform(0.42, 0.6)
    climb = np.clip((shape.s * side - 0.45) / 0.55, 0, 1)
    depth = shape.q - level + 0.17 * climb**2.2 - 0.05 * np.clip(0.4 - shape.s * side, 0, 1)
    here = (shape.s * side > 0).astype(np.float32)
    _fill(lung, here * 0.97 * step(depth, 0.07) + 0.10 * here * lung.inside)


def mass(chest: Chest) -> None:
    """Put one large lump with a ragged edge into a lung, and a few small ones."""
    canvas, patient, _, lung, rng = _parts(chest)
    side = 1.0 if rng.random() < 0.5 else -1.0
    share = canvas.zeros()
    places = [(side * rng.uniform(0.45, 0.6), rng.uniform(0.35, 0.6), rng.uniform(0.06, 0.085))]
    places += [
        (rng.choice((-1, 1)) * rng.uniform(0.35, 0.8), rng.uniform(0.25, 0.9), 0.022) for _ in range(5)
    ]
    ragged = 0.10 * canvas.turbulence(rng, 0.03, 3)
    for s, q, radius in places:
        x, y = patient.at(s, q)
        away = np.hypot(canvas.x - x, canvas.y - y) / (radius * patient.half / 0.3) + ragged
        share = np.maximum(
            share, 0.8 * np.sqrt(np.clip(1 - away**2, 0, 1)) + 0.12 * np.exp(-((away / 1.3) ** 4))
        )
    _fill(lung, share.astype(np.float32) * lung.inside)


def congestion(chest: Chest) -> None:
    """Widen the vessels of a failing heart and veil the lower lungs."""
    canvas, patient, shape, lung, rng = _parts(chest)
    lung.water += (
        canvas.blur(vessels(canvas, patient, rng), 0.0015) * lung.inside * np.float32(1.5 * patient.film_cm)
    )
    lower = step(shape.q - 0.55, 0.8)
    _fill(lung, (0.12 + 0.40 * lower) * lung.inside)


_DRAWN: dict[Kind, Callable[[Chest], None]] = {
    Kind.CONSOLIDATION: consolidation,
    Kind.INTERSTITIAL: interstitial,
    Kind.GROUND_GLASS: ground_glass,
    Kind.CAVITIES: cavities,
    Kind.EFFUSION: effusion,
    Kind.MASS: mass,
    Kind.LARGE_HEART: congestion,
}
