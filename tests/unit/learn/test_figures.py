"""The rows, the groups and the figures beyond them, on answers made up so that the truth is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.models import described
from triage.assess.classifier import answer_of
from triage.assess.registry import Thresholds
from triage.assess.scale import Scale
from triage.domain.finding import CLASSES, Finding
from triage.learn.answers import Answers
from triage.learn.calibrate import shift_of
from triage.learn.data import FilmRow, Films
from triage.learn.groups import age_band, by_group
from triage.learn.labels import LABELS
from triage.learn.quality import calibration, class_calibration, predictive_values, trade_offs
from triage.learn.rows import ORIGINAL_MAKE_UP, Judgement, rows, six_classes_original, strangers
from triage.learn.table import cells, markdown, sections


def film(label: str, number: int, source: str = "kermany", **more: object) -> FilmRow:
    return FilmRow(f"{label}-{source}-{number}.png", source, label, f"{label}{number}", "test", **more)


def answers(films: list[FilmRow], *, right: float = 0.9) -> Answers:
    """Answers that give the true class `right` and share the rest; unspecified pneumonia is called viral."""
    classes = np.full((len(films), 6), (1 - right) / 5)
    for index, row in enumerate(films):
        code = LABELS.index(row.label)
        classes[index, {6: 2, 7: 0, 8: 0}.get(code, code)] = right
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
    return Judgement(made, made, any_disease=0.5, gate=0.5, rule=lambda one: answer_of(described(32), one)[0])


def alone(count: int) -> np.ndarray:
    return np.array([f"p{number}" for number in range(count)])


def test_right_answers_give_whole_rows(everything):
    found = rows(judged(everything))
    assert found["kermany_pneumonia"]["n"] == 24
    assert found["three_classes_002"]["macro_f1"] == 1.0
    assert found["four_classes_000"]["f1_tuberculosis"] == 1.0
    assert found["six_classes_all"]["accuracy"] == 1.0
    assert found["gate"]["frontal_recall"] == found["gate"]["others_rejected"] == 1.0
    assert found["covid_all"]["recall"] == 1.0


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


def test_a_source_that_was_never_seen_may_have_no_film_or_none_of_a_single_class(everything):
    films = [
        *everything.films.rows,
        film("pneumonia_unspecified", 99, "south"),
        film("not_frontal", 1, "photo"),
    ]
    found = strangers(judged(answers(films)), ["photo", "south"])
    assert found["photo"] == {"n": 0}
    assert found["south"]["n"] == 1
    assert "accuracy" not in found["south"]


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
    counted = found["six_classes_all"]["confusion"]
    films = dict(zip(counted["classes"], counted["films"], strict=True))
    assert (films["covid19"][0], films["covid19"][3]) == (1, 7)


def test_rows_without_films_or_without_a_threshold_are_left_out(everything):
    no_tb = everything.take(everything.films.codes != LABELS.index("tuberculosis"))
    found = rows(Judgement(everything, no_tb, 0.5, 0.5))
    assert "tb_qatar" not in found
    assert "jsrt_nodule" not in found
    assert "kermany_pneumonia" in found


def test_the_seeds_make_up_is_kept_and_always_the_same():
    films = [film(label, number) for label in CLASSES for number in range(200)]
    made = answers(films)
    first, second = (six_classes_original(judged(made)) for _ in range(2))
    assert first == second
    # 200 "other" films are the scarcest against the 5,597 of the original
    assert first["n"] == sum(round(200 / max(ORIGINAL_MAKE_UP) * want) for want in ORIGINAL_MAKE_UP)


@pytest.mark.parametrize(
    ("age", "band"),
    [("3", "0-5"), ("044Y", "40-59"), ("80", "80-129"), ("006M", "0-5"), ("", "unknown"), ("old", "unknown")],
)
def test_age_bands(age, band):
    assert age_band(film("normal", 0, age=age)) == band


def test_groups_have_at_least_twenty_films(everything):
    found = by_group(judged(everything))
    assert set(found["sex"]) == {"F", "unknown"}
    assert found["view"]["PA"]["sensitivity"] == 1.0
    assert "covid_radiography" not in found["source"]


def shown(document: dict[str, object]) -> dict[str, str]:
    return {section.title: markdown(section) for section in sections(document)}


def test_groups_with_enough_films_of_a_class_and_of_others_tell_how_it_is_found():
    films = [film("normal", n, "north", sex="F") for n in range(40)]
    films += [film("tuberculosis", n, "north", sex="F") for n in range(20)]
    films += [film("covid19", n, "north", sex="F") for n in range(19)]
    films += [film("pneumonia_unspecified", n, "north", sex="F") for n in range(30)]
    films += [film("other", n, "south", sex="M") for n in range(60)]
    said = answers(films)
    # ten of the twenty look like the normal films, and they are as likely to have it as those
    said.classes[40:50] = said.classes[0]
    groups = by_group(judged(said))
    found = groups["sex"]["F"]["classes"]
    row = found["tuberculosis"]
    assert (row["n"], row["films"], row["auroc"]) == (79, 20, 0.75)
    # ten come first; of the 69 that look alike ten more have it
    assert row["auprc"] == pytest.approx((10 + 10 * 20 / 79) / 20)
    assert row["auroc_ci"][0] < 0.75 < row["auroc_ci"][1]
    assert row["auprc_ci"][0] < row["auprc"] < row["auprc_ci"][1]
    assert set(found) == {"normal", "tuberculosis"}
    assert "classes" not in groups["sex"]["M"]
    text = shown({"groups": groups})
    row = next(line for line in text["Every class by sex"].splitlines() if line.startswith("| F: tuber"))
    assert row.split(" | ")[1:3] == ["79", "20"]
    assert "0.750 (" in row
    assert "Every class by source" in text


def test_large_groups_tell_whether_their_probabilities_are_too_bold():
    rng = np.random.default_rng(0)
    likely = rng.uniform(0.05, 0.95, 1000)
    labels = np.where(rng.random(1000) < likely, "other", "normal")
    films = [film(label, n, "north") for n, label in enumerate(labels)]
    said = answers(films)
    odds = 2 * np.log(likely / (1 - likely))
    said.classes[:, 0] = 1 / (1 + np.exp(odds))
    groups = by_group(judged(said))
    assert groups["source"]["north"]["slope"] == pytest.approx(0.5, abs=0.1)
    assert "slope" in shown({"groups": groups})["Any disease by source"]
    assert "slope" not in by_group(judged(said.take(np.arange(1000) < 90)))["source"]["north"]


def test_the_gate_is_told_by_kind_and_films_on_their_side_beside_it(everything):
    more = [film("not_frontal", n, "hand") for n in range(4)]
    more += [film("unlabelled", n, "turned") for n in range(5)]
    said = answers([*everything.films.rows, *more])
    said.gate[-9] = 0.9
    said.gate[-5:-1] = 0.1
    gate = rows(judged(said))["gate"]
    assert gate["per_kind"] == {
        "hand": {"n": 4, "passed": 1, "rejected": 0.75},
        "photo": {"n": 9, "passed": 0, "rejected": 1.0},
    }
    assert gate["per_kind_unlabelled"] == {"turned": {"n": 5, "passed": 1, "rejected": 0.8}}
    # what is unlabelled counts in no figure of the row itself
    assert gate["n"] == len(said.films) - 5
    assert gate["others_rejected"] == pytest.approx(12 / 13, abs=1e-4)
    text = shown({"gate": gate})["What the gate turns away, by kind"]
    assert "| hand | 4 | 0.750 |" in text
    assert "| turned (not counted) | 5 | 0.800 |" in text


def test_a_patient_of_two_sources_is_one_patient():
    films = [film("normal" if number < 20 else "other", number, "north") for number in range(40)]
    twice = films + [replace(row, file=f"again-{row.file}", source="south") for row in films]
    said = answers(twice)
    said.classes[:] = np.random.default_rng(0).dirichlet(np.ones(6), 40)[np.r_[:40, :40]]
    once = rows(judged(said.take(said.films.sources == "north")))["any_disease"]
    both = rows(judged(said))["any_disease"]
    assert (once["n"], both["n"]) == (40, 80)
    # every film a second time from another source is no news, so no interval may become narrower
    for key in ("auroc_ci", "auprc_ci", "sensitivity_ci", "specificity_ci"):
        assert both[key] == once[key]


def test_what_the_service_answers_is_counted_by_its_own_rule(everything):
    tb = np.flatnonzero(everything.films.codes == LABELS.index("tuberculosis"))
    grey, present, missed, stopped = tb[:4]
    everything.classes[grey] = [0.75, 0, 0, 0, 0.15, 0.1]
    # below the threshold of any disease, and yet positive by a finding in its own right
    limits = Thresholds(0.05, 0.3)
    model = replace(described(32), any_disease=Thresholds(0.2, 0.5), findings=dict.fromkeys(Finding, limits))
    everything.classes[present] = [0.6, 0, 0, 0, 0.4, 0]
    everything.classes[missed] = [0.98, 0, 0, 0, 0.02, 0]
    everything.gate[stopped] = 0.1
    found = rows(replace(judged(everything), rule=lambda one: answer_of(model, one)[0]))["outcome"][
        "per_source"
    ]
    row = found["tb_qatar"]
    assert row["positive_of_diseased"] == pytest.approx(9 / 12, abs=1e-4)
    for answer in ("undetermined", "negative", "not_evaluated"):
        assert row[f"{answer}_of_diseased"] == pytest.approx(1 / 12, abs=1e-4)
    low, high = row["positive_of_diseased_ci"]
    assert low < 0.75 < high
    assert "positive_of_normal" not in found["nih_chestxray14"]


def test_the_lowest_specificity_is_that_of_a_source_with_enough_normals():
    films = [film("normal", number, source) for source in ("a", "b") for number in range(60)]
    films += [film("normal", number, "few") for number in range(49)] + [film("other", 1, "a")]
    said = answers(films)
    said.classes[60:75] = said.classes[-1]
    said.classes[120:169] = said.classes[-1]
    found = rows(judged(said))["any_disease"]
    assert (found["lowest_specificity"], found["lowest_specificity_source"]) == (0.75, "b")
    assert found["per_source"]["few"]["specificity"] == 0
    assert found["lowest_specificity_n"] == 60


def test_films_that_were_read_again_are_judged_by_that_too():
    mined = "Cardiomegaly|Effusion [RSNA f860705c-9008: %s]"
    films = [
        film("other" if number % 2 else "normal", number, "nih_chestxray14", original_label=mined % said)
        for number, said in enumerate(
            ["Normal", "Normal", "No Lung Opacity / Not Normal", "Lung Opacity"] * 3
        )
    ]
    films += [film("other", 50 + number, "nih_chestxray14", original_label="Effusion") for number in range(8)]
    row = rows(judged(answers(films)))["nih_chestxray14"]
    assert (row["n"], row["auroc_reread_n"]) == (20, 12)
    assert (row["auroc"], row["auroc_same_films_mined"], row["auroc_reread"]) == (1.0, 1.0, 0.5)
    shown = [name for name, _, _ in cells(row)]
    assert "auroc_reread (12 films)" in shown


def test_large_groups_tell_their_calibration(everything):
    films = [film(label, n, "kermany", sex="M") for label in ("normal", "other") for n in range(60)]
    found = by_group(judged(answers([*everything.films.rows, *films])))
    assert found["sex"]["M"]["brier"] == pytest.approx((0.1**2 + 0.02**2) / 2, abs=1e-4)
    assert found["sex"]["M"]["ece"] == pytest.approx((0.1 + 0.02) / 2, abs=1e-4)
    assert found["sex"]["M"]["auprc"] == 1.0
    assert "brier" not in found["sex"]["F"]


def test_predictive_values_follow_prevalence():
    truth = np.repeat([True, False], 100)
    answer = np.r_[np.arange(100) < 90, np.arange(100) < 20]
    found = predictive_values(truth, answer, alone(200))
    assert found["0.10"]["ppv"] == pytest.approx(0.9 * 0.1 / (0.9 * 0.1 + 0.2 * 0.9), abs=1e-4)
    assert found["0.01"]["npv"] > found["0.10"]["npv"]
    low, high = found["0.10"]["ppv_ci"]
    assert low < found["0.10"]["ppv"] < high


def test_trade_offs_are_the_best_that_the_curve_offers():
    truth = np.repeat([False, True], 10)
    score = np.r_[np.linspace(0, 0.9, 10), np.linspace(0.45, 1.35, 10)]
    found = trade_offs(truth, score, alone(20))
    assert found["0.90"]["sensitivity_at_specificity"] == 0.6
    assert found["0.99"]["specificity_at_sensitivity"] == 0.5
    low, high = found["0.90"]["sensitivity_at_specificity_ci"]
    assert low < 0.6 < high


def test_calibration_tells_a_calibrated_answer_from_an_overconfident_one():
    rng = np.random.default_rng(0)
    said = rng.uniform(0.02, 0.98, 3000)
    truth = rng.random(3000) < said
    good = calibration(truth, said, alone(3000))
    odds = np.log(said / (1 - said)) * 3
    bold = calibration(truth, 1 / (1 + np.exp(-odds)), alone(3000))
    assert good["ece"] < 0.05 < bold["ece"]
    for row, slope in ((good, 1), (bold, 1 / 3)):
        low, high = row["slope_ci"]
        assert low < slope < high < low + 0.25


def test_a_named_class_that_is_right_half_as_often_as_it_says_is_off_by_half():
    codes = np.arange(400) % 2
    classes = np.tile([0.9, 0.1, 0, 0, 0, 0], (400, 1))
    assert class_calibration(codes, classes, alone(400))["ece"] == pytest.approx(0.4, abs=1e-3)


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
