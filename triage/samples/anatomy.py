"""Proportions of a drawn patient: where the chest lies on the film, and the outlines of what is in it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from triage.samples.canvas import Array, Canvas, Curve, Map

#: Outlines in chest coordinates: q runs from the apices (0) to the top of the right dome (1), s from the
#: spine (0) to the widest point of the lung (1).
_LATERAL = {
    "adult": Curve(
        (0.0, 0.02, 0.06, 0.14, 0.28, 0.5, 0.75, 1.0, 1.2),
        (0.42, 0.53, 0.62, 0.73, 0.84, 0.93, 0.985, 1.0, 1.0),
    ),
    "child": Curve(
        (0.0, 0.02, 0.06, 0.14, 0.28, 0.5, 0.75, 1.0, 1.2),
        (0.37, 0.46, 0.54, 0.63, 0.75, 0.88, 0.97, 1.0, 0.985),
    ),
}
_MEDIAL = Curve((0.0, 0.02, 0.06, 0.14, 0.3, 0.6, 1.2), (0.40, 0.28, 0.20, 0.14, 0.11, 0.10, 0.10))
_DOME = Curve(
    (0.1, 0.25, 0.42, 0.58, 0.72, 0.85, 0.95, 1.02), (1.07, 1.03, 1.0, 1.0, 1.025, 1.07, 1.125, 1.2)
)
_LEFT_HEART = {
    "adult": Curve(
        (0.06, 0.14, 0.22, 0.29, 0.33, 0.42, 0.55, 0.7, 0.84, 0.93, 1.03, 1.12),
        (0.15, 0.17, 0.25, 0.235, 0.185, 0.235, 0.31, 0.43, 0.52, 0.54, 0.47, 0.30),
    ),
    "child": Curve(
        (0.05, 0.12, 0.2, 0.3, 0.36, 0.45, 0.56, 0.7, 0.84, 0.93, 1.03, 1.12),
        (0.24, 0.26, 0.28, 0.29, 0.28, 0.32, 0.40, 0.49, 0.545, 0.55, 0.46, 0.30),
    ),
}
_RIGHT_HEART = {
    "adult": Curve(
        (0.05, 0.14, 0.28, 0.42, 0.55, 0.7, 0.82, 0.95, 1.06),
        (0.135, 0.125, 0.13, 0.155, 0.20, 0.26, 0.28, 0.25, 0.17),
    ),
    "child": Curve(
        (0.05, 0.12, 0.28, 0.42, 0.55, 0.7, 0.82, 0.95, 1.06),
        (0.24, 0.26, 0.265, 0.26, 0.29, 0.33, 0.335, 0.29, 0.2),
    ),
}


@dataclass(frozen=True)
class Patient:
    """One drawn patient on one film; lengths in film heights, thicknesses in centimetres."""

    build: str
    #: Width over height of the film.
    aspect: float
    #: Film height in centimetres.
    film_cm: float
    centre: float
    top: float
    base: float
    #: Half the width of both lungs together.
    half: float
    #: How much lower the left dome stands, in chest heights.
    left_lower: float
    #: Scale of the heart's outline beyond the spine.
    heart: float
    #: Thickness of the trunk.
    depth_cm: float
    #: How far a rib falls from back to front, in chest heights.
    rib_drop: float
    tilt: float
    breast: float
    #: A unit for bone: 1 in adults, less in children.
    bone: float
    stomach: bool = True

    @property
    def child(self) -> bool:
        """Whether the proportions are a small child's."""
        return self.build == "child"

    def s(self, x: NDArray[np.floating]) -> Map:
        """Return the chest coordinate across of film coordinates."""
        return np.asarray((x - self.centre) / self.half, np.float32)

    def q(self, y: NDArray[np.floating]) -> Map:
        """Return the chest coordinate down of film coordinates."""
        return np.asarray((y - self.top) / (self.base - self.top), np.float32)

    def at(self, s: float, q: float) -> tuple[float, float]:
        """Return the film coordinates of a chest coordinate."""
        return self.centre + s * self.half, self.top + q * (self.base - self.top)

    @property
    def tall(self) -> float:
        """Height of the chest from apex to right dome."""
        return self.base - self.top

    def wall(self, q: NDArray[np.floating] | float) -> Array:
        """Return |s| of the lung's outer edge."""
        return _LATERAL[self.build](q)


