"""A training from its recipe to its weights; killed at any moment, it goes on as if nothing had been."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch

from triage.assess.registry import digest
from triage.errors import ConfigurationError, DataError, NotWritten, TrainingFailed, TriageError
from triage.learn import checkpoint, networks, rates, transfer
from triage.learn.cache import cache_dir, pictures
from triage.learn.data import Films, read_films
from triage.learn.distil import Teachers
from triage.learn.duplicates import refuse_leakage
from triage.learn.recipe import Distil, Recipe, read_recipe, without
from triage.learn.runs import Run, find_weights, new_run, refuse_knowing, run_to_resume
from triage.learn.sampling import Drawer, asked, chances
from triage.learn.together import Team, leading, processes_for
from triage.learn.training import Training


class Others(NamedTuple):
    """The weights of finished networks that a run needs: its start's, its teachers' and its gate's."""

    start: Path | None
    teachers: tuple[Path, ...]
    #: Needed when the run is judged, not before; it is to be there from the start.
    gate: Path | None = None

    def said(self) -> dict[str, Any]:
        """Return what the register keeps of them."""
        return {
            "start_from": _said_of(self.start),
            "teachers": [_said_of(teacher) for teacher in self.teachers],
            "gate": _said_of(self.gate),
        }


def _said_of(weights: Path | None) -> dict[str, str] | None:
    return None if weights is None else {"weights": str(weights.resolve()), "sha256": digest(weights)}


