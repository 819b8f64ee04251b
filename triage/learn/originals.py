"""The systems that the recipes stand for: their figures beside those of our runs of the same recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triage.learn.candidate import figures_of, of_its_films
from triage.learn.runs import last_run
from triage.learn.table import aligned
from triage.learn.verify import FIGURES

_HEADS: tuple[str, ...] = ("recipe", "row", "figure", "theirs", "ours", "difference", "which run")
_NONE = "not trained to its end"
_UNJUDGED = "trained, not judged: triage evaluate --run"


@dataclass(frozen=True)
class Original:
    """One figure that a system reports of its own test films, and the recipe that stands for it."""

    recipe: str
    row: str
    figure: str
    value: float


#: As they were reported, most of them of test films of the same hospitals as the films that were learnt from;
#: the macro F1 of three classes and the accuracies of six and of bacterial or viral are of validation films,
#: and that of tuberculosis is what those who published the films reached.
ORIGINALS: tuple[Original, ...] = (
    Original("kermany_binary", "kermany_pneumonia", "auroc", 0.956),
    Original("kermany_binary", "kermany_pneumonia", "accuracy", 0.903),
    Original("kermany_binary", "kermany_pneumonia", "precision", 0.905),
    Original("kermany_binary", "kermany_pneumonia", "recall", 0.941),
    Original("three_classes_transfer", "three_classes_002", "macro_f1", 0.905),
    Original("three_classes_transfer", "three_classes_002", "recall_covid19", 1.0),
    Original("three_classes_transfer", "three_classes_002", "recall_pneumonia", 0.933),
    Original("three_classes_transfer", "three_classes_002", "recall_normal", 0.812),
    Original("four_classes_gated", "four_classes_000", "accuracy", 0.9322),
    Original("four_classes_gated", "four_classes_000", "f1_covid19", 0.95),
    Original("four_classes_gated", "four_classes_000", "f1_normal", 0.83),
    Original("four_classes_gated", "four_classes_000", "f1_pneumonia", 0.91),
    Original("four_classes_gated", "four_classes_000", "f1_tuberculosis", 0.92),
    Original("tb_pretrained", "tb_qatar", "accuracy", 0.983),
    Original("six_classes_progressive", "six_classes_004", "accuracy", 0.90),
    Original("six_classes_progressive", "kermany_bacterial_viral", "accuracy", 0.75),
)


def comparison(root: Path, shipped: Path | None) -> str:
    """Return their figures, ours and the difference, by recipe and then for the shipped model.

    Ours are those of the newest finished run of the recipe in `root`, as `triage evaluate --run` left them; a
    recipe without one says so. `shipped` is the folder of a model with its figures.
    """
    lines = [_HEADS]
    for recipe in dict.fromkeys(original.recipe for original in ORIGINALS):
        document, said = _of_run(root, recipe)
        lines += [_line(one, recipe, document, said) for one in ORIGINALS if one.recipe == recipe]
    if shipped is not None:
        document = _read(shipped / FIGURES)
        said = "/".join(shipped.parts[-2:]) + ("" if document else ", which has no figures")
        lines += [_line(one, "(shipped)", document, said) for one in ORIGINALS]
    return "\n".join(aligned(lines))


def _of_run(root: Path, recipe: str) -> tuple[Mapping[str, Any] | None, str]:
    run = last_run(root, recipe, state="finished")
    if run is None:
        return None, _NONE
    document = _read(figures_of(run, "test"))
    if document is not None and not of_its_films(run, document):
        document = None
    return document, _UNJUDGED if document is None else run.folder.name


def _read(path: Path) -> Mapping[str, Any] | None:
    try:
        document: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document


def _line(original: Original, name: str, document: Mapping[str, Any] | None, said: str) -> tuple[str, ...]:
    ours = (document or {}).get(original.row, {}).get(original.figure)
    shown = ("-", "-") if ours is None else (f"{ours:.3f}", f"{ours - original.value:+.3f}")
    return (name, original.row, original.figure, f"{original.value:.3f}", *shown, said)
