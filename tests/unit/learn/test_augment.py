"""Changed films: the same for the same seed, on or off, and at the end as the service would make them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from monai.transforms import Compose, RandomizableTransform, Transform

from triage.assess.prepare import Prepare, prepare
from triage.learn.augment import Augmenter, Made, Twin, changes
from triage.learn.changes import Corner
from triage.learn.recipe import Augment, Twins

OFF = Augment(**dict.fromkeys(Augment.model_fields, 0.0))
SIZE = 64


@pytest.fixture(scope="module")
def film() -> np.ndarray:
    y, x = np.mgrid[-1:1:224j, -1:1:224j]
    grey = 128 + 140 * np.exp(-((x - 0.4) ** 2 + y**2) * 5) - 140 * np.exp(-((x + 0.3) ** 2 + y**2) * 9)
    return np.clip(grey + np.random.default_rng(0).normal(0, 3, grey.shape), 0, 255).astype(np.uint8)


def _alike(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def test_the_same_seed_gives_the_same_film_and_another_another(film):
    change = Augmenter(SIZE, Augment())
    first, second = change(film, 7), change(film, 8)
    assert first.shape == (1, SIZE, SIZE)
    assert first.dtype == np.float32
    # whatever came in between, and in another process
    assert np.array_equal(Augmenter(SIZE, Augment())(film, 7), first)
    assert not np.array_equal(first, second)


def test_switched_off_a_film_is_what_the_service_sees(film):
    served = prepare(film.astype(np.float32) / 255, SIZE)
    assert _alike(Augmenter(SIZE, OFF)(film, 1), served) > 0.995
    assert [type(step).__name__ for step in changes(SIZE, OFF).transforms] == ["Warp"]


@pytest.mark.parametrize("name", sorted(set(Augment.model_fields) - {"uneven_strength"}))
def test_each_setting_changes_films_by_itself(film, name):
    much = {"rotation": 20.0, "scale": 0.3, "shear": 0.3, "shift": 0.2, "brightness": 0.9}.get(name, 1.0)
    settings = OFF.model_copy(update={name: much, "uneven_strength": 0.2})
    plain = Augmenter(SIZE, OFF)
    changed = [_alike(Augmenter(SIZE, settings)(film, seed), plain(film, seed)) for seed in range(8)]
    assert min(changed) < 0.9995


def test_the_shape_that_a_film_had_is_changed_to_both_sides_and_not_told_by_the_room_beside_it():
    disc = cv2.circle(np.zeros((SIZE * 2, SIZE * 2), np.uint8), (SIZE, SIZE), SIZE // 4, 255, -1)
    settings = OFF.model_copy(update={"aspect": 0.4})
    seen = [changes(SIZE, settings).set_random_state(seed)(disc[None])[0] > 0.5 for seed in range(40)]
    wide, high = (np.array([np.ptp(np.nonzero(one)[axis]) + 1 for one in seen]) for axis in (1, 0))
    ratios = np.log(wide / high)
    assert -0.45 < ratios.min() < -0.2 < 0.2 < ratios.max() < 0.45
    # of films that became wider some were made wider and others lower
    wider = ratios > 0.1
    assert np.ptp(wide[wider]) > 2
    assert np.ptp(high[wider]) > 2


def test_the_changes_are_monai_transforms():
    chain = changes(SIZE, Augment(brightness=0.2))
    assert isinstance(chain, Compose)
    assert all(isinstance(step, Transform) for step in chain.transforms)
    assert sum(isinstance(step, RandomizableTransform) for step in chain.transforms) == 10
    assert isinstance(Prepare(SIZE), Transform)


def test_the_preparation_ends_a_monai_chain(film):
    prepared = Compose([Prepare(SIZE)])(film[None].astype(np.float32))
    assert np.array_equal(prepared, prepare(film.astype(np.float32), SIZE))


def test_a_twin_is_nearly_the_same_film_and_now_and_then_its_mirror_image(film):
    upright = prepare(film.astype(np.float32) / 255, SIZE)
    twins = [Twin(SIZE, Twins())(upright, seed) for seed in range(12)]
    assert np.array_equal(Twin(SIZE, Twins())(upright, 3), twins[3])
    as_it_is = [_alike(twin, upright) for twin in twins]
    mirrored = [_alike(twin, upright[..., ::-1]) for twin in twins]
    assert all(0.97 < max(pair) < 1 - 1e-6 for pair in zip(as_it_is, mirrored, strict=True))
    assert 2 < sum(flip > same for same, flip in zip(as_it_is, mirrored, strict=True)) < 10


def test_a_marked_twin_is_the_same_film_but_for_its_marks(film):
    upright = prepare(film.astype(np.float32) / 255, SIZE)
    for seed in range(6):
        plain, marked = Twin(SIZE, Twins())(upright, seed), Twin(SIZE, Twins(marked=1.0))(upright, seed)
        alike = [_alike(marked, way) for way in (plain, plain[..., ::-1])]
        assert 0.8 < max(alike) < 0.999


def test_a_stretched_twin_shows_the_same_film_of_another_shape(film):
    upright = prepare(film.astype(np.float32) / 255, SIZE)
    alike = []
    for seed in range(12):
        plain, stretched = (Twin(SIZE, Twins(stretched=share))(upright, seed) for share in (0.0, 1.0))
        alike.append(max(_alike(stretched, way) for way in (plain, plain[..., ::-1])))
    assert 0.3 < min(alike) < max(alike) < 0.995


def test_a_corner_is_painted_and_nothing_else():
    paint, grey = Corner(1.0), np.full((1, 100, 100), 0.4, np.float32)
    for seed in range(20):
        paint.set_random_state(seed)
        rows, columns = np.nonzero(paint(grey)[0] != grey[0])
        assert 0 < len(rows) < 200
        assert np.ptp(rows) < 21
        assert np.ptp(columns) < 21
        assert min(rows.min(), 99 - rows.max()) < 5


def test_negatives_for_the_gate_are_no_films_any_more(film):
    change = Augmenter(SIZE, OFF)
    upright = change(film, 1)
    assert _alike(change(film, 1, Made.INVERTED), upright) < -0.99
    for made in (Made.ROTATED, Made.CROPPED, Made.BLANK):
        assert _alike(change(film, 1, made), upright) < 0.6
