"""The folders of training runs: what each keeps of itself, and how one is found."""

from __future__ import annotations

import fcntl
import json
import math
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import matplotlib.figure

from triage.errors import ConfigurationError, DataError, TrainingFailed
from triage.learn.recipe import Recipe, name_without
from triage.learn.written import whole, write_text

CHECKPOINT = "checkpoint.safetensors"
WEIGHTS = "weights.safetensors"
_SETTINGS = "settings.json"
_SUMMARY = "run.json"
_METRICS = "metrics.jsonl"


class Run:
    """One run's folder: settings, metrics a line a look, curves, the checkpoint and the weights."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def checkpoint(self) -> Path:
        """The file that `--resume` goes on from."""
        return self.folder / CHECKPOINT

    @property
    def weights(self) -> Path:
        """The weights that the run ended with, or its best ones."""
        return self.folder / WEIGHTS

    def stage_weights(self, number: int, size: int) -> Path:
        """Return where the weights lie that a stage, counted from 1, ended with."""
        return self.folder / f"stage-{number}-{size}.safetensors"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the run, so that two processes never write one folder; whoever dies lets go of it.

        Raises:
            TrainingFailed: another process trains it.
        """
        held = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                msg = f"{self.folder.name} is being trained by another process; wait for it or stop it."
                raise TrainingFailed(msg) from None
            yield
        finally:
            os.close(held)

    def begin(self, recipe: Recipe, data_digest: str, now: datetime) -> None:
        """Write the settings of a new run."""
        write_text(self.folder / _SETTINGS, recipe.model_dump_json(indent=2))
        self.note(
            recipe=recipe.name,
            about=recipe.about,
            recipe_digest=recipe.digest,
            data_sha256=data_digest,
            started=now.isoformat(),
            state="running",
        )

    def note(self, **facts: Any) -> None:
        """Add facts to what the register knows of the run."""
        write_text(self.folder / _SUMMARY, json.dumps({**self.summary(), **facts}, indent=2))

    def summary(self) -> dict[str, Any]:
        """Return what the register knows of the run; nothing where it has not begun."""
        try:
            facts: dict[str, Any] = json.loads((self.folder / _SUMMARY).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            msg = f"{self.folder / _SUMMARY} can't be read ({error}); remove that run's folder."
            raise DataError(msg) from None
        return facts

    def settings(self) -> Recipe | None:
        """Return what the run is trained by; None where the folder doesn't say so in this version's words."""
        try:
            return Recipe.model_validate_json((self.folder / _SETTINGS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def looks(self) -> list[dict[str, Any]]:
        """Return all metrics so far, a look each.

        Raises:
            DataError: they can't be read.
        """
        path = self.folder / _METRICS
        try:
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        except FileNotFoundError:
            return []
        except ValueError as error:
            msg = f"{path} can't be read ({error}); remove that run's folder."
            raise DataError(msg) from None

    def record(self, metrics: list[dict[str, Any]]) -> None:
        """Write all metrics so far, a line a look, and draw the curves."""
        write_text(self.folder / _METRICS, "".join(json.dumps(line) + "\n" for line in metrics))
        curves(metrics, self.folder / "curves.png")


def new_run(root: Path, recipe: Recipe, now: datetime) -> Run:
    """Return a run with a folder name that no other has; nothing is written yet.

    Raises:
        DataError: `root` is no folder.
    """
    _refuse_file(root)
    name = f"{recipe.name}-{now:%Y%m%d-%H%M%S}"
    number = 1
    while (root / name).exists():
        number += 1
        name = f"{recipe.name}-{now:%Y%m%d-%H%M%S}-{number}"
    return Run(root / name)


def last_run(root: Path, recipe: str, state: str = "") -> Run | None:
    """Return the newest run of a recipe, given by name, that has a checkpoint; in a state where given."""
    found = [run for run in _begun(root, recipe) if run.checkpoint.exists()]
    return next((run for run in found if not state or run.summary().get("state") == state), None)


def _begun(root: Path, recipe: str) -> list[Run]:
    """Return all runs of a recipe, given by name, the newest first."""
    found = [run for run in runs(root) if run.summary().get("recipe") == recipe]
    return sorted(found, key=lambda run: (str(run.summary()["started"]), run.folder.name), reverse=True)


def run_to_resume(root: Path, recipe: Recipe) -> Run:
    """Return the newest run of a recipe.

    Raises:
        DataError: there is none, or it has no checkpoint yet.
    """
    run = last_run(root, recipe.name)
    if run is None:
        msg = (
            f"No run of the recipe '{recipe.name}' with a checkpoint lies in {root}; start without --resume."
        )
        raise DataError(msg)
    newest = _begun(root, recipe.name)[0]
    if newest.folder != run.folder:
        msg = (
            f"{newest.folder.name} has no checkpoint yet; start without --resume, or remove it to go "
            f"on with {run.folder.name}."
        )
        raise DataError(msg)
    return run


def find_weights(given: str, root: Path, leave_out: Sequence[str] = ()) -> Path:
    """Return the weights that are meant by a file, a run's folder, or a recipe: its newest finished run.

    Where sources are left out, a recipe's run must have left them out too, or its weights would tell of them.

    Raises:
        ConfigurationError: there are none, or they may have learnt from a source that is left out.
    """
    for file in (root / given, root / given / WEIGHTS):
        if file.is_file():
            refuse_knowing(file, leave_out)
            return file
    for name in dict.fromkeys((name_without(given, leave_out), given)):
        run = last_run(root, name, state="finished")
        if run is not None and not may_know(run.weights, leave_out):
            return run.weights
    left = f" that has left out {', '.join(leave_out)}" if leave_out else ""
    msg = (
        f"The weights '{given}' are no file, no run's folder and no recipe with a finished run{left} in "
        f"{root}; train them first: {command(given, leave_out)}."
    )
    raise ConfigurationError(msg)


def command(recipe: str, leave_out: Sequence[str]) -> str:
    """Return the command line that trains a recipe without some sources."""
    return shlex.join(["triage", "train", recipe, *(f"--leave-out={source}" for source in leave_out)])


def may_know(weights: Path, leave_out: Sequence[str]) -> list[str]:
    """Return of which sources weights may have learnt: the settings beside them don't leave these out."""
    settings = Run(weights.parent).settings()
    return [source for source in leave_out if settings is None or source not in settings.leave_out]


def refuse_knowing(weights: Path, leave_out: Sequence[str]) -> None:
    """Raise where weights may have learnt from a source of which nothing is to be learnt.

    Raises:
        ConfigurationError: they may; the sentence names the command that makes others.
    """
    known = may_know(weights, leave_out)
    if known:
        settings = Run(weights.parent).settings()
        recipe = "RECIPE" if settings is None else settings.name.split("-without-")[0]
        msg = (
            f"Nothing says that {weights} has not learnt from {', '.join(known)}, which is left out; first "
            f"train others by {command(recipe, leave_out)}, and name those in the recipe."
        )
        raise ConfigurationError(msg)


def runs(root: Path) -> list[Run]:
    """Return all runs of a folder by name.

    Raises:
        DataError: `root` is no folder.
    """
    _refuse_file(root)
    return [Run(path.parent) for path in sorted(root.glob(f"*/{_SUMMARY}"))]


def _refuse_file(root: Path) -> None:
    if root.exists() and not root.is_dir():
        msg = f"{root} is a file, and runs lie in a folder; give another with --runs."
        raise DataError(msg)


def curves(metrics: list[dict[str, Any]], path: Path) -> None:
    """Draw losses and figures over the films seen."""
    figure = matplotlib.figure.Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    seen = [line["seen"] for line in metrics]
    for name, label in (("loss", "train"), ("val_loss", "val")):
        # a run that an earlier version began has looks without the second
        left.plot(seen, [line.get(name, math.nan) for line in metrics], marker=".", label=label)
    left.set(title="loss", xlabel="films seen")
    left.legend()
    for name in ("any_disease", "gate", "macro_f1", "accuracy"):
        right.plot(seen, [line[name] for line in metrics], marker=".", label=name)
    right.set(title="val", xlabel="films seen", ylim=(0, 1.02))
    right.legend()
    with whole(path) as fresh:
        figure.savefig(fresh, format="png", dpi=120)
