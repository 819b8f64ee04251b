"""Films as they might have been: turned, blurred, unevenly exposed, boxed and lettered.

Every change here takes something away that tells the source of a film but not the disease. The changes are
MONAI transforms of pictures [1, H, W] in a MONAI `Compose`; its random numbers are set anew for each film.
At the end the film goes through the preparation that serving uses.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import numpy.typing as npt
from monai.transforms import (
    Compose,
    RandFlip,
    Randomizable,
    RandScaleIntensity,
    ScaleIntensityRange,
    Transform,
)

from triage.assess.prepare import Prepare, ranks
from triage.learn.changes import (
    Boxes,
    Clip,
    Corner,
    Focus,
    Frame,
    Grain,
    Letters,
    LocalContrast,
    Picture,
    Recoded,
    Stretched,
    Uneven,
    Warp,
)
from triage.learn.recipe import Augment, Twins

Grey = npt.NDArray[np.uint8]

# serving runs without MONAI and torch, so the class can't inherit; it keeps what a MONAI transform promises
Transform.register(Prepare)


class Made(StrEnum):
    """What a film may be turned into for the gate to reject."""

    ROTATED = "rotated"
    INVERTED = "inverted"
    CROPPED = "cropped"
    BLANK = "blank"


class Augmenter:
    """Changes films at random to the input of a network; not to be shared by threads."""

    def __init__(self, size: int, settings: Augment) -> None:
        self._changes = changes(size, settings)
        self._prepare = Prepare(size)
        self._size = size

    def __call__(self, film: Grey, seed: int, made: Made | None = None) -> Picture:
        """Return float32 [1, size, size] from a film uint8 [H, H]; the same for the same seed."""
        state = np.random.RandomState(np.random.PCG64(seed))
        if made is Made.BLANK:
            return self._prepare(_blank(self._size, state))
        if made is Made.ROTATED:
            film = np.rot90(film, state.randint(1, 4))
        elif made is Made.CROPPED:
            film = _part(film, state)
        _begin(self._changes, state)
        picture = np.asarray(self._changes(np.array(film[None])), np.float32)[0]
        return self._prepare(1 - picture if made is Made.INVERTED else picture)


class Twin:
    """Makes of a prepared film what it gives as a lossy file, or changed; not to be shared by threads."""

    def __init__(self, size: int, settings: Twins) -> None:
        stretch = (Stretched(settings.stretched),) if settings.stretched else ()
        marks = (Letters(settings.marked), Corner(settings.marked)) if settings.marked else ()
        mirror = RandFlip(prob=0.5, spatial_axis=1)
        self._changes = Compose([Recoded(1.0), *stretch, *marks, mirror], map_items=False)
        self._prepare = Prepare(size)

    def __call__(self, prepared: Picture, seed: int) -> Picture:
        """Return float32 [1, size, size] from such; the same for the same seed."""
        _begin(self._changes, np.random.RandomState(np.random.PCG64((seed, 1))))
        return self._prepare(np.asarray(self._changes(ranks(prepared)), np.float32)[0])


def changes(size: int, settings: Augment) -> Compose:
    """Return the changes of a recipe as one MONAI transform: uint8 [1, H, H] to grey 0..1 [1, size, size].

    What a recipe switches off is not in it. MONAI's own transforms are taken where they say the same; its
    affine one takes twelve times the time of OpenCV's and has no area mean.
    """
    steps: list[Transform] = []
    if settings.flip:
        steps.append(RandFlip(prob=settings.flip, spatial_axis=1))
    how = (settings.rotation, settings.scale, settings.aspect, settings.shear, settings.shift)
    steps.append(Warp(size, *how))
    if settings.blur or settings.rescale or settings.sharpen:
        steps.append(Focus(settings.blur, settings.rescale, settings.sharpen))
    if settings.brightness:
        steps.append(RandScaleIntensity(factors=settings.brightness, prob=1.0))
        steps.append(ScaleIntensityRange(0.0, 1.0, 0.0, 1.0, clip=True))
    marks = (
        Uneven(settings.uneven_strength, settings.uneven),
        Clip(settings.clip),
        Grain(settings.noise),
        LocalContrast(settings.local_contrast),
        Frame(settings.frame),
        Boxes(settings.boxes),
        Letters(settings.letters),
    )
    return Compose([*steps, *(change for change in marks if change.prob)], map_items=False)


def _begin(chain: Compose, state: np.random.RandomState) -> None:
    """Let all transforms of a chain draw from one source."""
    for change in chain.transforms:
        if isinstance(change, Randomizable):
            change.set_random_state(state=state)


def _blank(size: int, state: np.random.RandomState) -> Picture:
    grain = state.normal(0, 0.1, (size, size)) if state.random_sample() < 0.6 else np.zeros((size, size))
    return (state.random_sample() + grain).astype(np.float32)


def _part(film: Grey, state: np.random.RandomState) -> Grey:
    """Return a small part of a film, a third to a sixth of its edge."""
    edge = max(8, int(film.shape[0] / state.uniform(3, 6)))
    top, left = state.randint(0, film.shape[0] - edge + 1, 2)
    return film[top : top + edge, left : left + edge]