def adult(rng: np.random.Generator, female: bool) -> Patient:
    """Return an adult on a portrait film, standing, the picture taken from behind."""
    top = rng.uniform(0.12, 0.165)
    return Patient(
        build="adult",
        aspect=2048 / 2500,
        film_cm=43.0,
        centre=rng.uniform(-0.02, 0.02),
        top=top,
        base=top + rng.uniform(0.44, 0.53),
        half=rng.uniform(0.258, 0.305),
        left_lower=rng.uniform(0.015, 0.04),
        heart=rng.uniform(0.84, 1.06),
        depth_cm=rng.uniform(20, 23),
        rib_drop=rng.uniform(0.36, 0.44),
        tilt=rng.uniform(-0.025, 0.025),
        breast=rng.uniform(0.75, 1.1) if female else 0.0,
        bone=1.0,
        stomach=bool(rng.random() < 0.85),
    )


def child(rng: np.random.Generator) -> Patient:
    """Return a child of about three on a landscape film, lying, the picture taken from in front."""
    top = rng.uniform(0.14, 0.185)
    return Patient(
        build="child",
        aspect=1.25,
        film_cm=21.0,
        centre=rng.uniform(-0.02, 0.02),
        top=top,
        base=top + rng.uniform(0.50, 0.55),
        half=rng.uniform(0.43, 0.495),
        left_lower=rng.uniform(0.0, 0.025),
        heart=rng.uniform(0.76, 0.92),
        depth_cm=rng.uniform(10.4, 11.7),
        rib_drop=rng.uniform(0.36, 0.46),
        tilt=rng.uniform(-0.04, 0.04),
        breast=0.0,
        bone=1.0,
        stomach=bool(rng.random() < 0.8),
    )


def with_large_heart(patient: Patient, scale: float) -> Patient:
    """Return the patient with a heart `scale` times as wide."""
    return replace(patient, heart=patient.heart * scale)


@dataclass(frozen=True)
class Outline:
    """Signed distances (in film heights, positive inside) of the parts of one chest on one canvas."""

    #: To the lungs' edges other than the diaphragm.
    walls: Map
    #: To the domes of the diaphragm, positive above them.
    floor: Map
    heart: Map
    #: s (negative on the patient's right, the picture's left) and q of each pixel.
    s: Map
    q: Map

    @property
    def lungs(self) -> Map:
        """Positive inside either lung above the diaphragm, the part behind the heart included."""
        return np.minimum(self.walls, self.floor)


def outline(canvas: Canvas, patient: Patient) -> Outline:
    """Return where the lungs and the heart of `patient` lie on `canvas`."""
    x = canvas.x + patient.tilt * (canvas.y - 0.5)
    y = canvas.y - patient.tilt * (canvas.x - patient.centre)
    s, q = patient.s(x), patient.q(y)
    across = np.minimum(patient.wall(q) - np.abs(s), np.abs(s) - _MEDIAL(q)) * patient.half
    walls = np.minimum(across, (q + 0.004) * patient.tall)
    floor = (_DOME(np.abs(s)) + np.where(s < 0, 0.0, patient.left_lower) - q) * patient.tall
    left_edge = 0.13 + (_LEFT_HEART[patient.build](q) - 0.13) * patient.heart
    right_edge = 0.13 + (_RIGHT_HEART[patient.build](q) - 0.13) * patient.heart
    middle, reach = (left_edge - right_edge) / 2, (left_edge + right_edge) / 2
    heart = (reach - np.abs(s - middle)) * patient.half
    return Outline(walls.astype(np.float32), floor.astype(np.float32), heart.astype(np.float32), s, q)
