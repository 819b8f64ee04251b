"""Pictures that are no frontal chest film: a hand, a knee, a chest from the side, a page, a test pattern."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import numpy as np

from triage.samples.canvas import Canvas, Curve, Map, step
from triage.samples.film import Exposure, expose
from triage.samples.letters import ADVANCE, TALL, stencil

_WORDS = (
    "REPORT", "OF", "THE", "DOSE", "MEASURED", "AT", "TABLE", "SIDE", "AND", "SENT", "WITH", "THIS", "STUDY",
    "NO", "PERSON", "IS", "SHOWN", "ALL", "VALUES", "ARE", "DRAWN", "BY", "A", "PROGRAM", "SYNTHETIC",
)  # fmt: skip
#: Across, root and length of each finger, then its turn away from upright.
_FINGERS = (
    (-0.145, 0.52, 0.30, -0.22),
    (-0.07, 0.47, 0.37, -0.07),
    (0.0, 0.46, 0.40, 0.0),
    (0.065, 0.48, 0.36, 0.08),
)


def _bar(canvas: Canvas, a: tuple[float, float], b: tuple[float, float], radius: float) -> tuple[Map, Map]:
    """Return flesh and bone of one long bone: a hollow shaft with two knobs."""
    shaft = canvas.capsule(a, b, radius) - 0.75 * canvas.capsule(a, b, radius * 0.62)
    knobs = np.maximum(
        canvas.ellipsoid(a, (radius * 1.5, radius * 1.2), radius * 1.2),
        canvas.ellipsoid(b, (radius * 1.4, radius * 1.15), radius * 1.1),
    )
    return canvas.capsule(a, b, radius * 2.5), np.maximum(shaft, 0.8 * knobs).astype(np.float32)


def hand(canvas: Canvas, rng: np.random.Generator) -> Map:
    """Return a left hand laid flat, fingers up."""
    turn = rng.normal(0, 0.06)
    rays = [
        _finger(canvas, (x, y), length, lean + turn, (0.44, 0.24, 0.17, 0.12))
        for x, y, length, lean in _FINGERS
    ]
    rays.append(_finger(canvas, (0.10, 0.56), 0.30, 0.62 + turn, (0.36, 0.32, 0.24)))
    flesh = np.maximum.reduce([skin for skin, _ in rays])
    bone = np.maximum.reduce([shaft for _, shaft in rays])
    palm = canvas.ellipsoid((-0.01, 0.60), (0.17, 0.21), 0.085)
    wrist = canvas.capsule((-0.01, 0.72), (0.0, 1.1), 0.105) * 0.55
    for x, y in (
        (-0.06, 0.72),
        (-0.02, 0.70),
        (0.03, 0.71),
        (0.075, 0.69),
        (-0.05, 0.76),
        (0.0, 0.755),
        (0.05, 0.75),
    ):
        bone += canvas.ellipsoid((x, y), (0.026, 0.024), 0.020, rng.uniform(-1, 1))
    for a, b, r in (((0.045, 0.80), (0.035, 1.1), 0.034), ((-0.055, 0.81), (-0.045, 1.1), 0.025)):
        _, shaft = _bar(canvas, a, b, r)
        bone += 0.6 * shaft
    flesh = canvas.blur(np.maximum(np.maximum(flesh, palm), wrist), 0.004)
    return expose(canvas, flesh * 30, bone * 26, Exposure(0.45, 1.3, marker="L", marker_at=(0.05, 0.1)), rng)


def _finger(
    canvas: Canvas, root: tuple[float, float], length: float, lean: float, parts: tuple[float, ...]
) -> tuple[Map, Map]:
    """Return flesh and bone of the hand's one ray, from the wrist to the tip."""
    flesh, bone = canvas.zeros(), canvas.zeros()
    x, y = root[0], root[1] + 0.2
    scale = length / sum(parts) * 1.25
    for number, part in enumerate(parts):
        end = (x + np.sin(lean) * part * scale, y - np.cos(lean) * part * scale)
        radius = 0.0155 - 0.0018 * number
        skin, shaft = _bar(canvas, (x, y), (x + 0.86 * (end[0] - x), y + 0.86 * (end[1] - y)), radius)
        flesh, bone = np.maximum(flesh, skin), np.maximum(bone, shaft)
        x, y = end
    return flesh, bone


def knee(canvas: Canvas, rng: np.random.Generator) -> Map:
    """Return a knee from in front."""
    shift = rng.normal(0, 0.02)
    flesh = np.maximum(
        canvas.capsule((shift, -0.1), (shift, 0.5), 0.24), canvas.capsule((shift, 0.5), (shift, 1.1), 0.19)
    )
    bone = canvas.zeros()
    for a, b, radius in (
        ((shift, -0.1), (shift, 0.33), 0.075),
        ((shift, 0.66), (shift - 0.01, 1.1), 0.068),
        ((shift + 0.14, 0.63), (shift + 0.13, 1.1), 0.024),
    ):
        bone += canvas.capsule(a, b, radius) - 0.85 * canvas.capsule(a, b, radius * 0.7)
    for side in (-1, 1):
        bone += canvas.ellipsoid((shift + side * 0.075, 0.40), (0.088, 0.085), 0.10)
        bone += canvas.ellipsoid((shift + side * 0.08, 0.575), (0.092, 0.06), 0.09)
    bone += canvas.ellipsoid((shift + 0.01, 0.37), (0.062, 0.068), 0.04)
    gap = np.exp(-(((canvas.y - 0.495 - 0.03 * (np.abs(canvas.x - shift) - 0.05)) / 0.012) ** 2))
    bone = bone * (1 - 0.97 * gap).astype(np.float32) * (1 + 0.06 * canvas.turbulence(rng, 0.03, 3))
    flesh = canvas.blur(flesh.astype(np.float32), 0.006)
    return expose(canvas, flesh * 35, bone * 22, Exposure(0.25, 0.45, marker="R", marker_at=(0.06, 0.2)), rng)


