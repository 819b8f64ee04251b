"""What a model says of a set of films, and the decisions that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from triage.assess.prepare import Prepare
from triage.assess.scale import Scale
from triage.learn.data import Films, Mask
from triage.learn.labels import NORMAL, OUTPUTS

Floats = npt.NDArray[np.float64]
_BATCH = 16


class Infers(Protocol):
    """Whatever turns prepared films float32 [N, 1, S, S] into logits float32 [N, 7]."""

    def infer(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the logits."""


@dataclass(frozen=True)
class Answers:
    """Films with the probabilities of the six classes [N, 6] and of being a frontal chest film [N]."""

    films: Films
    classes: Floats
    gate: Floats

    @property
    def diseased(self) -> Floats:
        """Return the probability that a film is not normal."""
        return 1 - self.classes[:, NORMAL]

    def take(self, chosen: Mask) -> Answers:
        """Return the films of a mask."""
        return Answers(self.films.take(chosen), self.classes[chosen], self.gate[chosen])


def prepared(
    pictures: npt.NDArray[np.uint8], indices: npt.NDArray[np.int64], size: int
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield batches float32 [N, 1, size, size] of the films at `indices`, as the service prepares them."""
    prepare = Prepare(size)
    for start in range(0, len(indices), _BATCH):
        part = indices[start : start + _BATCH]
        yield np.stack([prepare(pictures[index].astype(np.float32) / 255) for index in part])


def logits(
    engine: Infers,
    pictures: npt.NDArray[np.uint8],
    indices: npt.NDArray[np.int64],
    size: int,
    step: Callable[[int], None] = lambda _: None,
) -> npt.NDArray[np.float32]:
    """Return the logits float32 [len(indices), 7] of the films at `indices`; `step` hears of each batch."""
    found = [np.empty((0, OUTPUTS), np.float32)]
    for batch in prepared(pictures, indices, size):
        found.append(engine.infer(batch))
        step(len(batch))
    return np.concatenate(found)


def answers_of(films: Films, values: npt.NDArray[np.float32], scale: Scale | None = None) -> Answers:
    """Return the answers from logits [N, 7], as they are or on a model's scale."""
    scale = scale or Scale()
    return Answers(films, scale.classes(values), scale.gate(values))
