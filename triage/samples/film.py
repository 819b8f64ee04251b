"""From thicknesses to a film: attenuation, scatter, quantum noise, response, collimation and marker."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triage.samples.canvas import Canvas, Map, step
from triage.samples.letters import stencil

#: Rays beyond this share saturate the detector: the air beside the patient is evenly black.
SATURATION = 0.45


@dataclass(frozen=True)
class Exposure:
    """How a film was taken; attenuations are effective ones, per centimetre."""

    mu_water: float
    #: What compact bone adds to the water in its place.
    mu_bone: float

    #: Share of the detected rays that were scattered.
    scatter: float = 0.35
    #: Relative deviation of the noise behind the heart.
    noise: float = 0.012
    #: Steepness of the response.
    contrast: float = 1.0
    #: Sharpening of edges that a digital system adds.
    edge: float = 0.35
    #: Widths of the collimated margins (left, top, right, bottom), in film heights.
    margins: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    #: Letter and place of the side marker, or an empty letter.
    marker: str = "R"
    marker_at: tuple[float, float] = (0.05, 0.1)


def expose(canvas: Canvas, water_cm: Map, bone_cm: Map, how: Exposure, rng: np.random.Generator) -> Map:
    """Return the film, 0 black to 1 white, of what lies in the beam."""
    path = how.mu_water * np.maximum(water_cm, 0) + how.mu_bone * bone_cm
    primary = np.exp(-np.minimum(path, 9.0)).astype(np.float32)
    scattered = canvas.blur(np.minimum(primary, 0.25), 0.05)
    rays = (1 - how.scatter) * primary + how.scatter * scattered * 0.55
    rays *= 1 + how.noise * np.sqrt(0.02 / np.maximum(rays, 1e-4)).clip(0.1, 3) * rng.standard_normal(
        rays.shape, np.float32
    )
    dense = -np.log(np.clip(rays, 1e-5, SATURATION))
    dense += np.float32(1.2 * how.noise) * canvas.noise(rng, 0.0035)
    dense += (
        0.55 * (dense - canvas.blur(dense, 0.018))
        + how.edge * (dense - canvas.blur(dense, 0.006))
        + 0.25 * (dense - canvas.blur(dense, 0.06))
    )
    dense = np.maximum(dense, -np.log(SATURATION))
    low, high = np.percentile(dense[::4, ::4], (1.0, 99.5))
    t = (dense - low) / (high - low)
    film = 1 / (1 + np.exp(-4.5 * how.contrast * (t - 0.52)))
    film = (film - film.min()) / (film.max() - film.min())
    return _marked(canvas, _collimated(canvas, film.astype(np.float32), how), how)


def _collimated(canvas: Canvas, film: Map, how: Exposure) -> Map:
    left, top, right, bottom = how.margins
    if not any(how.margins):
        return film
    x = canvas.x + canvas.aspect / 2
    edge = np.minimum(
        np.minimum(x - left, canvas.aspect - right - x), np.minimum(canvas.y - top, 1 - bottom - canvas.y)
    )
    return film * step(edge, 0.004)


def _marked(canvas: Canvas, film: Map, how: Exposure) -> Map:
    """Return the film with its side letter in white."""
    if not how.marker:
        return film
    lead = stencil(canvas, how.marker, how.marker_at, 0.0052)
    return np.asarray(np.maximum(film, lead * 0.97), np.float32)
