"""The rows of figures that `evaluate` prints, one function each; thresholds come from `val` alone.

A row is a dictionary with `n`, its figures and their 95 % intervals as `<figure>_ci`. The same functions
serve the model and the border-only baseline, so that both are judged alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from triage.domain.finding import CLASSES
from triage.learn.answers import Answers
from triage.learn.calibrate import SENSITIVITY, threshold_for, threshold_of_f1
from triage.learn.data import Mask
from triage.learn.labels import BACTERIAL, CODE_UNLABELLED, CODE_UNSPECIFIED, COVID, NORMAL, TB, VIRAL
from triage.learn.measures import Row, most_confused, rounded

Figures = dict[str, object]
Ints = npt.NDArray[np.int64]

#: The make-up of the six-class task of the seed: films by class, in the order of `CLASSES`.
SEED_MAKE_UP = (1122, 2530, 1345, 288, 394, 5597)
_SEED = 4
_FEW = 5


@dataclass(frozen=True)
class Judgement:
    """Answers to the films to judge, answers to `val` for thresholds, and the model's own points."""

    judged: Answers
    val: Answers
    any_disease: float
    gate: float


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


def six_classes_seed(j: Judgement) -> Figures:
    """Return the six classes in the make-up of the seed: its normals are children only."""
    codes = j.judged.films.codes
    wanted = (codes < len(CLASSES)) & ((codes != NORMAL) | _is(j.judged, "kermany"))
    chosen = j.judged.take(_made_up(codes, wanted))
    figures = _grouped(chosen, {name: (index,) for index, name in enumerate(CLASSES)})
    figures["most_confused"] = most_confused(chosen.films.codes, chosen.classes.argmax(axis=1), CLASSES)
    return figures


def _made_up(codes: Ints, wanted: Mask) -> Mask:
    """Return as many films as can be had in the proportions of the seed, always the same ones."""
    counts = np.bincount(codes[wanted], minlength=len(CLASSES))[: len(CLASSES)]
    factor = min((have / want for have, want in zip(counts, SEED_MAKE_UP, strict=True)), default=0.0)
    generator = np.random.default_rng(_SEED)
    chosen = np.zeros(len(codes), np.bool_)
    for index, want in enumerate(SEED_MAKE_UP):
        mine = np.flatnonzero(wanted & (codes == index))
        chosen[generator.permutation(mine)[: round(want * factor)]] = True
    return chosen


def six_classes_all(j: Judgement) -> Figures:
    """Return the six classes over every film that has one of them."""
    chosen = j.judged.take(j.judged.films.codes < len(CLASSES))
    figures = _grouped(chosen, {name: (index,) for index, name in enumerate(CLASSES)})
    figures["most_confused"] = most_confused(chosen.films.codes, chosen.classes.argmax(axis=1), CLASSES)
    return figures


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


def any_disease(j: Judgement) -> Figures:
    """Return any disease v normal over every frontal film, at the one threshold from `val`."""
    chosen = j.judged.take(j.judged.films.frontal)
    truth = chosen.films.codes != NORMAL
    row = _row(chosen)
    row.area(truth, chosen.diseased)
    row.binary(truth, chosen.diseased >= j.any_disease, ("sensitivity", "specificity"))
    row.row["threshold"] = rounded(j.any_disease)
    row.row["per_source"] = {
        str(source): _any_of_source(chosen.take(chosen.films.sources == source), j.any_disease)
        for source in np.unique(chosen.films.sources)
    }
    return row.row


def _any_of_source(part: Answers, threshold: float) -> Figures:
    truth = part.films.codes != NORMAL
    # few films are no reason to hide a source: its interval says how little is known
    row = Row(_patients(part))
    row.row["normals"] = int((~truth).sum())
    if truth.any() and not truth.all():
        row.area(truth, part.diseased)
    row.binary(truth, part.diseased >= threshold, ("sensitivity", "specificity"))
    return row.row


def strangers(j: Judgement, sources: Iterable[str]) -> dict[str, Figures]:
    """Return what the model makes of each source that it has never seen: any disease, and each class.

    The recall of a class is that by the most likely one.
    """
    found = {}
    for source in sources:
        chosen = _source(j.judged, source)
        row = _any_of_source(chosen, j.any_disease)
        single = chosen.take(chosen.films.codes < len(CLASSES))
        recalls = Row(_patients(single))
        recalls.answers(
            single.films.codes, single.classes.argmax(axis=1), CLASSES, ("accuracy",), ("recall",)
        )
        found[source] = row | {key: value for key, value in recalls.row.items() if key != "n"}
    return found


def gate(j: Judgement) -> Figures:
    """Return frontal chest films against everything else that is labelled."""
    chosen = j.judged.take(j.judged.films.codes < CODE_UNLABELLED)
    truth = chosen.films.frontal
    row = _row(chosen)
    row.area(truth, chosen.gate)
    inner = _row(chosen)
    inner.binary(truth, chosen.gate >= j.gate, ("sensitivity", "specificity"))
    for ours, theirs in (("frontal_recall", "sensitivity"), ("others_rejected", "specificity")):
        for suffix in ("", "_ci"):
            if theirs + suffix in inner.row:
                row.row[ours + suffix] = inner.row[theirs + suffix]
    row.row["threshold"] = rounded(j.gate)
    return row.row


ROWS: Mapping[str, Callable[[Judgement], Figures]] = {
    "kermany_pneumonia": kermany_pneumonia,
    "kermany_bacterial_viral": kermany_bacterial_viral,
    "three_classes_002": three_classes,
    "four_classes_000": four_classes,
    "six_classes_004": six_classes_seed,
    "six_classes_all": six_classes_all,
    "tb_qatar": tb_qatar,
    "tb_qatar_no_boxes": lambda j: tb_qatar(j, boxes=False),
    "covid_all": covid_all,
    "rsna_2018": lambda j: normal_against_rest(j, "rsna_2018"),
    "rsna_2018_PA": lambda j: normal_against_rest(j, "rsna_2018", "PA"),
    "rsna_2018_AP": lambda j: normal_against_rest(j, "rsna_2018", "AP"),
    "nih_chestxray14": lambda j: normal_against_rest(j, "nih_chestxray14"),
    "nih_chestxray14_PA": lambda j: normal_against_rest(j, "nih_chestxray14", "PA"),
    "nih_chestxray14_AP": lambda j: normal_against_rest(j, "nih_chestxray14", "AP"),
    "jsrt_nodule": lambda j: normal_against_rest(j, "jsrt"),
    "any_disease": any_disease,
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
    return Row(_patients(answers))


def _patients(answers: Answers) -> npt.NDArray[np.str_]:
    return answers.films.column(lambda film: f"{film.source}:{film.patient}")


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
    wanted = ("accuracy", "balanced_accuracy", "macro_f1")
    row.answers(truth, summed.argmax(axis=1), names, wanted, ("f1", "recall"))
    return row.row
