"""What the network learned from and what it is shown: the service's chain and the learner's, side by side."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.films import picture
from tests.models import described
from triage.assess.classifier import Classifier
from triage.assess.prepare import KEPT
from triage.learn.answers import prepared
from triage.learn.cache import decode
from triage.samples import Sample

#: The edge of the shipped model's films: not a whole part of the edge that learning keeps.
SIZE = 160


class Frontal:
    """An engine that takes every film for a frontal one."""

    name = "frontal"
    batches = False

    def infer(self, batch: np.ndarray) -> np.ndarray:
        return np.tile(np.array([0, 0, 0, 0, 0, 0, 9], np.float32), (len(batch), 1))


def served(path: Path, size: int) -> np.ndarray:
    """The tensor that the service shows its network of a file."""
    made = Classifier(described(size), Frontal()).judge_file(path).prepared
    assert made is not None
    return made


def learned(path: Path, size: int) -> np.ndarray:
    """The tensor that learning and `evaluate` make of a file."""
    [batch] = prepared(decode(path)[None], np.array([0]), size)
    return batch[0]


def difference(path: Path, size: int) -> tuple[float, float]:
    """The mean and the largest difference, in units of the tensor, whose deviation is 1."""
    apart = np.abs(served(path, size) - learned(path, size))
    return float(apart.mean()), float(apart.max())


@pytest.mark.parametrize("size", [KEPT, SIZE])
@pytest.mark.parametrize(
    ("contrast", "mean", "largest"),
    [
        # black and white take more than the half percent that the service clips: all that differs is rounding
        (1.1, 2e-6, 5e-4),
        # what the service clips is kept in learning: other bins of the histogram
        (1.0, 0.006, 0.03),
    ],
)
def test_a_picture_of_the_kept_size_and_8_bits_is_one_tensor_to_both(
    tmp_path: Path, size: int, contrast: float, mean: float, largest: float
) -> None:
    film = np.clip((picture(KEPT, KEPT) - 0.5) * contrast + 0.5, 0, 1)
    cv2.imwrite(str(tmp_path / "film.png"), np.rint(255 * film).astype(np.uint8))
    apart = difference(tmp_path / "film.png", size)
    assert apart[0] < mean
    assert apart[1] < largest


@pytest.mark.parametrize("size", [KEPT, SIZE])
@pytest.mark.parametrize("number", [0, 2, 7], ids=["DX", "CR of a child", "CR, inverse, JPEG"])
def test_a_large_dicom_film_differs_by_the_rounding_to_8_bits_alone(
    sample_films: list[Sample], number: int, size: int
) -> None:
    mean, largest = difference(sample_films[number].path, size)
    assert mean < 0.01
    assert largest < 0.1
