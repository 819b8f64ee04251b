"""Near-duplicates between splits: the same film twice, also when one copy was equalised, resized or recoded.

Each film becomes 256 ranks of its grey values at 16 x 16: a monotone change of grey leaves ranks alone. Two
films whose ranks correlate nearly perfectly, also in their finer structure, are one film.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from triage.assess.prepare import reduce
from triage.errors import DataError
from triage.learn.cache import Pictures
from triage.learn.data import Films

#: Rank correlations from which two pictures are one film: of the whole at 16 x 16, then of its detail.
COARSE, FINE = 0.97, 0.90
_COARSE_EDGE, _FINE_EDGE = 16, 64
_CHUNK = 1024
#: How many pairs a sentence names.
_NAMED = 10

Ranks = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Pair:
    """Two films that are one; `correlation` is that of their detail."""

    first: str
    second: str
    correlation: float


def ranks(picture: npt.NDArray[np.float32]) -> Ranks:
    """Return the ranks of a picture's values, mean 0 and length 1; all 0 for a constant picture."""
    order = rankdata(picture.ravel())
    centred = order - order.mean()
    length = float(np.linalg.norm(centred))
    return (centred / length if length else centred).astype(np.float32)


def _coarse(picture: npt.NDArray[np.uint8]) -> Ranks:
    return ranks(reduce(picture.astype(np.float32), _COARSE_EDGE))


def _detail(picture: npt.NDArray[np.uint8]) -> Ranks:
    """Return the ranks of what differs from the neighbourhood: ribs and vessels, not the shape of a chest."""
    equal = rankdata(reduce(picture.astype(np.float32), _FINE_EDGE)).reshape(_FINE_EDGE, _FINE_EDGE)
    soft = np.repeat(np.repeat(equal.reshape(16, 4, 16, 4).mean(axis=(1, 3)), 4, axis=0), 4, axis=1)
    return ranks((equal - soft).astype(np.float32))


def across_splits(films: Films, pictures: Pictures) -> list[Pair]:
    """Return the pairs of films that are one film in two splits, the most alike first."""
    coarse = np.stack([_coarse(picture) for picture in pictures])
    splits = films.splits
    found = []
    for start in range(0, len(films), _CHUNK):
        alike = coarse[start : start + _CHUNK] @ coarse.T
        for row, other in zip(*np.nonzero(alike >= COARSE), strict=True):
            here = start + int(row)
            if other > here and splits[here] != splits[other]:
                fine = float(_detail(pictures[here]) @ _detail(pictures[other]))
                if fine >= FINE:
                    found.append(Pair(films.rows[here].file, films.rows[int(other)].file, fine))
    return sorted(found, key=lambda pair: -pair.correlation)


def refuse_leakage(films: Films, pictures: Pictures) -> None:
    """Raise where a film of one split is in another too.

    Raises:
        DataError: the sentence names the most alike pairs, and how many there are.
    """
    pairs = across_splits(films, pictures)
    if pairs:
        named = "; ".join(f"{pair.first} and {pair.second}" for pair in pairs[:_NAMED])
        more = f"; and {len(pairs) - _NAMED} pairs more" if len(pairs) > _NAMED else ""
        msg = (
            f"{named}{more} are the same film in two splits (correlation {pairs[0].correlation:.3f} and "
            "less): move each into one split."
        )
        raise DataError(msg)
