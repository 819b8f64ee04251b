"""Which films a step sees: classes by their shares, sources tempered within each class.

Every batch has a generator of its own, seeded by the recipe's seed, the stage and the step, so that a run
that was killed and resumed sees the films that it would have seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch

from triage.errors import DataError
from triage.learn.augment import Made, augment
from triage.learn.cache import Pictures
from triage.learn.data import Films
from triage.learn.labels import CODE_NOT_FRONTAL, LABELS
from triage.learn.recipe import Class, MadeNegatives, Recipe

Batch = tuple[torch.Tensor, torch.Tensor]
_AHEAD = 6


def chances(films: Films, classes: Mapping[str, Class]) -> npt.NDArray[np.float64]:
    """Return the chance of each film to be drawn, summing to 1; only films of `train` have one.

    Films without a label count as pictures that are not frontal films.

    Raises:
        DataError: a class with a share has no film.
    """
    chance = np.zeros(len(films))
    codes = np.minimum(films.codes, CODE_NOT_FRONTAL)
    for name, wanted in classes.items():
        if not wanted.share:
            continue
        member = (films.splits == "train") & (codes == LABELS.index(name))
        if wanted.sources:
            member &= np.isin(films.sources, wanted.sources)
        if not member.any():
            where = f" from {', '.join(wanted.sources)}" if wanted.sources else ""
            msg = f"The class '{name}' of the recipe has no film{where} in the split 'train' of {films.root}."
            raise DataError(msg)
        _, source, counts = np.unique(films.sources[member], return_inverse=True, return_counts=True)
        weight = counts.astype(np.float64) ** wanted.source_power
        chance[member] = wanted.share * (weight / weight.sum() / counts)[source]
    return chance / chance.sum()


def asked(films: Films, classes: Mapping[str, Class]) -> npt.NDArray[np.bool_]:
    """Return which films, of any split, belong to the classes and sources of a recipe: its own task."""
    codes = np.minimum(films.codes, CODE_NOT_FRONTAL)
    found = np.zeros(len(films), dtype=bool)
    for name, wanted in classes.items():
        if wanted.share:
            here = np.isin(films.sources, wanted.sources) if wanted.sources else True
            found |= (codes == LABELS.index(name)) & here
    return found


class Drawer:
    """Draws augmented batches of a recipe from decoded films."""

    def __init__(self, films: Films, pictures: Pictures, recipe: Recipe) -> None:
        """Raises DataError when a class of the recipe has no film."""
        self.films = films
        self.pictures = pictures
        self.recipe = recipe
        self._chances = [chances(films, stage.classes or recipe.classes) for stage in recipe.stages]

    def batch(self, stage: int, step: int) -> Batch:
        """Return inputs float32 [B, 1, S, S] and label codes int64 [B]; always the same for a step."""
        rng = np.random.default_rng((self.recipe.seed, stage, step))
        here = self.recipe.stages[stage]
        changes, negatives = (
            here.augment or self.recipe.augment,
            here.made_negatives or self.recipe.made_negatives,
        )
        rows = rng.choice(len(self.films), self.recipe.batch, p=self._chances[stage])
        inputs = np.empty((len(rows), 1, here.size, here.size), np.float32)
        codes = np.minimum(self.films.codes[rows], CODE_NOT_FRONTAL)
        for place, row in enumerate(rows):
            made = _made(int(codes[place]), negatives, rng)
            inputs[place, 0] = augment(self.pictures[row], here.size, changes, rng, made)
            if made is not None:
                codes[place] = CODE_NOT_FRONTAL
        return torch.from_numpy(inputs), torch.from_numpy(codes)

    def batches(self, stage: int, first: int, end: int, threads: int) -> Iterator[Batch]:
        """Yield the batches of steps `first` to `end`, made ahead in threads."""
        with ThreadPoolExecutor(threads) as pool:
            waiting: deque[Future[Batch]] = deque()
            for step in range(first, end):
                waiting.append(pool.submit(self.batch, stage, step))
                if len(waiting) >= _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


def _made(code: int, shares: MadeNegatives, rng: np.random.Generator) -> Made | None:
    """Return what a film is turned into, mostly nothing."""
    chance = rng.random()
    if code == CODE_NOT_FRONTAL:
        return Made.INVERTED if chance < shares.others_inverted else None
    for made in Made:
        share = float(getattr(shares, made.value))
        if chance < share:
            return made
        chance -= share
    return None
