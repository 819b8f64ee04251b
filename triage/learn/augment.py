"""Films as they might have been: turned, blurred, unevenly exposed, boxed and lettered.

Every change here takes something away that tells the source of a film but not the disease. The film is
drawn at the stage's size and then goes through the equalisation that serving uses.
"""

from __future__ import annotations

import math
from enum import StrEnum

import cv2
import numpy as np
import numpy.typing as npt

from triage.assess.prepare import centre, equalise
from triage.learn.recipe import Augment

Grey = npt.NDArray[np.uint8]
Picture = npt.NDArray[np.float32]
Random = np.random.Generator


class Made(StrEnum):
    """What a film may be turned into for the gate to reject."""

    ROTATED = "rotated"
    INVERTED = "inverted"
    CROPPED = "cropped"
    BLANK = "blank"


def augment(film: Grey, size: int, settings: Augment, rng: Random, made: Made | None = None) -> Picture:
    """Return a network's input float32 [size, size] from a film uint8 [H, H], changed at random."""
    if made is Made.BLANK:
        return _finish(_blank(size, rng))
    picture = _warp(film, size, settings, rng, made)
    picture = _focus(picture, settings, rng)
    picture = _expose(picture, settings, rng)
    picture = _mark(picture, settings, rng)
    return _finish(1 - picture if made is Made.INVERTED else picture)


def _finish(picture: Picture) -> Picture:
    return centre(equalise(np.ascontiguousarray(picture, dtype=np.float32)))


def _blank(size: int, rng: Random) -> Picture:
    grain = rng.normal(0, 0.1, (size, size)) if rng.random() < 0.6 else np.zeros((size, size))
    return (rng.random() + grain).astype(np.float32)


def _warp(film: Grey, size: int, settings: Augment, rng: Random, made: Made | None) -> Picture:
    """Return the film turned, stretched, sheared, shifted and flipped, at the stage's size, grey 0..1."""
    edge = film.shape[0]
    angle = rng.uniform(-settings.rotation, settings.rotation)
    if made is Made.ROTATED:
        angle += float(rng.choice([90, 180, 270]))
    turn = math.radians(angle)
    wide, high = np.exp(rng.uniform(-settings.scale, settings.scale, 2))
    shear = rng.uniform(-settings.shear, settings.shear)
    matrix = np.array(
        [
            [math.cos(turn) * wide, -math.sin(turn) * high + shear],
            [math.sin(turn) * wide, math.cos(turn) * high],
        ]
    )
    if rng.random() < settings.flip:
        matrix[:, 0] *= -1
    cropped = made is Made.CROPPED
    zoom = rng.uniform(3, 6) if cropped else 1.0
    reach = 1.2 if cropped else settings.shift
    matrix *= zoom * size / edge
    middle = np.full(2, (edge - 1) / 2)
    move = np.full(2, (size - 1) / 2) + rng.uniform(-reach, reach, 2) * size - matrix @ middle
    if size < 0.8 * edge and not cropped:
        # warping samples points: take the finest detail away first, as an area mean would
        film = cv2.GaussianBlur(film, (0, 0), max(0.4, 0.45 * edge / size)).astype(np.uint8)
    outside = cv2.BORDER_CONSTANT if rng.random() < 0.7 else cv2.BORDER_REPLICATE
    warped = cv2.warpAffine(
        film,
        np.column_stack([matrix, move]),
        (size, size),
        flags=cv2.INTER_LINEAR,
        borderMode=outside,
        borderValue=float(rng.choice([0, 0, 0, 255, 128])),
    )
    return (warped / np.float32(255)).astype(np.float32)


def _focus(picture: Picture, settings: Augment, rng: Random) -> Picture:
    """Return the picture blurred, coarsened, sharpened or as it is: resolution differs by source."""
    size = picture.shape[0]
    chance = rng.random()
    if chance < settings.blur:
        return np.asarray(cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 1.3)), np.float32)
    chance -= settings.blur
    if chance < settings.rescale:
        small = max(8, int(size * rng.uniform(0.4, 0.9)))
        coarse = cv2.resize(picture, (small, small), interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_LINEAR), np.float32)
    chance -= settings.rescale
    if chance < settings.sharpen:
        soft = cv2.GaussianBlur(picture, (0, 0), rng.uniform(1, 4))
        return np.clip(picture + np.float32(rng.uniform(0.2, 1.2)) * (picture - soft), 0, 1)
    return picture


def _expose(picture: Picture, settings: Augment, rng: Random) -> Picture:
    """Return the picture unevenly lit, clipped, grainy or locally equalised: what survives equalisation."""
    size = picture.shape[0]
    if rng.random() < settings.uneven:
        strength = settings.uneven_strength
        field = rng.uniform(-strength, strength, (3, 3)).astype(np.float32)
        picture = picture + cv2.resize(field, (size, size), interpolation=cv2.INTER_CUBIC)
    if rng.random() < settings.clip:
        picture = np.clip(picture, rng.uniform(0, 0.12), rng.uniform(0.85, 1.0))
    if rng.random() < settings.noise:
        grain = rng.normal(0, rng.uniform(0.003, 0.025), picture.shape)
        picture = picture + grain.astype(np.float32)
    if rng.random() < settings.local_contrast:
        tiles = int(rng.integers(2, 9))
        grey = (np.clip(picture, 0, 1) * 255).astype(np.uint8)
        picture = cv2.createCLAHE(rng.uniform(1, 4), (tiles, tiles)).apply(grey) / np.float32(255)
    return np.asarray(picture, np.float32)


def _mark(picture: Picture, settings: Augment, rng: Random) -> Picture:
    """Return the picture with a frame, boxes and letters as people put them on films."""
    size = picture.shape[0]
    picture = picture.copy()
    if rng.random() < settings.frame:
        _frame(picture, rng)
    if rng.random() < settings.boxes:
        for _ in range(int(rng.integers(1, 4))):
            high, wide = int(size * rng.uniform(0.03, 0.16)), int(size * rng.uniform(0.05, 0.35))
            top, left = int(rng.integers(0, size - high)), int(rng.integers(0, size - wide))
            picture[top : top + high, left : left + wide] = rng.choice([0.0, 1.0, 1.0, rng.random()])
    if rng.random() < settings.letters:
        text = "".join(rng.choice(list("RLPADEX125 "), int(rng.integers(1, 6))))
        at = (int(rng.uniform(0, 0.9) * size), int(rng.uniform(0.08, 1) * size))
        ink = np.zeros((size, size), np.uint8)
        scale, thick = rng.uniform(0.2, 0.9) * size / 128, int(rng.integers(1, 3))
        cv2.putText(ink, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, thick)
        picture[ink > 127] = rng.choice([1.0, 1.0, 0.0])
    return picture


def _frame(picture: Picture, rng: Random) -> None:
    """Paint over some sides, as a collimator or a scanner's edge would."""
    value = rng.choice([0.0, 0.0, 1.0, rng.random()])
    for side in (picture, picture[::-1], picture.T, picture.T[::-1]):
        if rng.random() < 0.5:
            side[: int(rng.uniform(0, 0.11) * picture.shape[0])] = value
