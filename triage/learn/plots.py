"""Pictures of an evaluation: ROC, reliability, confusion, and the films that were judged worst."""

from __future__ import annotations

import io
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from triage.domain.finding import CLASSES
from triage.learn.answers import Answers
from triage.learn.labels import NORMAL
from triage.learn.measures import confusion
from triage.learn.quality import reliability

_WORST = 24
_TILE, _CAPTION, _COLUMNS = 160, 34, 6


def png(figure: Figure) -> bytes:
    """Return a figure as PNG."""
    FigureCanvasAgg(figure)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=100)
    return out.getvalue()


def roc(frontal: Answers) -> bytes:
    """Return the ROC curves of any disease and of every class."""
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    curves = [("any disease", frontal.films.codes != NORMAL, frontal.diseased)]
    single = frontal.take(frontal.films.codes < len(CLASSES))
    curves += [
        (name, single.films.codes == code, single.classes[:, code])
        for code, name in enumerate(CLASSES)
        if code
    ]
    for name, truth, score in curves:
        if truth.any() and not truth.all():
            false, true, _ = roc_curve(truth, score)
            axes.plot(false, true, label=name.replace("_", " "), linewidth=2 if name == "any disease" else 1)
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.5)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", title="ROC")
    axes.legend(loc="lower right", fontsize="small")
    return png(figure)


def reliability_plot(frontal: Answers) -> bytes:
    """Return said against seen shares of any disease."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    points = reliability(frontal.films.codes != NORMAL, frontal.diseased)
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.5)
    axes.plot([said for said, _, _ in points], [seen for _, seen, _ in points], marker="o")
    for said, seen, count in points:
        axes.annotate(str(count), (said, seen), textcoords="offset points", xytext=(6, -10), fontsize="small")
    axes.set(xlabel="probability said", ylabel="share diseased", title="Any disease: reliability")
    return png(figure)


def confusion_plot(frontal: Answers) -> bytes:
    """Return the confusion of the six classes as counts."""
    single = frontal.take(frontal.films.codes < len(CLASSES))
    matrix = confusion(single.films.codes, single.classes.argmax(axis=1), len(CLASSES))
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.subplots()
    axes.imshow(matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    names = [name.replace("_", "\n") for name in CLASSES]
    axes.set(xlabel="answer", ylabel="truth", title="Six classes")
    axes.set_xticks(range(len(names)), names, fontsize="small")
    axes.set_yticks(range(len(names)), names, fontsize="small")
    for (row, column), count in np.ndenumerate(matrix):
        axes.text(column, row, str(count), ha="center", va="center", fontsize="small")
    return png(figure)


def worst(frontal: Answers, pictures: Sequence[npt.NDArray[np.uint8]]) -> bytes:
    """Return the films with the highest loss as one sheet; `pictures` are those of `frontal`, in order."""
    single = np.flatnonzero(frontal.films.codes < len(CLASSES))
    codes = frontal.films.codes[single]
    own = frontal.classes[single, codes]
    chosen = np.argsort(own, kind="stable")[:_WORST]
    rows = max(1, -(-len(chosen) // _COLUMNS))
    sheet = np.full((rows * (_TILE + _CAPTION), _COLUMNS * _TILE), 255, np.uint8)
    for place, at in enumerate(chosen):
        top, left = place // _COLUMNS * (_TILE + _CAPTION), place % _COLUMNS * _TILE
        index = int(single[at])
        tile = cv2.resize(np.asarray(pictures[index]), (_TILE, _TILE), interpolation=cv2.INTER_AREA)
        sheet[top : top + _TILE, left : left + _TILE] = tile
        said = int(frontal.classes[index].argmax())
        for line, text in enumerate((f"is {CLASSES[codes[at]]}", f"said {CLASSES[said]}")):
            where = (left + 2, top + _TILE + 13 + 14 * line)
            cv2.putText(sheet, text[:26], where, cv2.FONT_HERSHEY_SIMPLEX, 0.36, 0, 1, cv2.LINE_AA)
    return bytes(cv2.imencode(".png", sheet)[1])
