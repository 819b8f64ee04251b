"""Which films a step sees: classes by their shares, sources tempered within each class.

Every batch has a generator of its own, seeded by the recipe's seed, the stage and the step, so that a run
that was killed and resumed sees the films that it would have seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from triage.errors import DataError
from triage.learn.augment import Made, augment
from triage.learn.cache import Pictures
from triage.learn.data import Films
from triage.learn.labels import CODE_NOT_FRONTAL, LABELS
from triage.learn.recipe import MadeNegatives, Recipe

Batch = tuple[torch.Tensor, torch.Tensor]
_AHEAD = 6


def chances(films: Films, recipe: Recipe) -> npt.NDArray[np.float64]:
    """Return the chance of each film to be drawn, summing to 1; only films of `train` have one.

    Films without a label count as pictures that are not frontal films.

    Raises:
        DataError: a class with a share has no film.
    """
    chance = np.zeros(len(films))
    codes = np.minimum(films.codes, CODE_NOT_FRONTAL)
    for name, wanted in recipe.classes.items():
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


@dataclass(frozen=True)
class Drawer:
    """Draws augmented batches of a recipe from decoded films."""

    films: Films
    pictures: Pictures
    recipe: Recipe
    chance: npt.NDArray[np.float64]

    def batch(self, stage: int, step: int) -> Batch:
        """Return inputs float32 [B, 1, S, S] and label codes int64 [B]; always the same for a step."""
        rng = np.random.default_rng((self.recipe.seed, stage, step))
        size = self.recipe.stages[stage].size
        rows = rng.choice(len(self.films), self.recipe.batch, p=self.chance)
        inputs = np.empty((len(rows), 1, size, size), np.float32)
        codes = np.minimum(self.films.codes[rows], CODE_NOT_FRONTAL)
        for place, row in enumerate(rows):
            made = _made(int(codes[place]), self.recipe.made_negatives, rng)
            inputs[place, 0] = augment(self.pictures[row], size, self.recipe.augment, rng, made)
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