def lateral(canvas: Canvas, rng: np.random.Generator) -> Map:
    """Return a chest from the left side: breastbone left, spine right, arms raised."""
    q = (canvas.y - 0.12) / 0.60
    front = Curve((-0.3, 0.0, 0.3, 0.8, 1.3, 1.6), (-0.10, -0.14, -0.25, -0.30, -0.28, -0.27))(q)
    back = Curve((-0.3, 0.0, 0.3, 0.7, 1.1, 1.6), (0.16, 0.25, 0.32, 0.33, 0.29, 0.27))(q)
    middle, half = (front + back) / 2, (back - front) / 2
    profile = np.maximum(1 - np.abs((canvas.x - middle) / half) ** 2.6, 0) ** 0.5
    water = (30 * profile).astype(np.float32)
    water = np.maximum(water, canvas.capsule((-0.02, 0.10), (-0.20, -0.2), 0.09) * 100)
    edge = np.minimum(canvas.x - front - 0.045, back - 0.085 - canvas.x)
    dome = (
        0.96
        + 0.10 * np.clip((canvas.x + 0.25) / 0.5, 0, 1) ** 2
        + 0.22 * np.clip((canvas.x - 0.02) / 0.25, 0, 1) ** 2
    )
    edge = np.minimum(edge, np.minimum((dome - q) * 0.6, q * 0.6)).astype(np.float32)
    rise = np.clip(edge / 0.09, 0, 1)
    heart = canvas.ellipsoid((-0.10, 0.54), (0.13, 0.16), 9.0, 0.5)
    air = 19 * np.sqrt(1 - (1 - rise) ** 2) * step(edge, 0.006)
    water -= np.maximum(air - heart, 0).astype(np.float32) * 0.8
    water -= canvas.capsule((0.02, 0.0), (0.05, 0.36), 0.017) * 30
    water += canvas.ellipsoid((0.03, 0.41), (0.04, 0.05), 3.0)
    bone = _side_bones(canvas, rng)
    water = water * (1 + 0.015 * canvas.turbulence(rng, 0.06, 4))
    return expose(canvas, water, bone, Exposure(0.15, 0.5, marker="L", marker_at=(0.04, 0.05)), rng)


def _side_bones(canvas: Canvas, rng: np.random.Generator) -> Map:
    bone = canvas.zeros()
    for number in range(16):
        y = 0.06 + number * 0.058
        x = 0.17 + 0.09 * np.sin(np.pi * np.clip(y, 0, 1))
        body = step(0.030 - np.abs(canvas.x - x), 0.006) * step(0.022 - np.abs(canvas.y - y), 0.006)
        bone += 1.7 * body
    for number in range(10):
        y = 0.12 + number * 0.052
        for shift in (0.0, rng.uniform(0.008, 0.02)):
            a, b = (0.26 + shift, y), (-0.16 - 0.08 * number / 9, y + 0.17 + shift)
            bone += canvas.capsule(a, b, 0.0085) * 14 - canvas.capsule(a, b, 0.0055) * 8
    bone += canvas.capsule((-0.16, 0.17), (-0.26, 0.50), 0.010) * 22
    return bone.astype(np.float32)


def page(canvas: Canvas, rng: np.random.Generator) -> Map:
    """Return a typed page, black on white."""
    ink, dot = canvas.zeros(), 0.0021
    line = 0.06
    while line < 0.94:
        room = int((canvas.aspect - 0.14) / (dot * ADVANCE))
        text = ""
        while rng.random() > 0.03:
            word = str(rng.choice(_WORDS))
            if len(text) + len(word) + 1 > room:
                break
            text += word + " "
        if text:
            ink = np.maximum(ink, stencil(canvas, text, (0.07, line), dot))
        line += dot * TALL * (1.9 if rng.random() < 0.85 else 3.6)
    return (
        (0.98 - 0.93 * ink + 0.004 * rng.standard_normal(ink.shape, np.float32)).clip(0, 1).astype(np.float32)
    )


def pattern(canvas: Canvas, rng: np.random.Generator) -> Map:
    """Return a test pattern: a wire mesh, a wedge of steps and pairs of lines."""
    mesh = np.zeros_like(canvas.zeros())
    for line in (canvas.x, canvas.y):
        mesh = np.maximum(mesh, np.exp(-((((line / 0.05) % 1 - 0.5) / 0.03) ** 2)).astype(np.float32))
    steps = (
        np.floor((canvas.x + 0.3) / 0.06) / 10 * (np.abs(canvas.x) < 0.3) * (np.abs(canvas.y - 0.5) < 0.07)
    )
    pitch = 0.004 + 0.03 * np.clip(canvas.y - 0.62, 0, 1)
    pairs = ((canvas.x / pitch) % 1 < 0.5) * (np.abs(canvas.y - 0.75) < 0.1) * (np.abs(canvas.x) < 0.25)
    disc = canvas.ellipsoid((0.0, 0.22), (0.12, 0.12), 0.5)
    sheet = 0.25 + 0.35 * mesh + 0.5 * steps + 0.4 * pairs + disc
    return (sheet + 0.01 * rng.standard_normal(sheet.shape)).clip(0, 1).astype(np.float32)


#: What can be drawn besides frontal chest films, by name.
SCENES: MappingProxyType[str, Callable[[Canvas, np.random.Generator], Map]] = MappingProxyType(
    {"hand": hand, "knee": knee, "lateral": lateral, "page": page, "pattern": pattern}
)
