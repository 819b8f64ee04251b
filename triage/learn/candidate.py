"""A finished run judged like a model: operating points from `val`, nothing packaged."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from triage.assess.network import Mirrored
from triage.assess.prepare import PREPARATION
from triage.assess.registry import Model, Thresholds, digest
from triage.domain.finding import CLASSES
from triage.errors import DataError
from triage.learn.answers import Infers, logits
from triage.learn.cache import cache_dir, pictures
from triage.learn.calibrate import Limits, calibration_of
from triage.learn.data import read_films
from triage.learn.networks import finished
from triage.learn.recipe import Recipe
from triage.learn.runs import Run
from triage.learn.sampling import asked
from triage.learn.validate import NetworkEngine


@dataclass(frozen=True)
class Candidate:
    """A run's weights with the operating points that they would be packaged with."""

    run: Run
    recipe: Recipe
    model: Model
    engine: Infers

    def figures(self, split: str) -> Path:
        """Return where the run's evaluation on a split is kept."""
        return figures_of(self.run, split)


def figures_of(run: Run, split: str) -> Path:
    """Return where a run's evaluation on a split is kept."""
    return run.folder / f"figures-{split}.json"


def candidate(folder: Path, data: Path, *, cache: Path | None = None) -> Candidate:
    """Return a finished run as a model; scale and thresholds come from its own task in `val`.

    Raises:
        DataError: the folder is no finished run, or the films have no `val` of the run's task.
        ModelRefused: the weights are missing or of another architecture.
    """
    run = Run(folder)
    recipe = _recipe_of(run)
    stage = recipe.stages[-1]
    everything = read_films(data)
    films = everything.without(recipe.leave_out)
    task = asked(films, stage.classes or recipe.classes) & (films.splits == "val")
    if not task.any():
        msg = f"{data} has no film of the task of {folder.name} in the split 'val'."
        raise DataError(msg)
    network = Mirrored(finished(recipe.architecture, run.weights))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    engine = NetworkEngine(network, torch.device("cpu"))
    val, indices = films.take(task), np.flatnonzero(task)
    values = logits(engine, pictures(films, cache_dir(cache)), indices, stage.size)
    found = calibration_of(val, values)

    def thresholds(limits: Limits) -> Thresholds:
        return Thresholds(limits.low, limits.high)

    model = Model(
        folder=folder,
        name=recipe.name,
        version=folder.name.removeprefix(f"{recipe.name}-"),
        architecture=recipe.architecture,
        classes=CLASSES,
        size=stage.size,
        preparation=PREPARATION,
        sha256=digest(run.weights),
        data_sha256=everything.digest,
        scale=found.scale,
        gate=found.gate,
        any_disease=thresholds(found.any_disease),
        findings={finding: thresholds(limits) for finding, limits in found.findings.items()},
    )
    return Candidate(run, recipe, model, engine)


def _recipe_of(run: Run) -> Recipe:
    if run.summary().get("state") != "finished":
        msg = f"{run.folder} is no finished run; give the folder that `triage train` named."
        raise DataError(msg)
    recipe = run.settings()
    if recipe is None:
        msg = f"{run.folder} has no settings of a run of this version; train it anew."
        raise DataError(msg)
    return recipe


def keep(made: Candidate, document: object, split: str) -> None:
    """Write a run's evaluation beside its weights.

    Raises:
        DataError: it can't be written.
    """
    path = made.figures(split)
    fresh = path.with_name(f".{path.name}.part")
    try:
        fresh.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        msg = f"{path} can't be written: {error.strerror}."
        raise DataError(msg) from None
