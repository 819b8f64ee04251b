"""What may happen to a film, each as a MONAI transform of a picture float32 [1, S, S] of grey 0..1.

They are drawn with OpenCV: ten times as fast as with tensors, and films are changed on the processor while
the network learns there too.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from monai.transforms import Randomizable, RandomizableTransform, Transform

from triage.errors import TrainingFailed

Picture = npt.NDArray[np.float32]

#: A film larger than the target by this much is smoothed before points of it are taken.
_FINER = 0.8


def _grey(picture: Any) -> Picture:
    """Return the only channel of an array or tensor [1, H, W]."""
    return np.asarray(picture, np.float32)[0]


class Warp(Randomizable, Transform):
    """Turns, stretches, shears and shifts a film uint8 [1, H, H] to grey 0..1 [1, size, size]."""

    def __init__(  # one float for each of what a recipe sets
        self, size: int, rotation: float, scale: float, aspect: float, shear: float, shift: float
    ) -> None:
        """`rotation` in degrees, `scale` and `aspect` logarithms, `shift` a share of the edge."""
        self._size = size
        self._rotation, self._scale, self._aspect = rotation, scale, aspect
        self._shear, self._shift = shear, shift

    def __call__(self, data: Any) -> Picture:
        """Return the film as it lies now."""
        film = np.asarray(data, np.uint8)[0]
        edge, size = film.shape[0], self._size
        matrix = self._matrix() * size / edge
        middle = np.full(2, (edge - 1) / 2)
        aim = np.full(2, (size - 1) / 2) + self.R.uniform(-self._shift, self._shift, 2) * size
        if size < _FINER * edge:
            # warping samples points: take the finest detail away first, as an area mean would
            film = np.asarray(cv2.GaussianBlur(film, (0, 0), max(0.4, 0.45 * edge / size)), np.uint8)
        outside = cv2.BORDER_CONSTANT if self.R.random_sample() < 0.7 else cv2.BORDER_REPLICATE
        warped = cv2.warpAffine(
            film,
            np.column_stack([matrix, aim - matrix @ middle]),
            (size, size),
            flags=cv2.INTER_LINEAR,
            borderMode=outside,
            borderValue=float(self.R.choice([0, 0, 0, 255, 128])),
        )
        return (warped / np.float32(255)).astype(np.float32)[None]

    def _matrix(self) -> npt.NDArray[np.float64]:
        turn = math.radians(self.R.uniform(-self._rotation, self._rotation))
        wide, high = np.exp(self.R.uniform(-self._scale, self._scale, 2) + self._stretch())
        shear = self.R.uniform(-self._shear, self._shear)
        return np.array(
            [
                [math.cos(turn) * wide, -math.sin(turn) * high + shear],
                [math.sin(turn) * wide, math.cos(turn) * high],
            ]
        )

    def _stretch(self) -> tuple[float, float]:
        """Return how much wider and higher, as logarithms: a part of the change crops, the rest leaves room.

        The parts differ each time, or the room beside a film would tell how it was stretched.
        """
        if not self._aspect:
            return 0.0, 0.0
        ratio, part = self.R.uniform(-self._aspect, self._aspect), self.R.random_sample()
        return ratio * part, ratio * (part - 1)


class _Sometimes(RandomizableTransform):
    """A change that happens to a share of the films."""

    def __init__(self, share: float) -> None:
        super().__init__(prob=share)

    def __call__(self, data: Any) -> Any:
        """Return the picture changed, or as it is."""
        self.randomize(None)
        return self._changed(_grey(data))[None] if self._do_transform else data

    def _changed(self, picture: Picture) -> Picture:
        """Return the changed picture [S, S]; it may be the given one, painted over."""
        raise NotImplementedError


class Focus(_Sometimes):
    """Blurs, coarsens, or makes detail stronger or weaker, one at most: resolution differs by source."""

    def __init__(self, blur: float, rescale: float, sharpen: float) -> None:
        super().__init__(min(1.0, blur + rescale + sharpen))
        self._blur, self._rescale, self._all = blur, rescale, blur + rescale + sharpen

    def _changed(self, picture: Picture) -> Picture:
        which = self.R.random_sample() * self._all
        size = picture.shape[0]
        if which < self._blur:
            return np.asarray(cv2.GaussianBlur(picture, (0, 0), self.R.uniform(0.3, 1.3)), np.float32)
        if which < self._blur + self._rescale:
            small = max(8, int(size * self.R.uniform(0.4, 0.9)))
            coarse = cv2.resize(picture, (small, small), interpolation=cv2.INTER_AREA)
            return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_LINEAR), np.float32)
        soft = cv2.GaussianBlur(picture, (0, 0), self.R.uniform(1, 4))
        return np.clip(picture + np.float32(self.R.uniform(-0.6, 1.2)) * (picture - soft), 0, 1)


class Uneven(_Sometimes):
    """Lights the film unevenly by a smooth field of grey: what equalisation does not undo."""

    def __init__(self, strength: float, share: float) -> None:
        super().__init__(share)
        self._strength = strength

    def _changed(self, picture: Picture) -> Picture:
        field = self.R.uniform(-self._strength, self._strength, (3, 3)).astype(np.float32)
        return picture + cv2.resize(field, picture.shape, interpolation=cv2.INTER_CUBIC)


class Clip(_Sometimes):
    """Loses what lies below or above a window."""

    def _changed(self, picture: Picture) -> Picture:
        return np.clip(picture, self.R.uniform(0, 0.12), self.R.uniform(0.85, 1.0)).astype(np.float32)


class Grain(_Sometimes):
    """Adds the noise of a detector."""

    def _changed(self, picture: Picture) -> Picture:
        return picture + self.R.normal(0, self.R.uniform(0.003, 0.025), picture.shape).astype(np.float32)


class LocalContrast(_Sometimes):
    """Equalises locally, as some publishers of films do."""

    def _changed(self, picture: Picture) -> Picture:
        strength, tiles = self.R.uniform(1, 4), int(self.R.randint(2, 9))
        grey = (np.clip(picture, 0, 1) * 255).astype(np.uint8)
        return np.asarray(cv2.createCLAHE(strength, (tiles, tiles)).apply(grey) / np.float32(255), np.float32)


class Stretched(_Sometimes):
    """Shows a film higher or wider and cut, or smaller, as if it had been taken otherwise."""

    def _changed(self, picture: Picture) -> Picture:
        wide, high = np.exp(self.R.uniform(-0.12, 0.25, 2))
        middle, size = (picture.shape[0] - 1) / 2, picture.shape
        matrix = np.array([[wide, 0, middle * (1 - wide)], [0, high, middle * (1 - high)]])
        return np.asarray(cv2.warpAffine(picture, matrix, size), np.float32)


class Recoded(_Sometimes):
    """Writes a film as a lossy JPEG or JPEG 2000 file and reads it, or adds as much noise."""

    def _changed(self, picture: Picture) -> Picture:
        which, size = self.R.random_sample(), picture.shape[0]
        # files are larger than what is learnt from: compression hurts less after the reduction
        edge = int(size * self.R.uniform(1, 2))
        grey = (np.clip(cv2.resize(picture, (edge, edge)), 0, 1) * 255).astype(np.uint8)
        if which < 0.4:
            grey = reread(grey, ".jpg", cv2.IMWRITE_JPEG_QUALITY, self.R.randint(60, 97))
        elif which < 0.8:
            grey = reread(grey, ".jp2", cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, self.R.randint(60, 260))
        else:
            noise = self.R.normal(0, self.R.uniform(1, 5), grey.shape)
            grey = np.clip(grey + noise, 0, 255).astype(np.uint8)
        read = grey.astype(np.float32) / np.float32(255)
        return np.asarray(cv2.resize(read, (size, size), interpolation=cv2.INTER_AREA), np.float32)


def reread(grey: npt.NDArray[np.uint8], suffix: str, option: int, value: int) -> npt.NDArray[np.uint8]:
    """Return a picture uint8 [H, W] as a file of that kind, written with one option, gives it back."""
    written, file = cv2.imencode(suffix, grey, [option, int(value)])
    if not written:
        msg = f"OpenCV can't write {suffix} here; install opencv-python-headless."
        raise TrainingFailed(msg)
    return np.asarray(cv2.imdecode(file, cv2.IMREAD_GRAYSCALE), np.uint8)


class Frame(_Sometimes):
    """Paints over some sides, as a collimator or a scanner's edge would."""

    def _changed(self, picture: Picture) -> Picture:
        picture = picture.copy()
        value = self.R.choice([0.0, 0.0, 1.0, self.R.random_sample()])
        for side in (picture, picture[::-1], picture.T, picture.T[::-1]):
            if self.R.random_sample() < 0.5:
                side[: int(self.R.uniform(0, 0.11) * picture.shape[0])] = value
        return picture


