"""The rows of figures that `evaluate` prints, one function each; thresholds come from `val` alone.

A row is a dictionary with `n`, its figures and their 95 % intervals as `<figure>_ci`. The same functions
serve the model and the border-only baseline, so that both are judged alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from triage.domain.finding import CLASSES, Outcome
from triage.learn.answers import Answers, Floats
from triage.learn.calibrate import SENSITIVITY, threshold_for, threshold_of_f1
from triage.learn.data import Mask
from triage.learn.labels import BACTERIAL, CODE_UNLABELLED, CODE_UNSPECIFIED, COVID, NORMAL, TB, VIRAL
from triage.learn.measures import Row, confusion, most_confused, rounded

Figures = dict[str, Any]
Ints = npt.NDArray[np.int64]

#: Films by class, as in `CLASSES`, of the system that `six_classes_progressive` stands for.
ORIGINAL_MAKE_UP = (1122, 2530, 1345, 288, 394, 5597)
_SEED = 4
_FEW = 5
#: Films from which on the calibration of a part of them says something.
CALIBRATION = 100
#: Normal films from which on a source's specificity counts among those of which the lowest is told.
_NORMALS = 50


@dataclass(frozen=True)
class Judgement:
    """Answers to the films to judge, answers to `val` for thresholds, and the model's own points."""

    judged: Answers
    val: Answers
    any_disease: float
    gate: float
    #: The service's rule from the class probabilities of a film to its outcome; none for the border.
    rule: Callable[[Floats], Outcome] | None = None


def kermany_pneumonia(j: Judgement) -> Figures:
    """Return pneumonia v normal in the children's set; threshold at the sensitivity of `val`."""
    chosen, val = _source(j.judged, "kermany"), _source(j.val, "kermany")
    row = _row(chosen)
    ill = val.films.codes != NORMAL
    _need(ill)
    threshold = threshold_for(val.diseased[ill], SENSITIVITY)
    truth = chosen.films.codes != NORMAL
    row.area(truth, chosen.diseased)
    row.binary(truth, chosen.diseased >= threshold, ("accuracy", "precision", "recall", "specificity", "f1"))
    row.row["threshold"] = rounded(threshold)
    return row.row


def kermany_bacterial_viral(j: Judgement) -> Figures:
    """Return bacterial v viral among the children's pneumonias."""
    chosen = _source(j.judged, "kermany")
    return _grouped(chosen.take(chosen.films.codes != NORMAL), {"bacterial": (BACTERIAL,), "viral": (VIRAL,)})


_PNEUMONIA = (BACTERIAL, VIRAL)
_SIX = {name: (index,) for index, name in enumerate(CLASSES)}


def three_classes(j: Judgement) -> Figures:
    """Return normal, pneumonia and COVID-19: the children's set with every COVID-19 film."""
    chosen = j.judged.take(_is(j.judged, "kermany") | (j.judged.films.codes == COVID))
    return _grouped(chosen, {"normal": (NORMAL,), "pneumonia": _PNEUMONIA, "covid19": (COVID,)})


def four_classes(j: Judgement) -> Figures:
    """Return those three and tuberculosis."""
    codes = j.judged.films.codes
    chosen = j.judged.take(_is(j.judged, "kermany") | (codes == COVID) | (codes == TB))
    groups = {"normal": (NORMAL,), "pneumonia": _PNEUMONIA, "covid19": (COVID,), "tuberculosis": (TB,)}
    return _grouped(chosen, groups)


def six_classes_original(j: Judgement) -> Figures:
    """Return the six classes in the make-up of the original: its normals are children only."""
    codes = j.judged.films.codes
    wanted = (codes < len(CLASSES)) & ((codes != NORMAL) | _is(j.judged, "kermany"))
    return _grouped(j.judged.take(_made_up(codes, wanted)), _SIX)


