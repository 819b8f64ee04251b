"""A training from its recipe to its weights; killed at any moment, it goes on as if nothing had been."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from triage.assess.network import build
from triage.domain.finding import CLASSES
from triage.errors import ConfigurationError, DataError, TrainingFailed, TriageError
from triage.learn import checkpoint, rates, transfer, validate
from triage.learn.cache import cache_dir, pictures
from triage.learn.data import read_films
from triage.learn.duplicates import refuse_leakage
from triage.learn.loss import loss
from triage.learn.progress import progress
from triage.learn.recipe import Recipe, Schedule, Stage, read_recipe
from triage.learn.runs import Run, last_run, new_run
from triage.learn.sampling import Drawer, asked, chances

log = logging.getLogger(__name__)

#: Seconds between two checkpoints within a stage.
CHECKPOINT_EVERY = 180.0
#: A plateau divides the rate by ten after so many looks that were no better.
_PLATEAU_LOOKS = 2
_LOSS_MEMORY = 0.99


def train(
    recipe_path: Path,
    data: Path,
    root: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    cache: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Train by a recipe and return the run's folder, in which `weights.safetensors` lies at the end.

    With `resume` the newest run of the recipe goes on from its checkpoint; the films of each step are the
    same as they would have been.

    Raises:
        ConfigurationError: the recipe or the device can't be used.
        DataError: films are missing or unreadable, a class is empty, or a film is in two splits.
        ModelRefused: the checkpoint is of another architecture or no safetensors.
        TrainingFailed: the loss is no number, the answers collapsed, or the disk is full.
    """
    recipe = read_recipe(recipe_path)
    films = read_films(data)
    for stage in recipe.stages:
        # an empty class is said before hours of decoding
        classes = stage.classes or recipe.classes
        chances(films, classes)
        if not (asked(films, classes) & (films.splits == "val")).any():
            msg = f"{data} has no film of the recipe's classes in the split 'val', by which it is judged."
            raise DataError(msg)
    run = last_run(root, recipe) if resume else new_run(root, recipe, datetime.now(UTC))
    grey = pictures(films, cache_dir(cache))
    if not resume:
        refuse_leakage(films, grey)
    drawer = Drawer(films, grey, recipe)
    training = Training(drawer, run, choose_device(device), say)
    if resume:
        training.go_on()
    else:
        run.begin(recipe, films.digest, datetime.now(UTC))
    try:
        training.run_stages()
    except TriageError as error:
        # the disk that stopped the run may refuse this too; the run's own sentence matters more
        with contextlib.suppress(TrainingFailed):
            run.note(state="failed", why=str(error))
        raise
    return run.folder


def try_rates(recipe_path: Path, data: Path, target: Path, *, cache: Path | None = None) -> float:
    """Return the rate at which a recipe's first stage learns fastest, and draw the trial to `target`.

    Raises:
        ConfigurationError, DataError, ModelRefused, TrainingFailed: as `train`.
    """
    recipe = read_recipe(recipe_path)
    films = read_films(data)
    drawer = Drawer(films, pictures(films, cache_dir(cache)), recipe)
    network = _network(recipe, torch.device("cpu"))
    if recipe.start_from:
        transfer.start_from(network, Path(recipe.start_from))
    trial = rates.find_rate(network, drawer)
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


