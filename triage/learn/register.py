"""The register of runs: what was tried, a line a stage, and what it gave."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from triage.learn.recipe import Recipe
from triage.learn.runs import Run, runs
from triage.learn.table import aligned

#: What a line tells, and the head of its column in print.
COLUMNS = {
    "run": "run",
    "stage": "stage",
    "state": "state",
    "network": "network",
    "films": "films",
    "drawn": "drawn",
    "epochs": "epochs",
    "size": "size",
    "learns": "learns",
    "rate": "rate",
    "changes": "changes",
    "loss": "loss",
    "val_loss": "val",
    "any_disease": "any",
    "macro_f1": "f1",
    "accuracy": "acc",
    "precision": "prec",
    "minutes": "min",
}
#: What a line takes from the stage's last look at `val`, as it is.
_LOOKED_AT = ("size", "loss", "val_loss", "any_disease", "macro_f1", "accuracy", "precision")
#: How numbers with a fraction are printed that are no figures of three digits.
_FORMS = {"rate": "g", "epochs": ".1f", "minutes": ".1f"}

Line = dict[str, Any]


def lines(root: Path) -> list[Line]:
    """Return the register, a line for each stage that a run has begun; what is not known is None.

    Raises:
        DataError: `root` is no folder, or a run's files can't be read.
    """
    return [dict.fromkeys(COLUMNS) | line for run in runs(root) for line in _of_run(run)]


def trial_table(root: Path) -> str:
    """Return the register as text.

    Raises:
        DataError: as `lines`.
    """
    rows = [list(COLUMNS.values()), *([_cell(*item) for item in line.items()] for line in lines(root))]
    return "\n".join(aligned(rows))


def _of_run(run: Run) -> Iterator[Line]:
    """Yield the lines of a run; the stages before its last are finished."""
    facts, recipe = run.summary(), run.settings()
    looks: dict[int, Line] = {look["stage"]: look for look in run.looks()}
    begun = list(looks) + _without_a_look(run, recipe, looks)
    named = {"run": run.folder.name, "state": facts.get("state")}
    if not begun:
        yield named
    sizes, until = facts.get("train_films"), 0.0
    for number in begun:
        look = looks.get(number, {})
        line = named | {"stage": number} | {name: look[name] for name in _LOOKED_AT if name in look}
        if number != begun[-1]:
            line["state"] = "finished"
        if recipe is not None:
            line |= _settings(recipe, number, look)
        if sizes:
            line["films"] = sizes[number - 1]
            line["epochs"] = round(line["drawn"] / sizes[number - 1], 2) if line.get("drawn") else None
        # a run that an earlier version began has looks that don't tell
        after = look.get("minutes", math.nan)
        line["minutes"], until = round(after - until, 2) if math.isfinite(after - until) else None, after
        yield line


def _without_a_look(run: Run, recipe: Recipe | None, looks: dict[int, Line]) -> list[int]:
    """Return the stage that a run is in, or has ended in, before its first look at `val`."""
    if recipe is None or run.summary().get("state") == "finished":
        return []
    last = max(looks, default=0)
    over = not last or run.stage_weights(last, recipe.stages[last - 1].size).exists()
    return [last + 1] if over and last < len(recipe.stages) else []


def _settings(recipe: Recipe, number: int, look: Line) -> Line:
    """Return what a recipe says of a stage, and how many films have been drawn in it until a look."""
    stage, before = recipe.stages[number - 1], recipe.stages[: number - 1]
    return {
        "drawn": look["seen"] - sum(part.films for part in before) if look else None,
        "network": recipe.architecture,
        "size": stage.size,
        "learns": stage.learn,
        "rate": stage.rate,
        "changes": recipe.augment_of(stage).on,
    }


def _cell(name: str, value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "on" if value else "off"
    return format(value, _FORMS.get(name, ".3f")) if isinstance(value, float) else str(value)
