"""What the figures are held against: a plain baseline, and what a worthy model must reach.

The baseline is a DenseNet-121 at 96 pixels, six epochs, no equalisation, light augmentation, measured
once on the test films of the shipped model. The bars are the project's own; a card says where one is missed.
Of other films, those of `val` too, neither says anything, and nothing is held against them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Mark:
    """One figure of one row with the plain baseline's value and the bar, where there is one."""

    row: str
    figure: str
    baseline: float | None
    bar: float | None

    def value(self, document: Mapping[str, Any]) -> float | None:
        """Return what an evaluation gives for it."""
        found = document.get(self.row, {}).get(self.figure)
        return found if isinstance(found, float) else None


#: The sources of the films that baseline and bars are of.
_SOURCES = frozenset({"kermany", "nih_chestxray14", "rsna_2018", "jsrt", "tb_qatar", "covid_radiography"})

MARKS: tuple[Mark, ...] = (
    Mark("kermany_pneumonia", "auroc", 0.963, 0.98),
    Mark("kermany_pneumonia", "accuracy", 0.805, 0.92),
    Mark("kermany_pneumonia", "precision", 0.764, 0.905),
    Mark("kermany_pneumonia", "recall", 0.995, 0.965),
    Mark("kermany_bacterial_viral", "accuracy", 0.897, 0.91),
    Mark("three_classes_002", "macro_f1", 0.784, 0.92),
    Mark("three_classes_002", "recall_covid19", 0.861, 0.94),
    Mark("three_classes_002", "recall_pneumonia", 0.992, 0.965),
    Mark("three_classes_002", "recall_normal", 0.474, 0.82),
    Mark("four_classes_000", "accuracy", 0.827, 0.935),
    Mark("four_classes_000", "f1_covid19", 0.881, 0.95),
    Mark("four_classes_000", "f1_normal", 0.590, 0.85),
    Mark("four_classes_000", "f1_pneumonia", 0.868, 0.94),
    Mark("four_classes_000", "f1_tuberculosis", 0.957, 0.97),
    Mark("six_classes_004", "accuracy", 0.631, None),
    Mark("six_classes_all", "accuracy", 0.787, 0.84),
    Mark("six_classes_all", "balanced_accuracy", 0.783, None),
    Mark("six_classes_all", "macro_f1", 0.760, 0.82),
    Mark("tb_qatar", "auroc", 0.999, 0.998),
    Mark("tb_qatar", "accuracy", 0.978, 0.985),
    Mark("tb_qatar", "f1", 0.958, 0.975),
    Mark("tb_qatar_no_boxes", "f1", 0.933, 0.96),
    Mark("covid_all", "auroc", 0.972, None),
    Mark("covid_all", "f1", 0.819, 0.90),
    Mark("covid_all", "recall", 0.846, 0.92),
    Mark("rsna_2018", "auroc", 0.970, 0.975),
    Mark("rsna_2018_PA", "auroc", 0.957, 0.955),
    Mark("rsna_2018_AP", "auroc", 0.946, 0.955),
    Mark("nih_chestxray14", "auroc", 0.666, 0.73),
    Mark("nih_chestxray14_PA", "auroc", 0.580, None),
    Mark("nih_chestxray14_AP", "auroc", 0.861, 0.86),
    Mark("jsrt_nodule", "auroc", 0.474, None),
    Mark("any_disease", "auroc", 0.911, 0.94),
    Mark("any_disease", "sensitivity", 0.980, 0.97),
    Mark("any_disease", "specificity", 0.360, 0.60),
    Mark("any_disease", "lowest_specificity", 0.264, 0.45),
    Mark("gate", "frontal_recall", 0.999, 0.995),
    Mark("gate", "others_rejected", 0.987, 0.99),
)


def _held(document: Mapping[str, Any]) -> Iterator[tuple[Mark, float]]:
    """Yield every mark with the figure that is held against it, where the films are those of the marks."""
    sources = document.get("any_disease", {}).get("per_source", {})
    if document.get("split") != "test" or not set(sources) >= _SOURCES:
        return
    for mark in MARKS:
        value = mark.value(document)
        if value is not None:
            yield mark, value


def lines(document: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield row, figure, value, baseline, bar, and by how much the bar is missed."""
    for mark, value in _held(document):
        said = f"missed by {mark.bar - value:.4f}" if mark.bar is not None and value < mark.bar else ""
        yield mark.row, mark.figure, f"{value:.3f}", _number(mark.baseline), _number(mark.bar), said


def summary(document: Mapping[str, Any]) -> str:
    """Return how many bars are missed."""
    held = [(mark.bar, value) for mark, value in _held(document) if mark.bar is not None]
    return f"{sum(value < bar for bar, value in held)} of {len(held)} bars are missed."


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
