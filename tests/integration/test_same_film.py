"""One real film in 69 encodings: every one shows the reference picture, and prepares the same."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from triage.assess import registry
from triage.assess.engine import open_engine
from triage.assess.pixels import read_film
from triage.assess.prepare import KEPT, prepare

SIZE = 128
#: Equalisation stretches the film's most frequent greys: a grey value's error grows by its slope at most.
STEEPEST = 8
#: Tolerances below half a grey value of 16 bits are those of the histogram's bins.
FINEST = 2e-4
#: These carry less or other content than the reference: compare what is there, not the prepared square.
OTHER_CONTENT = ("pixel_padding", "odd_length")


def family(shared: Path) -> list[dict[str, str]]:
    with (shared / "dicom/cxr/derived/same_film/manifest.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "dicom/cxr/derived/same_film"


@pytest.fixture(scope="module")
def reference(folder: Path) -> np.ndarray:
    return cv2.imread(str(folder / "reference.png"), cv2.IMREAD_UNCHANGED) / 65535


def test_every_encoding_shows_the_reference(shared: Path, folder: Path, reference: np.ndarray) -> None:
    rows = family(shared)
    assert len(rows) == 69
    wrong = [row["file"] for row in rows if not shows_reference(folder, reference, row)]
    assert wrong == []


def shows_reference(folder: Path, reference: np.ndarray, row: dict[str, str]) -> bool:
    """Compare within the manifest's error, after the one straight line that scaling by percentiles is."""
    picture = read_film(folder / row["file"]).picture.astype(np.float64)
    wanted = reference[: picture.shape[0], : picture.shape[1]]
    if row["polarity"] == "inverted":
        wanted = 1 - wanted
    inner = (picture > 0.002) & (picture < 0.998)
    if "pixel_padding" in row["file"]:
        assert not picture[:, :40].any()
        assert not picture[:, -40:].any()
        assert not picture[-30:].any()
        inner[:, :40] = inner[:, -40:] = False
        inner[-30:] = False
    slope, intercept = np.polyfit(wanted[inner], picture[inner], 1)
    error = np.abs(picture[inner] - slope * wanted[inner] - intercept).max() / slope
    return bool(slope > 0 and error <= float(row["tolerance_max_abs_0_1"]) + 1e-5)


def test_every_encoding_prepares_the_same_picture(shared: Path, folder: Path) -> None:
    exact = prepare(read_film(folder / "native_m2_16bit.dcm").reduced(KEPT), SIZE)
    wrong = {}
    for row in family(shared):
        if row["file"].startswith(OTHER_CONTENT):
            continue
        prepared = prepare(read_film(folder / row["file"]).reduced(KEPT), SIZE)
        if row["polarity"] == "inverted":
            prepared = -prepared
        error = np.abs(prepared - exact)[0] / np.sqrt(12)
        # the corner of these holds two patches of other values
        error[:4, :8] = 0
        tolerance = float(row["tolerance_max_abs_0_1"])
        if error.max() > STEEPEST * tolerance + FINEST or error.mean() > tolerance + FINEST:
            wrong[row["file"]] = (error.max(), error.mean(), tolerance)
    assert wrong == {}


#: A corner of these shows two patches that the reference has not: another picture, to the model too.
PATCHED = ("voi_window", "voi_lut_first_mapped")


def test_the_shipped_model_says_the_same_of_every_encoding(
    shared: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = registry.find(registry.models_dir(), "chest")
    engine = open_engine(model, "auto", tmp_path_factory.mktemp("engines"), 1)

    def said(row: dict[str, str]) -> np.ndarray:
        prepared = prepare(read_film(folder / row["file"]).reduced(KEPT), model.size)
        if row["polarity"] == "inverted":
            prepared = -prepared
        logits = engine.infer(prepared[None])
        return np.append(model.scale.classes(logits)[0], model.scale.gate(logits))

    rows = [row for row in family(shared) if not row["file"].startswith((*OTHER_CONTENT, *PATCHED))]
    answers = {row["file"]: said(row) for row in rows}
    exact = answers["native_m2_16bit.dcm"]
    changes = {name: float(np.abs(answer - exact).max()) for name, answer in answers.items()}
    assert {name: change for name, change in changes.items() if change >= 0.01} == {}
    assert len(changes) > 55
