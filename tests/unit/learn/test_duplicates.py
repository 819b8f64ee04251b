"""The same film in two splits is found whatever its publisher did to it; other films are not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from triage.errors import DataError
from triage.learn.data import FilmRow, Films
from triage.learn.duplicates import across_splits, refuse_leakage


def film(seed: int) -> np.ndarray:
    """A thorax of a kind: two dark lungs, ribs of its own, grain of its own."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:224j, -1:1:224j]
    lungs = sum(np.exp(-(((x - side) * 2.6) ** 2) - ((y + 0.1) * 1.5) ** 2) for side in (-0.45, 0.45))
    ribs = 0.12 * np.sin(y * rng.uniform(22, 34) + x * rng.uniform(-6, 6) + rng.uniform(0, 6))
    detail = cv2.GaussianBlur(rng.normal(0, 1, (224, 224)), (0, 0), 2.5)
    return np.clip((0.75 - 0.5 * lungs + ribs * lungs + 0.25 * detail) * 200, 0, 255).astype(np.uint8)


def _set(pictures: list[np.ndarray], splits: list[str], tmp_path) -> tuple[Films, np.ndarray]:
    rows = [FilmRow(f"{n}.png", "s", "normal", f"p{n}", split) for n, split in enumerate(splits)]
    return Films(tmp_path, tuple(rows)), np.stack(pictures)


def _recoded(picture: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 80])[1], 0)


@pytest.mark.parametrize(
    "change",
    [
        cv2.equalizeHist,
        _recoded,
        lambda picture: (255 * (picture / 255) ** 0.6).astype(np.uint8),
        lambda picture: cv2.resize(cv2.resize(picture, (150, 150)), (224, 224)),
    ],
    ids=["equalised", "recoded", "gamma", "resized"],
)
def test_a_changed_copy_in_another_split_is_found(change, tmp_path):
    pictures = [film(seed) for seed in range(12)] + [change(film(5))]
    films, array = _set(pictures, ["train"] * 12 + ["test"], tmp_path)
    assert [(pair.first, pair.second) for pair in across_splits(films, array)] == [("5.png", "12.png")]
    with pytest.raises(DataError, match=r"5\.png and 12\.png are the same film in two splits"):
        refuse_leakage(films, array)


def test_many_pairs_are_named_up_to_ten(tmp_path):
    pictures = [film(seed) for seed in range(12)] * 2
    films, array = _set(pictures, ["train"] * 12 + ["test"] * 12, tmp_path)
    with pytest.raises(DataError, match=r"(\d+\.png and \d+\.png; ){10}and 2 pairs more are the same film"):
        refuse_leakage(films, array)


def test_different_films_and_copies_within_a_split_are_no_leakage(tmp_path):
    pictures = [film(seed) for seed in range(12)] + [film(3)]
    films, array = _set(pictures, [("train", "test")[n % 2] for n in range(12)] + ["test"], tmp_path)
    refuse_leakage(films, array)
