"""The rows, the groups and the figures beyond them, on answers made up so that the truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from triage.assess.scale import Scale
from triage.domain.finding import CLASSES
from triage.learn.answers import Answers
from triage.learn.calibrate import shift_of
from triage.learn.data import FilmRow, Films
from triage.learn.groups import age_band, by_group
from triage.learn.labels import LABELS
from triage.learn.quality import calibration_figures, prevalence_figures, trade_offs
from triage.learn.rows import SEED_MAKE_UP, Judgement, rows, six_classes_seed


def film(label: str, number: int, source: str = "kermany", **more: object) -> FilmRow:
    return FilmRow(f"{label}-{source}-{number}.png", source, label, f"{label}{number}", "test", **more)


def answers(films: list[FilmRow], *, right: float = 0.9) -> Answers:
    """Answers that give the true class `right` and share the rest; unspecified pneumonia is called viral."""
    classes = np.full((len(films), 6), (1 - right) / 5)
    for index, row in enumerate(films):
        code = LABELS.index(row.label)
        classes[index, {6: 2, 7: 0}.get(code, code)] = right
    gate = np.array([0.01 if row.label == "not_frontal" else 0.99 for row in films])
    return Answers(Films(Path(), tuple(films)), classes, gate)


@pytest.fixture
def everything() -> Answers:
    films = [film(label, number) for label in LABELS[:3] for number in range(8)]
    films += [film("covid19", number, "covid_radiography") for number in range(8)]
    films += [film("tuberculosis", number, "tb_qatar", boxed=number < 6) for number in range(12)]
    films += [film("normal", number, "tb_qatar") for number in range(8)]
    films += [
        film(label, number, "rsna_2018", view=("PA", "AP")[number % 2], age="44", sex="F")
        for label in ("normal", "pneumonia_unspecified")
        for number in range(20)
    ]
    films += [film("other", number, "nih_chestxray14") for number in range(8)]
    films += [film("not_frontal", number, "photo") for number in range(9)]
    return answers(films)


def judged(made: Answers) -> Judgement:
    return Judgement(made, made, any_disease=0.5, gate=0.5)


def test_right_answers_give_whole_rows(everything):
    found = rows(judged(everything))
    assert found["kermany_pneumonia"]["n"] == 24
    assert found["three_classes_002"]["macro_f1"] == 1.0
    assert found["four_classes_000"]["f1_tuberculosis"] == 1.0
    assert found["six_classes_all"]["accuracy"] == 1.0
    assert found["gate"]["frontal_recall"] == found["gate"]["others_rejected"] == 1.0
    assert found["covid_all"]["recall_ci"] == (1.0, 1.0)


def test_rows_are_of_the_films_that_they_name(everything):
    found = rows(judged(everything))
    assert (found["tb_qatar"]["n"], found["tb_qatar_no_boxes"]["n"]) == (20, 14)
    assert (found["rsna_2018"]["n"], found["rsna_2018_PA"]["n"], found["rsna_2018_AP"]["n"]) == (40, 20, 20)
    # pneumonia of unknown kind is a disease, but none of the six classes
    assert found["any_disease"]["n"] == len(everything.films) - 9
    assert found["six_classes_all"]["n"] == found["any_disease"]["n"] - 20
    assert found["any_disease"]["per_source"]["tb_qatar"]["normals"] == 8


def test_films_of_no_class_of_a_task_are_left_out_of_it(everything):
    strangers = [film(label, 99, "kermany") for label in ("pneumonia_unspecified", "tuberculosis", "other")]
    found = rows(judged(answers([*everything.films.rows, *strangers])))
    before = rows(judged(everything))
    assert found["kermany_bacterial_viral"] == before["kermany_bacterial_viral"]
    assert found["three_classes_002"]["n"] == before["three_classes_002"]["n"] + 1
    assert found["four_classes_000"]["n"] == before["four_classes_000"]["n"] + 2


def test_a_source_with_one_film_hides_nothing(everything):
    films = [*everything.films.rows, film("covid19", 99, "covid_figure1")]
    found = rows(judged(answers(films)))
    assert found["any_disease"]["per_source"]["covid_figure1"]["n"] == 1


def test_a_wrong_answer_is_counted_where_it_belongs(everything):
    wrong = int(np.flatnonzero(everything.films.codes == LABELS.index("covid19"))[0])
    everything.classes[wrong] = np.eye(6)[0]
    found = rows(judged(everything))
    assert found["covid_all"]["recall"] == 0.875
    assert found["three_classes_002"]["recall_covid19"] == 0.875
    assert found["any_disease"]["per_source"]["covid_radiography"]["sensitivity"] == 0.875
    assert found["kermany_bacterial_viral"]["accuracy"] == 1.0
    assert found["six_classes_all"]["most_confused"] == [["covid19", "normal", 1]]


def test_rows_without_films_or_without_a_threshold_are_left_out(everything):
    no_tb = everything.take(everything.films.codes != LABELS.index("tuberculosis"))
    found = rows(Judgement(everything, no_tb, 0.5, 0.5))
    assert "tb_qatar" not in found
    assert "jsrt_nodule" not in found
    assert "kermany_pneumonia" in found


def test_the_seeds_make_up_is_kept_and_always_the_same():
    films = [film(label, number) for label in CLASSES for number in range(200)]
    made = answers(films)
    first, second = (six_classes_seed(judged(made)) for _ in range(2))
    assert first == second
    # 200 "other" films are the scarcest against the 5,597 of the seed
    assert first["n"] == sum(round(200 / max(SEED_MAKE_UP) * want) for want in SEED_MAKE_UP)


@pytest.mark.parametrize(
    ("age", "band"), [("3", "0-5"), ("044Y", "40-59"), ("80", "80-129"), ("", "unknown"), ("old", "unknown")]
)
def test_age_bands(age, band):
    assert age_band(film("normal", 0, age=age)) == band


def test_groups_have_at_least_twenty_films(everything):
    found = by_group(judged(everything))
    assert set(found["sex"]) == {"F", "unknown"}
    assert found["view"]["PA"]["sensitivity"] == 1.0
    assert "covid_radiography" not in found["source"]


def test_predictive_values_follow_prevalence():
    truth = np.repeat([True, False], 100)
    answer = np.r_[np.arange(100) < 90, np.arange(100) < 20]
    found = prevalence_figures(truth, answer)
    assert found["0.10"]["ppv"] == pytest.approx(0.9 * 0.1 / (0.9 * 0.1 + 0.2 * 0.9), abs=1e-4)
    assert found["0.01"]["npv"] > found["0.10"]["npv"]


def test_trade_offs_are_the_best_that_the_curve_offers():
    truth = np.repeat([False, True], 10)
    score = np.r_[np.linspace(0, 0.9, 10), np.linspace(0.45, 1.35, 10)]
    found = trade_offs(truth, score)
    assert found["sensitivity_at_specificity"]["0.90"] == 0.6
    assert found["specificity_at_sensitivity"]["0.99"] == 0.5


def test_calibration_tells_a_calibrated_answer_from_an_overconfident_one():
    rng = np.random.default_rng(0)
    said = rng.uniform(0.02, 0.98, 6000)
    truth = rng.random(6000) < said
    good = calibration_figures(truth, said)
    odds = np.log(said / (1 - said)) * 3
    bold = calibration_figures(truth, 1 / (1 + np.exp(-odds)))
    assert good["ece"] < 0.03 < bold["ece"]
    assert good["slope"] == pytest.approx(1, abs=0.1)
    assert bold["slope"] == pytest.approx(1 / 3, abs=0.05)


def test_the_shift_lifts_what_is_named_too_seldom_and_leaves_any_disease_alone():
    rng = np.random.default_rng(1)
    truth = np.array([0] * 100 + [1] * 200 + [3] * 60)
    films = [film(CLASSES[code], number) for number, code in enumerate(truth)]
    logits = rng.normal(0, 1, (len(truth), 7)).astype(np.float32)
    logits[np.arange(len(truth)), truth] += 2
    logits[:, 3] -= 2
    found = Scale(shift=shift_of(Films(Path(), tuple(films)), logits, 1.0))
    plain, shifted = Scale().classes(logits), found.classes(logits)
    assert (shifted.argmax(axis=1) == 3).sum() > (plain.argmax(axis=1) == 3).sum() + 10
    assert np.allclose(shifted[:, 0], plain[:, 0])
    assert np.allclose(shifted.sum(axis=1), 1)