class Training:
    """The networks, the optimiser and the place of one run."""

    def __init__(
        self, drawer: Drawer, run: Run, device: torch.device, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.drawer = drawer
        self.recipe = drawer.recipe
        self.run = run
        self._device = device
        self._say = say
        torch.manual_seed(self.recipe.seed)
        self.network = _network(self.recipe, device)
        if self.recipe.start_from:
            new = transfer.start_from(self.network, Path(self.recipe.start_from))
            say(f"started from {self.recipe.start_from}; {len(new)} tensors are new")
        self.average = deepcopy(self.network).eval() if self.recipe.average else None
        self.place = checkpoint.Place(self.recipe.digest, self.recipe.architecture)
        self._resuming = False
        self._saved_at = time.monotonic()

    @property
    def judged(self) -> torch.nn.Module:
        """The network that is judged and kept: the average where there is one."""
        return self.network if self.average is None else self.average

    def go_on(self) -> None:
        """Take everything up from the run's checkpoint.

        Raises:
            ModelRefused: no checkpoint, or one of another architecture.
            TrainingFailed: the recipe has changed since.
        """
        place = checkpoint.read_place(self.run.checkpoint)
        # the weights say more than the recipe: name another architecture before a changed recipe
        checkpoint.restore(
            self.run.checkpoint,
            replace(place, architecture=self.recipe.architecture),
            self.network,
            self.average,
            None,
        )
        if place.recipe != self.recipe.digest:
            msg = f"The recipe has changed since {self.run.folder.name} began; start anew without --resume."
            raise TrainingFailed(msg)
        self.place, self._resuming = place, True
        self.run.note(state="running")

    def run_stages(self) -> None:
        """Learn stage after stage, keep the weights of each, and the last or best ones as the run's."""
        stages = self.recipe.stages
        while self.place.stage < len(stages):
            number = self.place.stage
            stopped = self._stage(number, stages[number])
            kept = self.run.folder / f"stage-{number + 1}-{stages[number].size}.safetensors"
            checkpoint.write_tensors(self.judged.state_dict(), kept)
            self.place.stage = len(stages) if stopped else number + 1
            self.place.step, self.place.rate_factor, self.place.stale = 0, 1.0, 0
            self._save(self._optimiser(stages[number]))
        if not self.recipe.patience:
            checkpoint.write_tensors(self.judged.state_dict(), self.run.weights)
        self.run.note(state="finished", minutes=round(self.place.seconds / 60, 1))

    def _optimiser(self, stage: Stage) -> torch.optim.Optimizer:
        parts = transfer.groups(self.network, stage.rate, stage.block_rate)
        kind = torch.optim.AdamW if self.recipe.optimiser == "adamw" else torch.optim.Adam
        return kind(parts, weight_decay=self.recipe.weight_decay)

    def _stage(self, number: int, stage: Stage) -> bool:
        """Learn one stage from its place on; return whether patience ran out."""
        still = transfer.freeze(self.network, stage.learn)
        optimiser = self._optimiser(stage)
        if self._resuming:
            checkpoint.restore(self.run.checkpoint, self.place, self.network, self.average, optimiser)
            self._resuming = False
        steps = max(1, stage.films // self.recipe.batch)
        every = max(1, self.recipe.validate_every // self.recipe.batch)
        threads = max(1, (os.cpu_count() or 2) - (self._device.type == "cpu"))
        batches = self.drawer.batches(number, self.place.step, steps, threads)
        with progress(f"stage {number + 1}, {stage.size} px", steps) as advance:
            advance(self.place.step)
            for step, (inputs, codes) in enumerate(batches, self.place.step):
                began = time.monotonic()
                self._step(stage, step, steps, optimiser, still, inputs, codes)
                self.place.step = step + 1
                self.place.seconds += time.monotonic() - began
                advance(1)
                if (step + 1) % every == 0 or step + 1 == steps:
                    if self._look(stage):
                        return True
                    self._save(optimiser)
                elif time.monotonic() - self._saved_at > CHECKPOINT_EVERY:
                    self._save(optimiser)
        return False

    def _step(
        self,
        stage: Stage,
        step: int,
        steps: int,
        optimiser: torch.optim.Optimizer,
        still: list[torch.nn.Module],
        inputs: torch.Tensor,
        codes: torch.Tensor,
    ) -> None:
        self.network.train()
        for module in still:
            module.eval()
        rate = stage.rate * _rate_share(stage, step, steps) * self.place.rate_factor
        for group in optimiser.param_groups:
            group["lr"] = rate * group["share"]
        inputs = inputs.to(self._device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device.type, torch.bfloat16):
            logits = self.network(inputs)
        cost = loss(logits, codes.to(self._device), stage.loss or self.recipe.loss)
        value = float(cost.detach())
        if not math.isfinite(value):
            msg = (
                f"The loss is {value} at step {step + 1} of stage {self.place.stage + 1}; lower the stage's "
                "rate. The last checkpoint is whole."
            )
            raise TrainingFailed(msg)
        optimiser.zero_grad(set_to_none=True)
        cost.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_gradient)
        optimiser.step()
        self._average(step)
        before = self.place.loss
        self.place.loss = (
            _LOSS_MEMORY * before + (1 - _LOSS_MEMORY) * value if math.isfinite(before) else value
        )

    def _average(self, step: int) -> None:
        """Move the average towards the weights; faster at the start, so that it forgets the beginning."""
        if self.average is None:
            return
        stay = self.recipe.average
        if self.place.stage == 0:
            stay = min(stay, (step + 1) / (step + 20))
        with torch.no_grad():
            for mean, value in zip(
                self.average.state_dict().values(), self.network.state_dict().values(), strict=True
            ):
                if mean.dtype.is_floating_point:
                    mean.lerp_(value, 1 - stay)
                else:
                    mean.copy_(value)

    def _look(self, stage: Stage) -> bool:
        """Judge on `val`, record it, and return whether patience ran out."""
        engine = validate.NetworkEngine(self.judged, self._device)
        films = self.drawer.films
        task = asked(films, stage.classes or self.recipe.classes)
        found, answers = validate.look(engine, films, self.drawer.pictures, stage.size, task)
        seen = sum(part.films for part in self.recipe.stages[: self.place.stage])
        seen += self.place.step * self.recipe.batch
        line = {
            "stage": self.place.stage + 1,
            "size": stage.size,
            "seen": seen,
            "loss": round(self.place.loss, 4),
        }
        line |= {name: round(value, 4) for name, value in found.items() if math.isfinite(value)}
        self.place.metrics.append(dict.fromkeys(found) | line)
        self.run.record(self.place.metrics)
        self.run.note(films=seen, **{name: line.get(name) for name in ("size", *found)})
        self._say(", ".join(f"{name} {value}" for name, value in line.items()))
        if seen >= self.recipe.collapse_after:
            validate.refuse_collapse(answers)
        return self._compare(stage, float(np.nansum([found["any_disease"], found["macro_f1"]])))

    def _compare(self, stage: Stage, score: float) -> bool:
        """Note whether this look was the best; lower the rate on a plateau, keep the best weights."""
        if score > self.place.best:
            self.place.best, self.place.stale = score, 0
            if self.recipe.patience:
                checkpoint.write_tensors(self.judged.state_dict(), self.run.weights)
            return False
        self.place.stale += 1
        if stage.schedule is Schedule.PLATEAU and self.place.stale % _PLATEAU_LOOKS == 0:
            self.place.rate_factor /= 10
        return bool(self.recipe.patience) and self.place.stale >= self.recipe.patience

    def _save(self, optimiser: torch.optim.Optimizer) -> None:
        checkpoint.save(self.run.checkpoint, self.place, self.network, self.average, optimiser)
        self._saved_at = time.monotonic()


def _network(recipe: Recipe, device: torch.device) -> torch.nn.Module:
    network = build(recipe.architecture, len(CLASSES) + 1)
    if recipe.dropout:
        head = network.get_submodule("class_layers")
        # before the last layers, without parameters: the weights keep their names
        head.register_forward_pre_hook(
            lambda module, inputs: torch.nn.functional.dropout(inputs[0], recipe.dropout, module.training)
        )
    moved: torch.nn.Module = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved


def _rate_share(stage: Stage, step: int, steps: int) -> float:
    """Return what share of the stage's rate a step has."""
    if stage.schedule is Schedule.PLATEAU:
        return 1.0
    done = step / steps
    if done < stage.warm_up:
        return max(0.02, done / stage.warm_up)
    return 0.5 * (1 + math.cos(math.pi * (done - stage.warm_up) / (1 - stage.warm_up))) + 0.002