def _made_up(codes: Ints, wanted: Mask) -> Mask:
    """Return as many films as can be had in the proportions of the original, always the same ones."""
    counts = np.bincount(codes[wanted], minlength=len(CLASSES))[: len(CLASSES)]
    factor = min((have / want for have, want in zip(counts, ORIGINAL_MAKE_UP, strict=True)), default=0.0)
    generator = np.random.default_rng(_SEED)
    chosen = np.zeros(len(codes), np.bool_)
    for index, want in enumerate(ORIGINAL_MAKE_UP):
        mine = np.flatnonzero(wanted & (codes == index))
        chosen[generator.permutation(mine)[: round(want * factor)]] = True
    return chosen


def six_classes_all(j: Judgement) -> Figures:
    """Return the six classes over every film that has one of them."""
    return _grouped(j.judged.take(j.judged.films.codes < len(CLASSES)), _SIX)


def tb_qatar(j: Judgement, *, boxes: bool = True) -> Figures:
    """Return tuberculosis v normal in its set, with or without the films on which white boxes lie."""
    chosen, val = _source(j.judged, "tb_qatar"), _source(j.val, "tb_qatar")
    if not boxes:
        chosen = chosen.take(np.array([not row.boxed for row in chosen.films.rows], np.bool_))
    row = _row(chosen)
    _need(val.films.codes == TB)
    threshold = threshold_of_f1(val.films.codes == TB, val.classes[:, TB])
    truth = chosen.films.codes == TB
    row.area(truth, chosen.classes[:, TB])
    row.binary(truth, chosen.classes[:, TB] >= threshold, ("f1", "accuracy", "recall", "precision"))
    row.row["threshold"] = rounded(threshold)
    return row.row


def covid_all(j: Judgement) -> Figures:
    """Return COVID-19 among every frontal film, by the most likely class."""
    chosen = j.judged.take(j.judged.films.frontal)
    truth = chosen.films.codes == COVID
    row = _row(chosen)
    row.area(truth, chosen.classes[:, COVID])
    row.binary(truth, chosen.classes.argmax(axis=1) == COVID, ("f1", "precision", "recall"))
    return row.row


def normal_against_rest(j: Judgement, source: str, view: str = "") -> Figures:
    """Return normal v the rest in one source, in one view where given."""
    chosen = _source(j.judged, source)
    if view:
        chosen = chosen.take(np.array([row.view.startswith(view) for row in chosen.films.rows], np.bool_))
    row = _row(chosen)
    row.area(chosen.films.codes != NORMAL, chosen.diseased)
    return row.row


def nih(j: Judgement) -> Figures:
    """Return normal v the rest in the set whose labels were mined from reports.

    Beside it the areas over the films that radiologists read again (`FilmRow.original_label` has their
    class): by what they called the films, and by the mined labels of the same films.
    """
    figures = normal_against_rest(j, "nih_chestxray14")
    chosen = _source(j.judged, "nih_chestxray14")
    reread = np.array([_reread(row.original_label) for row in chosen.films.rows])
    there = chosen.take(reread != "")
    ill = reread[reread != ""] != "Normal"
    if len(there.films) < _FEW:
        return figures
    for key, truth in (("auroc_reread", ill), ("auroc_same_films_mined", there.films.codes != NORMAL)):
        row = _row(there)
        row.area(truth, there.diseased)
        figures |= {key: row.row["auroc"], f"{key}_ci": row.row.get("auroc_ci"), f"{key}_n": len(ill)}
    return figures


def _reread(original: str) -> str:
    """Return the class of `... [RSNA id: class]`, or nothing."""
    found = re.search(r"\[RSNA [^:\]]*: *([^\]]+)\]", original)
    return found[1].strip() if found else ""


