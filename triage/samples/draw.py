"""A frontal chest film of one drawn patient, healthy or with one disease."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from triage.samples.anatomy import Patient, adult, child, outline, with_large_heart
from triage.samples.body import tissue
from triage.samples.canvas import Canvas, Map
from triage.samples.disease import Chest, Kind, affect
from triage.samples.film import Exposure, expose
from triage.samples.lungs import LUNG_DENSITY, airways, lungs
from triage.samples.skeleton import skeleton

#: A failing heart is this much wider.
_HEART_SCALE = 1.75
#: Who is short of breath lies with a heart so much broader; a small child with narrow airways also traps
#: air, and its lungs are so much longer.
_BROADER, _TRAPPED = 1.08, 1.17
_SHORT_OF_BREATH = frozenset(Kind) - {Kind.NORMAL, Kind.CAVITIES, Kind.MASS}


def patient_of(seed: int, build: str, kind: Kind) -> Patient:
    """Return the drawn patient number `seed`: an `adult-male`, an `adult-female` or a `child`."""
    rng = np.random.default_rng([seed, 1])
    drawn = child(rng) if build == "child" else adult(rng, female=build == "adult-female")
    if kind is Kind.LARGE_HEART:
        drawn = with_large_heart(drawn, _HEART_SCALE)
    if kind in _SHORT_OF_BREATH:
        stretch = _TRAPPED if drawn.child else 1.0
        drawn = replace(drawn, base=drawn.top + stretch * drawn.tall, heart=_BROADER * drawn.heart)
    return drawn


def frontal(patient: Patient, kind: Kind, seed: int, height: int, take: int = 0) -> Map:
    """Return a frontal film, 0 black to 1 white, `height` pixels tall and as wide as the patient's film.

    Another `take` shows the same disease in the same patient, placed and exposed a little differently.
    """
    rng = np.random.default_rng([seed, 2, take])
    patient = replace(patient, tilt=patient.tilt + 0.006 * take, top=patient.top + 0.008 * take)
    canvas = Canvas(height, round(height * patient.aspect))
    shape = outline(canvas, patient)
    lung = lungs(canvas, patient, shape, rng)
    water = tissue(canvas, patient, shape, rng)
    bone = skeleton(canvas, patient, rng)
    affect(kind, Chest(canvas, patient, shape, lung, np.random.default_rng([seed, 3])))
    air = np.clip(lung.depth * (1 - LUNG_DENSITY) - lung.water, 0, lung.depth)
    open_airway = airways(canvas, patient) * np.float32(patient.film_cm)
    water, bone = canvas.bend(rng, 0.012, 0.22, water - air - open_airway, bone)
    return expose(canvas, water, bone, exposure(patient, rng), rng)


def exposure(patient: Patient, rng: np.random.Generator) -> Exposure:
    """Return how this patient's film was taken: children at a softer beam, the marker left of the chest."""
    return Exposure(
        mu_water=0.26 if patient.child else 0.19,
        mu_bone=1.0 if patient.child else 0.55,
        contrast=rng.uniform(0.9, 1.15),
        edge=rng.uniform(0.2, 0.45),
        noise=rng.uniform(0.005, 0.01) if patient.child else rng.uniform(0.010, 0.02),
        marker_at=(0.04, rng.uniform(0.08, 0.4) if patient.child else rng.uniform(0.03, 0.1)),
    )
