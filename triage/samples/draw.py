"""A frontal chest film of one drawn patient, healthy or with one disease."""

from __future__ import annotations

import numpy as np

from triage.samples.anatomy import Patient, adult, child, outline
from triage.samples.body import tissue
from triage.samples.canvas import Canvas, Map
from triage.samples.film import Exposure, expose
from triage.samples.lungs import LUNG_DENSITY, airways, lungs
from triage.samples.skeleton import skeleton


def frontal(patient: Patient, kind: str, seed: int, height: int) -> Map:
    """Return a frontal film, 0 black to 1 white, `height` pixels tall and as wide as the patient's film."""
    rng = np.random.default_rng(seed)
    canvas = Canvas(height, round(height * patient.aspect))
    shape = outline(canvas, patient)
    lung = lungs(canvas, patient, shape, rng)
    water = tissue(canvas, patient, shape, rng)
    bone = skeleton(canvas, patient, rng)
    air = lung.depth * (1 - LUNG_DENSITY) - lung.water
    air = np.clip(air, 0, lung.depth)
    total = water - air - airways(canvas, patient) * 0.75 * patient.film_cm
    return expose(canvas, total, bone, Exposure(), rng)
