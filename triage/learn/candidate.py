"""A finished run judged like a model: operating points from `val`, nothing packaged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from triage.assess.network import Mirrored, Reduced
from triage.assess.prepare import PREPARATION
from triage.assess.registry import Model, digest
from triage.domain.finding import CLASSES
from triage.errors import DataError
from triage.learn.answers import Infers, logits
from triage.learn.cache import cache_dir, pictures
from triage.learn.calibrate import calibration_of
from triage.learn.data import read_films
from triage.learn.labels import CODE_NOT_FRONTAL
from triage.learn.networks import InARow, finished
from triage.learn.recipe import Finished, Recipe
from triage.learn.runs import Run
from triage.learn.sampling import asked
from triage.learn.validate import NetworkEngine
from triage.learn.written import write_text


@dataclass(frozen=True)
class Candidate:
    """A run's weights with the operating points that they would be packaged with."""

    run: Run
    recipe: Recipe
    model: Model
    engine: Infers
    #: As it learnt, without the mirror image.
    network: torch.nn.Module

    def figures(self, split: str) -> Path:
        """Return where the run's evaluation on a split is kept."""
        return figures_of(self.run, split)


def figures_of(run: Run, split: str) -> Path:
    """Return where a run's evaluation on a split is kept."""
    return run.folder / f"figures-{split}.json"


def of_its_films(run: Run, document: Mapping[str, object]) -> bool:
    """Return whether an evaluation is of the films that a run learnt from, its `test` among them."""
    return document.get("data_sha256") == run.summary().get("data_sha256")


def candidate(
    folder: Path, data: Path, *, cache: Path | None = None, labels: Path | None = None
) -> Candidate:
    """Return a finished run as a model; scale and thresholds come from its own task in `val`.

    Raises:
        DataError: the folder is no finished run, its gate is not what it was, or the films have no `val` of
            the run's task.
        ModelRefused: the weights are missing or of another architecture.
    """
    run = Run(folder)
    recipe = _recipe_of(run)
    stage = recipe.stages[-1]
    everything = read_films(data, labels)
    films = everything.without(recipe.leave_out)
    task = asked(films, recipe.classes_of(stage))
    if recipe.gate:
        task |= films.codes == CODE_NOT_FRONTAL
    task &= films.splits == "val"
    if not task.any():
        msg = f"{data} has no film of the task of {folder.name} in the split 'val'."
        raise DataError(msg)
    network = finished(recipe.architecture, run.weights)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    whole = _behind_its_gate(run, recipe.gate, network) if recipe.gate else network
    engine = NetworkEngine(Mirrored(whole), torch.device("cpu"))
    val, indices = films.take(task), np.flatnonzero(task)
    values = logits(engine, pictures(films, cache_dir(cache)), indices, stage.size)
    found = calibration_of(val, values)

    model = Model(
        folder=folder,
        name=recipe.name,
        version=folder.name.removeprefix(f"{recipe.name}-"),
        architecture=recipe.architecture,
        classes=CLASSES,
        size=stage.size,
        preparation=PREPARATION,
        sha256=digest(run.weights),
        data_sha256=str(run.summary().get("data_sha256", "")),
        scale=found.scale,
        gate=found.gate,
        any_disease=found.any_disease,
        findings=found.findings,
    )
    return Candidate(run, recipe, model, engine, network)


def _recipe_of(run: Run) -> Recipe:
    if run.summary().get("state") != "finished":
        msg = f"{run.folder} is no finished run; give the folder that `triage train` named."
        raise DataError(msg)
    recipe = run.settings()
    if recipe is None:
        msg = f"{run.folder} has no settings of a run of this version; train it anew."
        raise DataError(msg)
    return recipe


def _behind_its_gate(run: Run, gate: Finished, network: torch.nn.Module) -> torch.nn.Module:
    """Return a run's network behind the one that the run named as its gate when it began.

    Raises:
        DataError: the gate's weights are not there any more, or are others.
    """
    kept = run.summary().get("gate") or {"weights": gate.weights, "sha256": ""}
    weights = Path(kept["weights"])
    if not weights.is_file() or digest(weights) != kept["sha256"]:
        msg = f"The gate {weights} of {run.folder.name} has changed since it began; train the run anew."
        raise DataError(msg)
    return InARow(Reduced(finished(gate.architecture, weights), gate.size), network)


def keep(made: Candidate, document: Mapping[str, object], split: str) -> bool:
    """Write a run's evaluation beside its weights; return whether it is of the films that the run is of.

    Figures of others are not kept, so that nobody takes them for the run's own.

    Raises:
        NotWritten: it can't be written.
    """
    if not of_its_films(made.run, document):
        return False
    write_text(made.figures(split), json.dumps(document, indent=1) + "\n")
    return True
