"""Which films a step sees: classes by their shares, sources tempered within each class.

Every batch has a generator of its own, seeded by the recipe's seed, the stage and the step, and every film
of it a seed of its own. So a run that was killed and resumed sees the films that it would have seen, changed
as they would have been, and the processes of a team see the parts of one batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from triage.assess.prepare import Prepare
from triage.errors import DataError
from triage.learn.augment import Augmenter, Made, Twin
from triage.learn.cache import Pictures
from triage.learn.data import LEFT_OUT, Films
from triage.learn.labels import CODE_NOT_FRONTAL, LABELS
from triage.learn.recipe import Class, MadeNegatives, Recipe

_AHEAD = 6


class Batch(NamedTuple):
    """Films for a step: inputs float32 [B, 1, S, S], label codes int64 [B], and a view for each teacher.

    A view is float32 [B, 1, E, E], of its teacher's edge. The first films have twins float32 [T, 1, S, S].
    """

    inputs: torch.Tensor
    codes: torch.Tensor
    views: tuple[torch.Tensor, ...]
    twins: torch.Tensor


def chances(films: Films, classes: Mapping[str, Class]) -> npt.NDArray[np.float64]:
    """Return the chance of each film to be drawn, summing to 1; only films of `train` have one.

    Films without a label count as pictures that are not frontal films. A class whose every film was left out
    on purpose has none either.

    Raises:
        DataError: a class with a share has no film, or names a source that the set has not.
    """
    chance = np.zeros(len(films))
    codes = np.minimum(films.codes, CODE_NOT_FRONTAL)
    for name, wanted in classes.items():
        if not wanted.share:
            continue
        member = (films.splits == "train") & (codes == LABELS.index(name))
        if wanted.sources:
            _refuse_unknown(films, name, wanted)
            member &= np.isin(films.sources, list(wanted.sources))
        if not member.any() and ((codes == LABELS.index(name)) & (films.splits == LEFT_OUT)).any():
            continue
        if not member.any():
            where = f" from {', '.join(wanted.sources)}" if wanted.sources else ""
            msg = f"The class '{name}' of the recipe has no film{where} in the split 'train' of {films.root}."
            raise DataError(msg)
        member = _few(member, wanted.at_most)
        names, source, counts = np.unique(films.sources[member], return_inverse=True, return_counts=True)
        if isinstance(wanted.sources, dict):
            weight = np.array([wanted.sources[name] for name in names])
        else:
            weight = counts.astype(np.float64) ** wanted.source_power
        chance[member] = wanted.share * (weight / weight.sum() / counts)[source]
    return chance / chance.sum()


def _refuse_unknown(films: Films, name: str, wanted: Class) -> None:
    """Stop at a misspelt source, which would else be learnt from no more without a word."""
    unknown = [source for source in wanted.sources if source not in films.sources]
    if unknown:
        known = ", ".join(np.unique(films.sources))
        msg = (
            f"The class '{name}' of the recipe names the source '{unknown[0]}', of which {films.root} has no "
            f"film; it has: {known}."
        )
        raise DataError(msg)


def _few(member: npt.NDArray[np.bool_], at_most: int) -> npt.NDArray[np.bool_]:
    """Return the films that are learnt from, all of them or as many as asked for, the same each time."""
    rows = np.flatnonzero(member)
    if not at_most or len(rows) <= at_most:
        return member
    few = np.zeros_like(member)
    few[np.random.default_rng(0).permutation(rows)[:at_most]] = True
    return few


def asked(films: Films, classes: Mapping[str, Class]) -> npt.NDArray[np.bool_]:
    """Return which films, of any split, belong to the classes and sources of a recipe: its own task."""
    codes = np.minimum(films.codes, CODE_NOT_FRONTAL)
    found = np.zeros(len(films), dtype=bool)
    for name, wanted in classes.items():
        if wanted.share:
            here = np.isin(films.sources, list(wanted.sources)) if wanted.sources else True
            found |= (codes == LABELS.index(name)) & here
    return found


class Drawer:
    """Draws augmented batches of a recipe from decoded films."""

    def __init__(self, films: Films, pictures: Pictures, recipe: Recipe) -> None:
        """Raises DataError when a class of the recipe has no film."""
        self.films = films
        self.pictures = pictures
        self.recipe = recipe
        self._chances = [chances(films, recipe.classes_of(stage)) for stage in recipe.stages]

    def batch(self, stage: int, step: int, rank: int = 0, of: int = 1) -> Batch:
        """Return a process's part of a step, every `of`-th film from `rank` on; always the same.

        Each film is changed once, at the largest edge among the stage and its teachers.
        """
        rng = np.random.default_rng((self.recipe.seed, stage, step))
        here = self.recipe.stages[stage]
        distil = self.recipe.distil_of(here)
        sizes = [teacher.size for teacher in distil.teachers] if distil else []
        edge = max([here.size, *sizes])
        negatives = self.recipe.made_negatives_of(here)
        change = Augmenter(edge, self.recipe.augment_of(here))
        rows = rng.choice(len(self.films), self.recipe.batch, p=self._chances[stage])
        seeds, luck = rng.integers(0, 2**63, len(rows)), rng.random(len(rows))
        mine = range(rank, len(rows), of)
        codes = np.minimum(self.films.codes[rows[mine]], CODE_NOT_FRONTAL)
        changed = np.empty((len(mine), 1, edge, edge), np.float32)
        for place, index in enumerate(mine):
            made = _made(int(codes[place]), negatives, float(luck[index]))
            changed[place] = change(self.pictures[rows[index]], int(seeds[index]), made)
            if made is not None:
                codes[place] = CODE_NOT_FRONTAL
        seen = {size: _reduced(changed, size) for size in {here.size, *sizes}}
        inputs = seen[here.size]
        twin, count = Twin(here.size, here.twins), round(here.twins.share * len(mine))
        twins = np.empty((count, *inputs.shape[1:]), np.float32)
        for place in range(count):
            twins[place] = twin(inputs[place], int(seeds[mine[place]]))
        views = tuple(torch.from_numpy(seen[size]) for size in sizes)
        return Batch(torch.from_numpy(inputs), torch.from_numpy(codes), views, torch.from_numpy(twins))

    def batches(
        self, stage: int, first: int, end: int, threads: int, rank: int = 0, of: int = 1
    ) -> Iterator[Batch]:
        """Yield the parts of the steps `first` to `end`, made ahead in threads."""
        with ThreadPoolExecutor(threads) as pool:
            waiting: deque[Future[Batch]] = deque()
            try:
                for step in range(first, end):
                    waiting.append(pool.submit(self.batch, stage, step, rank, of))
                    if len(waiting) >= _AHEAD:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()


def _reduced(changed: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.float32]:
    """Return changed films at an edge and equalised again; those that have that edge as they are."""
    if changed.shape[-1] == size:
        return changed
    reduce = Prepare(size)
    return np.stack([reduce(film) for film in changed])


def _made(code: int, shares: MadeNegatives, chance: float) -> Made | None:
    """Return what a film is turned into by a chance of 0..1, mostly nothing."""
    if code == CODE_NOT_FRONTAL:
        return Made.INVERTED if chance < shares.others_inverted else None
    for made in Made:
        share = float(getattr(shares, made.value))
        if chance < share:
            return made
        chance -= share
    return None