def train(
    recipe_path: Path,
    data: Path,
    root: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    cache: Path | None = None,
    leave_out: Sequence[str] = (),
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Train by a recipe and return the run's folder, in which `weights.safetensors` lies at the end.

    With `resume` the newest run of the recipe goes on from its checkpoint with as many processes as it began
    with; the films of each step are the same as they would have been. Of the sources of `leave_out` nothing
    is learnt.

    Raises:
        ConfigurationError: the recipe, its teachers, what it starts from or the device can't be used.
        DataError: films are missing or unreadable, a class is empty, a film is in two splits, or the run that
            is to go on began with others.
        ModelRefused: the checkpoint is of another architecture or no safetensors.
        TrainingFailed: the loss is no number, the answers collapsed, or what it began with has changed.
        NotWritten: the disk is full, or the runs can't be kept there.
    """
    on = choose_device(device)
    recipe = without(read_recipe(recipe_path), leave_out)
    everything = read_films(data)
    films = everything.without(recipe.leave_out)
    _refuse_empty(recipe, films)
    run = run_to_resume(root, recipe) if resume else new_run(root, recipe, datetime.now(UTC))
    if resume and run.summary().get("data_sha256") != everything.digest:
        began = run.folder.name
        msg = f"{data} has not the films that {began} began with; give those, or start without --resume."
        raise DataError(msg)
    # beginning or going on, what others have learnt must be there before hours of decoding
    others = _kept(recipe, run) if resume else _found(recipe, recipe.distil, root)
    grey = pictures(films, cache_dir(cache))
    if not resume:
        refuse_leakage(everything, grey)
    size = checkpoint.read_place(run.checkpoint).processes if resume else processes_for(recipe.processes, on)
    on = _where(run, size, on, device)
    if not resume:
        run.begin(recipe, everything.digest, datetime.now(UTC))
        run.note(processes=size, train_films=_train_films(recipe, films), **others.said())
    with run.alone():
        try:
            with leading(size, follow, recipe, films, cache, run.folder, others, resume) as team:
                training = _training(team, recipe, films, cache, run, others, on, say)
                if resume:
                    training.go_on()
                    run.note(state="running", why=None)
                training.run_stages()
        except BaseException as error:
            _note_end(run, error, say)
            raise
    return run.folder


def _where(run: Run, processes: int, on: torch.device, asked_for: str) -> torch.device:
    """Return where a run goes on: one that began with several processes stays on the processor.

    Raises:
        ConfigurationError: another device was asked for.
    """
    if processes == 1 or on.type == "cpu":
        return on
    if asked_for == "auto":
        return torch.device("cpu")
    msg = f"{run.folder.name} began with {processes} processes on a processor; go on with --device cpu."
    raise ConfigurationError(msg)


def _note_end(run: Run, error: BaseException, say: Callable[[str], None]) -> None:
    """Write into the register what ended a run; one that had ended and can't go on stays what it was."""
    facts = {"state": "failed", "why": str(error) if isinstance(error, TriageError) else repr(error)}
    if isinstance(error, KeyboardInterrupt):
        then = "go on with --resume" if run.checkpoint.exists() else "it has no checkpoint yet: start it anew"
        facts = {"state": "interrupted", "why": f"{run.folder.name} was interrupted; {then}."}
        say(facts["why"])
    # the disk that stopped the run may refuse this too; the run's own sentence matters more
    with contextlib.suppress(NotWritten):
        if run.summary().get("state") == "running":
            run.note(**facts)


def follow(
    team: Team,
    recipe: Recipe,
    films: Films,
    cache: Path | None,
    folder: Path,
    others: Others,
    resume: bool,
) -> None:
    """Learn as one of the other processes of a team."""
    training = _training(team, recipe, films, cache, Run(folder), others, torch.device("cpu"))
    if resume:
        training.go_on()
    training.run_stages()


def _training(
    team: Team,
    recipe: Recipe,
    films: Films,
    cache: Path | None,
    run: Run,
    others: Others,
    device: torch.device,
    say: Callable[[str], None] = lambda _: None,
) -> Training:
    drawer = Drawer(films, pictures(films, cache_dir(cache)), recipe)
    teachers = Teachers.load(recipe.distil, others.teachers, device) if recipe.distil else None
    return Training(drawer, run, device, team=team, teachers=teachers, start=others.start, say=say)


def _refuse_empty(recipe: Recipe, films: Films) -> None:
    """Stop at an empty class, or one without a film to judge by, before hours of decoding."""
    for stage in recipe.stages:
        classes = recipe.classes_of(stage)
        chances(films, classes)
        if not (asked(films, classes) & (films.splits == "val")).any():
            msg = (
                f"{films.root} has no film of the recipe's classes in the split 'val', by which it is judged."
            )
            raise DataError(msg)


def _train_films(recipe: Recipe, films: Films) -> list[int]:
    """Return from how many films each stage draws."""
    return [int((chances(films, recipe.classes_of(stage)) > 0).sum()) for stage in recipe.stages]


def _found(recipe: Recipe, distil: Distil | None, root: Path) -> Others:
    """Return the weights that a recipe and its teachers name, as `find_weights` does."""
    teachers = distil.teachers if distil else ()

    def find(given: str) -> Path:
        return find_weights(given, root, recipe.leave_out)

    return Others(
        find(recipe.start_from) if recipe.start_from else None,
        tuple(find(teacher.weights) for teacher in teachers),
        find(recipe.gate.weights) if recipe.gate else None,
    )


def _kept(recipe: Recipe, run: Run) -> Others:
    """Return the teachers' weights that a run began with; what it started from is in its checkpoint.

    Raises:
        ConfigurationError: a teacher has learnt from a source that the recipe leaves out.
        TrainingFailed: one has changed, or the recipe has others.
    """
    kept = run.summary().get("teachers", [])
    if len(kept) != len(recipe.distil.teachers if recipe.distil else ()):
        msg = (
            f"The recipe has not the teachers that {run.folder.name} began with; start anew without --resume."
        )
        raise TrainingFailed(msg)
    for teacher in kept:
        weights = Path(teacher["weights"])
        if not weights.is_file() or digest(weights) != teacher["sha256"]:
            msg = (
                f"The teacher {weights} of {run.folder.name} has changed since; start anew without --resume."
            )
            raise TrainingFailed(msg)
        refuse_knowing(weights, recipe.leave_out)
    return Others(None, tuple(Path(teacher["weights"]) for teacher in kept))


def try_rates(
    recipe_path: Path,
    data: Path,
    root: Path,
    target: Path,
    *,
    device: str = "auto",
    cache: Path | None = None,
    leave_out: Sequence[str] = (),
) -> float:
    """Return the rate at which a recipe's first stage learns fastest, and draw the trial to `target`.

    Its teachers, and what the recipe starts from, are looked for among the runs of `root`.

    Raises:
        ConfigurationError, DataError, ModelRefused, TrainingFailed, NotWritten: as `train`.
    """
    on = choose_device(device)
    recipe = without(read_recipe(recipe_path), leave_out)
    films = read_films(data).without(recipe.leave_out)
    distil = recipe.distil_of(recipe.stages[0])
    others = _found(recipe, distil, root)
    drawer = Drawer(films, pictures(films, cache_dir(cache)), recipe)
    torch.manual_seed(recipe.seed)
    network = networks.begun(recipe, on)
    if others.start is not None:
        transfer.start_from(network, others.start)
    teachers = Teachers.load(distil, others.teachers, on) if distil else None
    trial = rates.find_rate(network, drawer, on, teachers)
    rates.plot(trial, target)
    return trial.best


def choose_device(wanted: str) -> torch.device:
    """Return the device for auto, cpu or cuda.

    Raises:
        ConfigurationError: another word, or no GPU where one is wanted.
    """
    if wanted not in {"auto", "cpu", "cuda"}:
        msg = f"The device '{wanted}' is not known; give auto, cpu or cuda."
        raise ConfigurationError(msg)
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise ConfigurationError("No CUDA device is here; train with --device cpu or auto.")
    return torch.device("cuda" if there and wanted != "cpu" else "cpu")