def any_disease(j: Judgement) -> Figures:
    """Return any disease v normal over every frontal film, at the one threshold from `val`."""
    chosen = j.judged.take(j.judged.films.frontal)
    figures = {**_row(chosen).row, **diseased(chosen, j.any_disease), "threshold": rounded(j.any_disease)}
    parts = {
        source: diseased(chosen.take(chosen.films.sources == source), j.any_disease)
        for source in _names(chosen.films.sources)
    }
    told = {source: part for source, part in parts.items() if part["normals"] >= _NORMALS}
    if told:
        worst = min(told, key=lambda source: float(told[source]["specificity"]))
        figures["lowest_specificity"] = told[worst]["specificity"]
        figures["lowest_specificity_ci"] = told[worst]["specificity_ci"]
        figures["lowest_specificity_n"] = told[worst]["normals"]
        figures["lowest_specificity_source"] = worst
    return figures | {"per_source": parts}


def diseased(part: Answers, threshold: float) -> Figures:
    """Return the any-disease figures of some frontal films, however few: the intervals say what is known."""
    truth = part.films.codes != NORMAL
    row = Row(part.films.patients)
    row.row["normals"] = int((~truth).sum())
    both = truth.any() and not truth.all()
    if both:
        row.area(truth, part.diseased)
    row.binary(truth, part.diseased >= threshold, ("sensitivity", "specificity"))
    if both and len(truth) >= CALIBRATION:
        row.calibration(truth, part.diseased)
    return row.row


def outcome(j: Judgement) -> Figures:
    """Return what the service answers to the diseased and to the normal among the frontal films."""
    if j.rule is None:
        raise _TooFew
    chosen = j.judged.take(j.judged.films.frontal)
    figures = _row(chosen).row
    said = np.array(
        [
            j.rule(classes) if gate >= j.gate else Outcome.NOT_EVALUATED
            for classes, gate in zip(chosen.classes, chosen.gate, strict=True)
        ],
        np.str_,
    )
    return {
        **figures,
        **_outcomes(chosen, said),
        "per_source": {
            source: _outcomes(chosen.take(mine), said[mine])
            for source in _names(chosen.films.sources)
            for mine in [chosen.films.sources == source]
        },
    }


def _outcomes(part: Answers, said: npt.NDArray[np.str_]) -> Figures:
    truth = part.films.codes != NORMAL
    row = Row(part.films.patients)
    row.row["normals"] = int((~truth).sum())
    for name, among in (("diseased", truth), ("normal", ~truth)):
        for answer in Outcome:
            row.share(f"{answer}_of_{name}", said == answer, among)
    return row.row


def strangers(j: Judgement, sources: Iterable[str]) -> dict[str, Figures]:
    """Return what the model makes of each source that it has never seen: any disease, and each class.

    The recall of a class is that by the most likely one.
    """
    found = {}
    for source in sources:
        chosen = _source(j.judged, source)
        single = chosen.take(chosen.films.codes < len(CLASSES))
        found[source] = diseased(chosen, j.any_disease) if len(chosen.films) else {"n": 0}
        if len(single.films):
            recalls = Row(single.films.patients)
            recalls.answers(
                single.films.codes, single.classes.argmax(axis=1), CLASSES, ("accuracy",), ("recall",)
            )
            found[source] |= {key: value for key, value in recalls.row.items() if key != "n"}
    return found


def gate(j: Judgement) -> Figures:
    """Return frontal chest films against everything else that is labelled, and what else there is by kind.

    The source of a picture that is no frontal film tells its kind. Unlabelled ones have figures of their own:
    they count nowhere, since it may be right to judge them (a film on its side is turned by the service).
    """
    chosen = j.judged.take(j.judged.films.codes < CODE_UNLABELLED)
    truth = chosen.films.frontal
    row = _row(chosen)
    row.area(truth, chosen.gate)
    passed = chosen.gate >= j.gate
    row.share("frontal_recall", passed, truth)
    row.share("others_rejected", ~passed, ~truth)
    row.row["threshold"] = rounded(j.gate)
    row.row["per_kind"] = _turned_away(chosen.take(~truth), j.gate)
    row.row["per_kind_unlabelled"] = _turned_away(
        j.judged.take(j.judged.films.codes == CODE_UNLABELLED), j.gate
    )
    return row.row


