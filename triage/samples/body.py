"""Soft parts of the drawn patient: trunk, neck, arms, breasts, the organs under the diaphragm."""

from __future__ import annotations

import numpy as np

from triage.samples.anatomy import Outline, Patient
from triage.samples.canvas import Canvas, Curve, Map, step
from triage.samples.skeleton import elbow, joint


def tissue(canvas: Canvas, patient: Patient, shape: Outline, rng: np.random.Generator) -> Map:
    """Return the thickness of soft tissue along the ray, lungs counted as filled, in centimetres."""
    cm = np.float32(patient.film_cm)
    total = trunk(canvas, patient)
    if patient.child:
        chin = canvas.ellipsoid((patient.centre, patient.top - 0.21), (0.21, 0.14), 0.55)
        total = np.maximum(total, chin * cm)
    for side in (-1.0, 1.0):
        jx, jy = joint(patient, side)
        upper = canvas.capsule(
            (jx + side * 0.02, jy + 0.02), elbow(patient, side), 0.074 if not patient.child else 0.10
        )
        total = canvas.blur(np.maximum(total, canvas.blur(upper, 0.006) * cm), 0.008)
        if patient.breast:
            total += breast(canvas, patient, side) * cm
        elif not patient.child:
            total += canvas.ellipsoid(patient.at(side * 0.66, 0.26), (0.115, 0.10), 0.035, side * -0.5) * cm
    heart = np.clip(shape.heart / (0.14 * patient.half / 0.3), 0, 1) * step(shape.heart, 0.004)
    total += np.float32(0.04 * patient.depth_cm) * np.sqrt(1 - (1 - heart) ** 2).astype(np.float32)
    band = (
        np.exp(-(((shape.lungs + 0.012) / 0.014) ** 2)) * step(0.985 - shape.q, 0.1) * (np.abs(shape.s) > 0.5)
    )
    total += np.float32(0.13 * patient.depth_cm) * band.astype(np.float32)
    total += abdomen(canvas, patient, shape, rng)
    fibres = canvas.noise(rng, 0.012, 5.0) * 0.5 + canvas.turbulence(rng, 0.10, 4)
    return total * (1 + 0.012 * fibres).astype(np.float32)


def trunk(canvas: Canvas, patient: Patient) -> Map:
    """Return the thickness of neck, shoulders and trunk."""
    wall = patient.half * 1.0 + (0.07 if not patient.child else 0.055)
    neck = 0.085 if not patient.child else 0.16
    t, h = patient.top, patient.tall
    if patient.child:
        at: tuple[float, ...] = (
            t - 0.22,
            t - 0.16,
            t - 0.11,
            t - 0.055,
            t + 0.10 * h,
            t + 0.4 * h,
            t + h,
            t + 1.4 * h,
        )
        width: tuple[float, ...] = (
            neck * 1.12,
            neck,
            neck * 1.5,
            0.95 * wall,
            1.02 * wall,
            1.0 * wall,
            1.03 * wall,
            1.0 * wall,
        )
    else:
        at = (
            t - 0.2,
            t - 0.075,
            t - 0.04,
            t + 0.015,
            t + 0.08,
            t + 0.28 * h,
            t + 0.6 * h,
            t + h,
            t + 1.5 * h,
        )
        width = (
            neck * 1.05,
            neck,
            neck * 1.5,
            1.08 * wall,
            1.3 * wall,
            1.12 * wall,
            1.0 * wall,
            0.98 * wall,
            0.97 * wall,
        )
    half = Curve(at, width)(canvas.y)
    deep = Curve((t - 0.2, t - 0.06, t + 0.05, t + 0.3, 1.0), (0.62, 0.62, 0.90, 1.0, 1.04))(canvas.y)
    x = np.abs(canvas.x - patient.centre - patient.tilt * (canvas.y - 0.5)) / half
    profile = np.maximum(1 - x ** (3.0 if not patient.child else 2.6), 0) ** 0.5
    return canvas.blur((profile * deep * patient.depth_cm).astype(np.float32), 0.004)


def breast(canvas: Canvas, patient: Patient, side: float) -> Map:
    """Return one breast: thickest low, with a sharp fold beneath."""
    x, y = patient.at(side * 0.68, 0.80)
    size = patient.breast
    shape = canvas.ellipsoid((x, y), (0.135 * size, 0.16 * size), 0.10 * size, side * 0.15)
    weight = np.clip((canvas.y - (y - 0.15 * size)) / (0.28 * size), 0, 1)
    return canvas.blur((shape * weight).astype(np.float32), 0.002)


def abdomen(canvas: Canvas, patient: Patient, shape: Outline, rng: np.random.Generator) -> Map:
    """Return what the organs under the diaphragm add (liver, spleen) and take (gas)."""
    below = step(-shape.lungs, 0.01) * step(shape.q - 0.95, 0.1)
    total = 0.05 * patient.depth_cm * below
    unit = patient.half / 0.30
    if patient.stomach:
        x, y = patient.at(rng.uniform(0.34, 0.5), 1.0)
        y = patient.top + patient.tall * (1.0 + patient.left_lower) + rng.uniform(0.045, 0.065) * unit
        half = rng.uniform(0.045, 0.075) * unit, rng.uniform(0.026, 0.042) * unit
        gas = canvas.ellipsoid((x, y), half, rng.uniform(0.07, 0.11), rng.uniform(-0.3, 0.3))
        total -= canvas.blur(gas, 0.0015) * patient.film_cm * below
    for _ in range(int(rng.integers(2, 7))):
        x, y = patient.at(rng.uniform(-0.2, 0.9), rng.uniform(1.25, 1.6))
        half = rng.uniform(0.012, 0.045) * unit, rng.uniform(0.010, 0.028) * unit
        gas = canvas.ellipsoid((x, y), half, rng.uniform(0.02, 0.06), rng.uniform(-1, 1))
        total -= canvas.blur(gas, 0.003) * patient.film_cm * below
    return total.astype(np.float32)
