"""What the classifier makes of films that are turned over, inverted, or no chest films at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.films import Encoding, encode, file_bytes, picture
from tests.models import described
from triage.assess.classifier import Classifier, sentence_of
from triage.assess.prepare import prepare
from triage.domain.finding import Finding, FindingResult, FindingState, NotEvaluated, Outcome

#: With a head and a foot: brighter towards the bottom.
FILM = 0.5 * picture() + np.linspace(0, 0.5, 300)[:, None]
SIZE = 48
UPRIGHT = prepare(FILM.astype(np.float32), SIZE)
MODEL = described(SIZE)


class Knows:
    """An engine whose gate knows one film, upright and positive, and nothing else."""

    name = "knows"
    batches = False

    def infer(self, batch: np.ndarray) -> np.ndarray:
        rows = []
        for film in batch:
            alike = float((film * UPRIGHT).mean())
            rows.append([0, 0, 0, 0, 3, 0, 8.0 if alike > 0.8 else -8.0])
        return np.array(rows, np.float32)


def judge(tmp_path: Path, film: np.ndarray, **header: object):
    ds = encode(film, Encoding())
    for keyword, value in header.items():
        setattr(ds, keyword, value)
    (tmp_path / "film.dcm").write_bytes(file_bytes(ds))
    return Classifier(MODEL, Knows(), minimum_age=1.0).judge_file(tmp_path / "film.dcm")


def test_an_upright_film_is_evaluated(tmp_path: Path) -> None:
    answer = judge(tmp_path, FILM).assessment
    assert answer.outcome is Outcome.POSITIVE
    assert answer.sop_instance_uid.startswith("1.2.826")
    assert answer.model == "chest/9"
    assert answer.frontal > 0.99


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_film_that_lies_on_its_side_is_set_upright(tmp_path: Path, quarters: int) -> None:
    judged = judge(tmp_path, np.rot90(FILM, quarters))
    assert judged.assessment.outcome is Outcome.POSITIVE
    assert "turned" in judged.film.quirks
    assert np.corrcoef(judged.film.picture.ravel(), FILM.ravel())[0, 1] > 0.99


def test_a_negative_is_not_evaluated_and_says_why(tmp_path: Path) -> None:
    answer = judge(tmp_path, 1 - FILM).assessment
    assert answer.reason is NotEvaluated.BAD_GEOMETRY
    assert "negative" in answer.sentence


def test_a_picture_of_something_else_is_not_evaluated(tmp_path: Path) -> None:
    answer = judge(tmp_path, np.random.default_rng(0).random(FILM.shape)).assessment
    assert answer.reason is NotEvaluated.NOT_FRONTAL
    assert answer.findings == ()
    assert answer.any_disease is None


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"Modality": "CT"}, NotEvaluated.NOT_CR_DX),
        ({"PatientAge": "003M"}, NotEvaluated.PEDIATRIC),
        ({"PatientBirthDate": "20250601", "StudyDate": "20260531"}, NotEvaluated.PEDIATRIC),
        ({"PresentationIntentType": "FOR PROCESSING"}, NotEvaluated.FOR_PROCESSING),
        ({"Rows": 9999}, NotEvaluated.UNDECODABLE),
    ],
)
def test_the_header_can_keep_a_film_from_the_model(
    tmp_path: Path, header: dict[str, object], reason: NotEvaluated
) -> None:
    answer = judge(tmp_path, FILM, **header).assessment
    assert answer.reason is reason
    assert answer.frontal is None


@pytest.mark.parametrize(
    "header",
    [
        {"PatientBirthDate": "20250531", "StudyDate": "20260531"},
        {"PatientBirthDate": "20260101", "StudyDate": "20250101"},
        {"PatientBirthDate": "soon", "StudyDate": "20260531"},
        {"PatientBirthDate": "20260601", "StudyDate": "20260602", "PatientAge": "040Y"},
        {"PatientBirthDate": "20260601"},
    ],
)
def test_a_film_is_judged_unless_it_is_known_to_be_of_a_child(tmp_path: Path, header: dict[str, str]) -> None:
    assert judge(tmp_path, FILM, **header).assessment.reason is None


def test_a_lateral_by_its_header_is_not_turned_until_it_fits(tmp_path: Path) -> None:
    answer = judge(tmp_path, np.rot90(FILM), ViewPosition="LL").assessment
    assert answer.reason is NotEvaluated.NOT_FRONTAL


def test_sentences_name_the_likeliest_finding_first() -> None:
    findings = (
        FindingResult(Finding.COVID19, 0.6, FindingState.PRESENT, 0.2, 0.5),
        FindingResult(Finding.TUBERCULOSIS, 0.9, FindingState.PRESENT, 0.2, 0.5),
        FindingResult(Finding.OTHER, 0.3, FindingState.UNDETERMINED, 0.2, 0.5),
    )
    said = sentence_of(Outcome.POSITIVE, 0.95, findings)
    assert said == "Appearance resembling tuberculosis (0.90) and COVID-19 (0.60)."
    assert "another disease (0.30)" in sentence_of(Outcome.UNDETERMINED, 0.4, findings)
    assert "0.03" in sentence_of(Outcome.NEGATIVE, 0.03, ())
