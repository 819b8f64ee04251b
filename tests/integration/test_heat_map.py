"""The heat map that the service makes of a real film, by the shipped model."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from triage.assess.heat import HeatMapper, NoHeatMap
from triage.assess.opening import open_classifier
from triage.samples import Sample


@pytest.fixture
def mapper(sample_films: list[Sample]) -> tuple[HeatMapper, Path]:
    film = sample_films[0].path
    return HeatMapper(film.parent, open_classifier(engine="torch", threads=1)), Path(film.name)


def test_film_and_heat_are_one_picture_in_the_films_proportions(mapper: tuple[HeatMapper, Path]) -> None:
    heat_map, film = mapper
    maps = [heat_map(str(film), finding) for finding in ("tuberculosis", "bacterial_pneumonia")]
    pictures = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in maps]
    assert max(pictures[0].shape) == 800
    assert pictures[0].shape == pictures[1].shape
    spread = np.ptp(pictures[0].astype(int), axis=2)
    assert spread.max() > 40, "the heat has colours"
    assert not np.array_equal(pictures[0], pictures[1]), "each finding has its own"


def test_a_film_that_is_gone_says_so(mapper: tuple[HeatMapper, Path]) -> None:
    for path in ("", "gone.dcm"):
        with pytest.raises(NoHeatMap, match="no longer here"):
            mapper[0](path, "tuberculosis")