class Boxes(_Sometimes):
    """Covers one to three places with boxes, as people cover names."""

    def _changed(self, picture: Picture) -> Picture:
        picture, size = picture.copy(), picture.shape[0]
        for _ in range(self.R.randint(1, 4)):
            high, wide = int(size * self.R.uniform(0.03, 0.16)), int(size * self.R.uniform(0.05, 0.35))
            top, left = self.R.randint(0, size - high), self.R.randint(0, size - wide)
            grey = self.R.choice([0.0, 1.0, 1.0, self.R.random_sample()])
            picture[top : top + high, left : left + wide] = grey
        return picture


class Corner(_Sometimes):
    """Paints one or two small patches into a corner, as a tag, a sticker or a print of a name leaves them."""

    def _changed(self, picture: Picture) -> Picture:
        picture = picture.copy()
        # the same array, seen from a corner drawn at random
        seen = picture[:: self.R.choice([1, -1]), :: self.R.choice([1, -1])]
        size, at = picture.shape[0], int(self.R.uniform(0, 0.04) * picture.shape[0])
        for grey in self.R.choice([0.0, 1.0, self.R.random_sample()], self.R.randint(1, 3)):
            high, wide = (max(1, int(size * self.R.uniform(0.01, 0.08))) for _ in range(2))
            seen[at : at + high, at : at + wide] = grey
            at += wide
        return picture


class Letters(_Sometimes):
    """Writes a few letters, as markers of side, view and room do."""

    def _changed(self, picture: Picture) -> Picture:
        picture, size = picture.copy(), picture.shape[0]
        text = "".join(self.R.choice(list("RLPADEX125 "), self.R.randint(1, 6)))
        at = (int(self.R.uniform(0, 0.9) * size), int(self.R.uniform(0.08, 1) * size))
        ink = np.zeros((size, size), np.uint8)
        scale, thick = self.R.uniform(0.2, 0.9) * size / 128, int(self.R.randint(1, 3))
        cv2.putText(ink, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, thick)
        picture[ink > 127] = self.R.choice([1.0, 1.0, 0.0])
        return picture
