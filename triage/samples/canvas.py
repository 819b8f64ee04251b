"""The sheet on which sample films are drawn: coordinates, curves, projected tubes, blur and noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import PchipInterpolator

Map = NDArray[np.float32]
Array = NDArray[np.float64]

_CURVE_POINTS = 1024


class Curve:
    """A smooth monotone-between-knots function that is constant outside its knots."""

    def __init__(self, at: Sequence[float], value: Sequence[float]) -> None:
        self._grid = np.linspace(at[0], at[-1], _CURVE_POINTS)
        self._value = PchipInterpolator(at, value)(self._grid)

    def __call__(self, where: NDArray[np.floating] | float) -> Array:
        """Return the values at `where`, in its shape."""
        return np.asarray(np.interp(where, self._grid, self._value))


class Canvas:
    """A sheet of `height` x `width` pixels whose unit of length is its height; x is 0 in the middle.

    Thicknesses drawn on it are in the same unit, so that a ball is as thick as it is wide.
    """

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.aspect = width / height
        self.y = ((np.arange(height, dtype=np.float32) + 0.5) / height)[:, None]
        self.x = ((np.arange(width, dtype=np.float32) + 0.5) / height - self.aspect / 2)[None, :]

    def zeros(self) -> Map:
        """Return an empty sheet."""
        return np.zeros((self.height, self.width), np.float32)

    def splat(self, x: Array, y: Array, weight: Array) -> Map:
        """Return the sheet after dropping points of `weight` (unit: volume) on it, as thickness."""
        column = ((x + self.aspect / 2) * self.height).astype(np.int64)
        row = (y * self.height).astype(np.int64)
        inside = (column >= 0) & (column < self.width) & (row >= 0) & (row < self.height)
        where = np.where(inside, row * self.width + column, 0)
        sheet = np.bincount(where, np.where(inside, weight, 0.0), self.height * self.width)
        return (sheet * self.height**2).astype(np.float32).reshape(self.height, self.width)

    def blur(self, sheet: Map, sigma: float) -> Map:
        """Return `sheet` smoothed by a Gaussian of `sigma` (in heights)."""
        pixels = sigma * self.height
        step = int(min(max(1, pixels // 4), 32))
        if step == 1:
            return np.asarray(
                ndimage.gaussian_filter(sheet, pixels, mode="nearest", truncate=3.0), np.float32
            )
        small = shrink(sheet, step)
        small = ndimage.gaussian_filter(small, pixels / step, mode="nearest", truncate=3.0)
        return enlarge(small, self.height, self.width)

    def noise(self, rng: np.random.Generator, grain: float, stretch: float = 1.0) -> Map:
        """Return smooth noise of mean 0 and deviation 1, its spots `grain` wide, `stretch` times as tall."""
        rows = max(3, int(1.0 / (grain * stretch)) + 2)
        columns = max(3, int(self.aspect / grain) + 2)
        rows, columns = min(rows, self.height), min(columns, self.width)
        coarse = ndimage.gaussian_filter(rng.standard_normal((rows, columns)).astype(np.float32), 0.7)
        sheet = enlarge(coarse, self.height, self.width)
        return np.asarray((sheet - sheet.mean()) / (sheet.std() + 1e-6), np.float32)

    def turbulence(self, rng: np.random.Generator, coarse: float, octaves: int) -> Map:
        """Return noise of several grains, each half as wide and .6 times as strong as the one before."""
        total = self.zeros()
        for octave in range(octaves):
            total += np.float32(0.6**octave) * self.noise(rng, coarse / 2**octave)
        return np.asarray(total / total.std(), np.float32)

    def bend(self, rng: np.random.Generator, reach: float, grain: float, *sheets: Map) -> list[Map]:
        """Return `sheets` displaced alike by about `reach`, smoothly over `grain`: no line is ruled."""
        rows, columns = np.meshgrid(np.arange(self.height), np.arange(self.width), indexing="ij", sparse=True)
        pixels = np.float32(reach / 2 * self.height)
        where = [
            (rows + pixels * self.noise(rng, grain)).astype(np.float32),
            (columns + pixels * self.noise(rng, grain)).astype(np.float32),
        ]
        return [ndimage.map_coordinates(s, where, order=1, mode="nearest") for s in sheets]

    def capsule(self, start: tuple[float, float], end: tuple[float, float], radius: float) -> Map:
        """Return the thickness of a round-ended cylinder of `radius` lying in the plane of the film."""
        (x0, y0), (x1, y1) = start, end
        along_x, along_y = x1 - x0, y1 - y0
        squared = along_x**2 + along_y**2
        t = np.clip(((self.x - x0) * along_x + (self.y - y0) * along_y) / squared, 0, 1)
        away = (self.x - x0 - t * along_x) ** 2 + (self.y - y0 - t * along_y) ** 2
        return (2 * np.sqrt(np.maximum(radius**2 - away, 0))).astype(np.float32)

    def ellipsoid(
        self, centre: tuple[float, float], half: tuple[float, float], depth: float, turn: float = 0.0
    ) -> Map:
        """Return the thickness of an ellipsoid with half axes `half`, turned by `turn` rad."""
        dx, dy = self.x - centre[0], self.y - centre[1]
        u = (dx * np.cos(turn) + dy * np.sin(turn)) / half[0]
        v = (dy * np.cos(turn) - dx * np.sin(turn)) / half[1]
        return np.asarray((depth * np.sqrt(np.maximum(1 - u**2 - v**2, 0))), np.float32)


def shrink(sheet: Map, step: int) -> Map:
    """Return the means of `step` x `step` blocks; the last rows and columns are repeated to fill a block."""
    down, right = -sheet.shape[0] % step, -sheet.shape[1] % step
    whole = np.pad(sheet, ((0, down), (0, right)), mode="edge")
    return np.asarray(whole.reshape(whole.shape[0] // step, step, -1, step).mean(axis=(1, 3)), np.float32)


def enlarge(sheet: Map, height: int, width: int) -> Map:
    """Return `sheet` interpolated to `height` x `width`, pixel areas kept in place."""
    rows = (np.arange(height) + 0.5) * sheet.shape[0] / height - 0.5
    columns = (np.arange(width) + 0.5) * sheet.shape[1] / width - 0.5
    return _interpolate(_interpolate(sheet, rows).T, columns).T


def _interpolate(sheet: Map, where: Array) -> Map:
    """Return rows of `sheet` at fractional positions by cubic convolution (Catmull-Rom)."""
    base = np.floor(where).astype(np.int64)
    t = (where - base).astype(np.float32)[:, None]
    last = sheet.shape[0] - 1
    weights = (
        ((-0.5 * t + 1.0) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1.0,
        ((-1.5 * t + 2.0) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    )
    total = np.zeros((len(where), sheet.shape[1]), np.float32)
    for offset, weight in zip((-1, 0, 1, 2), weights, strict=True):
        total += weight * sheet[np.clip(base + offset, 0, last)]
    return total


def step(sheet: NDArray[np.floating], soft: float) -> Map:
    """Return 0 below, 1 above zero, with an edge `soft` wide."""
    t = np.clip(sheet / soft + 0.5, 0, 1)
    return np.asarray((t * t * (3 - 2 * t)), np.float32)


def tube_points(
    path: Array, radius: Array, rng: np.random.Generator, spacing: float, across: int
) -> tuple[Array, Array, Array]:
    """Return points that fill a tube along `path` [N, 3] with `radius` [N], and the volume each stands for.

    Points are at most `spacing` apart along the path; `across` of them fill a cross-section.
    """
    leg = np.diff(path, axis=0)
    length = np.linalg.norm(leg, axis=1)
    count = np.maximum(1, np.ceil(length / spacing)).astype(int)
    which = np.repeat(np.arange(len(leg)), count)
    t = (np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + 0.5) / count[which]
    centre = path[which] + leg[which] * t[:, None]
    r = radius[which] + (radius[which + 1] - radius[which]) * t
    normal = np.stack([-leg[:, 1], leg[:, 0]], 1) / np.maximum(np.hypot(leg[:, 0], leg[:, 1]), 1e-9)[:, None]
    offset = (np.arange(across) + rng.random((len(r), across))) / across * 2 - 1
    x = centre[:, :1] + normal[which, :1] * r[:, None] * offset
    y = centre[:, 1:2] + normal[which, 1:] * r[:, None] * offset
    share = np.sqrt(1 - offset**2)
    share /= share.sum(1, keepdims=True)
    volume = (length / count)[which] * np.pi * r**2
    return x.ravel(), y.ravel(), (share * volume[:, None]).ravel()