def _turned_away(part: Answers, threshold: float) -> dict[str, Figures]:
    """Return, of each source, how many pictures there are, how many pass the gate, and the share rejected."""
    passed = part.gate >= threshold
    return {
        source: {"n": len(mine), "passed": int(mine.sum()), "rejected": rounded(1 - mine.mean())}
        for source in _names(part.films.sources)
        for mine in [passed[part.films.sources == source]]
    }


ROWS: Mapping[str, Callable[[Judgement], Figures]] = {
    "kermany_pneumonia": kermany_pneumonia,
    "kermany_bacterial_viral": kermany_bacterial_viral,
    "three_classes_002": three_classes,
    "four_classes_000": four_classes,
    "six_classes_004": six_classes_original,
    "six_classes_all": six_classes_all,
    "tb_qatar": tb_qatar,
    "tb_qatar_no_boxes": lambda j: tb_qatar(j, boxes=False),
    "covid_all": covid_all,
    "rsna_2018": lambda j: normal_against_rest(j, "rsna_2018"),
    "rsna_2018_PA": lambda j: normal_against_rest(j, "rsna_2018", "PA"),
    "rsna_2018_AP": lambda j: normal_against_rest(j, "rsna_2018", "AP"),
    "nih_chestxray14": nih,
    "nih_chestxray14_PA": lambda j: normal_against_rest(j, "nih_chestxray14", "PA"),
    "nih_chestxray14_AP": lambda j: normal_against_rest(j, "nih_chestxray14", "AP"),
    "jsrt_nodule": lambda j: normal_against_rest(j, "jsrt"),
    "any_disease": any_disease,
    "outcome": outcome,
    "gate": gate,
}


def rows(judgement: Judgement, keys: Iterable[str] = ROWS) -> dict[str, Figures]:
    """Return every row, or those of some keys, for which there are enough films."""
    found = {}
    for key in keys:
        try:
            figures = ROWS[key](judgement)
        except _TooFew:
            continue
        found[key] = figures
    return found


class _TooFew(Exception):
    """A row without films: it is left out."""


def _row(answers: Answers) -> Row:
    if len(answers.films) < _FEW:
        raise _TooFew
    return Row(answers.films.patients)


def _names(values: npt.NDArray[np.str_]) -> list[str]:
    return [str(value) for value in np.unique(values)]


def _need(positive: Mask) -> None:
    """Stop a row whose threshold can't be taken from `val`, since no such film is there."""
    if not positive.any():
        raise _TooFew


def _is(answers: Answers, source: str) -> Mask:
    return (answers.films.sources == source) & answers.films.frontal


def _source(answers: Answers, source: str) -> Answers:
    return answers.take(_is(answers, source))


def _grouped(answers: Answers, groups: Mapping[str, tuple[int, ...]]) -> Figures:
    """Return figures of a task whose classes are sets of the model's; the most likely set is the answer.

    Films of no class of the task are left out.
    """
    names = list(groups)
    home = {code: index for index, members in enumerate(groups.values()) for code in members}
    if _PNEUMONIA in groups.values():
        home[CODE_UNSPECIFIED] = list(groups.values()).index(_PNEUMONIA)
    answers = answers.take(np.isin(answers.films.codes, list(home)))
    row = _row(answers)
    summed = np.stack([answers.classes[:, list(members)].sum(axis=1) for members in groups.values()], axis=1)
    truth = np.array([home[int(code)] for code in answers.films.codes], np.int64)
    said = summed.argmax(axis=1)
    row.answers(truth, said, names, ("accuracy", "balanced_accuracy", "macro_f1"), ("f1", "recall"))
    row.row["confusion"] = {"classes": names, "films": confusion(truth, said, len(names)).tolist()}
    row.row["most_confused"] = most_confused(truth, said, names)
    return row.row
