"""The steps of a training: stage after stage, from its place on, alone or as one of a team of processes."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from triage.errors import TrainingFailed
from triage.learn import checkpoint, networks, transfer, validate
from triage.learn.distil import Teachers, mixed
from triage.learn.loss import apart, loss
from triage.learn.progress import progress
from triage.learn.recipe import Recipe, Schedule, Stage
from triage.learn.runs import Run
from triage.learn.sampling import Batch, Drawer, asked
from triage.learn.together import ALONE, Team

#: Seconds between two checkpoints within a stage.
CHECKPOINT_EVERY = 180.0
#: A plateau divides the rate by ten after so many looks that were no better.
_PLATEAU_LOOKS = 2
_LOSS_MEMORY = 0.99


class Training:
    """The networks, the optimiser and the place of one run, in one process.

    Of a team only the first process has the average, looks at `val` and writes.
    """

    def __init__(
        self,
        drawer: Drawer,
        run: Run,
        device: torch.device,
        *,
        team: Team = ALONE,
        teachers: Teachers | None = None,
        start: Path | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.drawer = drawer
        self.recipe = drawer.recipe
        self.run = run
        self.team = team
        self._teachers = teachers
        self._device = device
        self._say = say
        torch.manual_seed(self.recipe.seed)
        self.network = networks.begun(self.recipe, device)
        if start is not None:
            new = transfer.start_from(self.network, start)
            say(f"started from {start}; {len(new)} tensors are new")
        self.average = deepcopy(self.network).eval() if self.recipe.average and team.leads else None
        self.place = checkpoint.Place(self.recipe.digest, self.recipe.architecture, processes=team.size)
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
        # the settings of a run that an earlier version began mean the defaults of keys that are new since
        began = self.run.settings()
        if self.recipe.digest not in {place.recipe, began.digest if began else ""}:
            msg = f"The recipe has changed since {self.run.folder.name} began; start anew without --resume."
            raise TrainingFailed(msg)
        self.place, self._resuming = place, True

    def run_stages(self) -> None:
        """Learn stage after stage, keep the weights of each, and the last or best ones as the run's.

        Raises:
            TrainingFailed: the loss is no number, the answers collapsed, or another process of the team has
                ended.
            NotWritten: the disk is full.
        """
        stages = self.recipe.stages
        with _share_of_cores(self.team):
            while self.place.stage < len(stages):
                number = self.place.stage
                self._stage(number, stages[number])
                if self.team.leads:
                    kept = self.run.stage_weights(number + 1, stages[number].size)
                    checkpoint.write_tensors(self.judged.state_dict(), kept)
                self.place.stage = number + 1
                self.place.step, self.place.rate_factor = 0, 1.0
                self.place.stale, self.place.best = 0, -math.inf
                self._save(optimiser_of(self.network, self.recipe, stages[number]))
        if not self.team.leads:
            return
        if not self.recipe.patience:
            checkpoint.write_tensors(self.judged.state_dict(), self.run.weights)
        self.run.note(state="finished", minutes=round(self.place.seconds / 60, 1))

    def _stage(self, number: int, stage: Stage) -> None:
        """Learn one stage from its place on, to its end or until patience runs out."""
        still = transfer.freeze(self.network, stage.learn)
        optimiser = optimiser_of(self.network, self.recipe, stage)
        if self._resuming:
            checkpoint.restore(self.run.checkpoint, self.place, self.network, self.average, optimiser)
            self._resuming = False
        if stage.anew and self.place.step == 0:
            self._begin_anew()
        steps = max(1, stage.films // self.recipe.batch)
        every = max(1, self.recipe.validate_every // self.recipe.batch)
        cores = os.cpu_count() or 2
        threads = max(1, cores - 1 if self._device.type == "cpu" else cores) if self.team.size == 1 else 1
        batches = self.drawer.batches(number, self.place.step, steps, threads, self.team.rank, self.team.size)
        with progress(f"stage {number + 1}, {stage.size} px", steps, shown=self.team.leads) as advance:
            advance(self.place.step)
            for step, batch in enumerate(batches, self.place.step):
                began = time.monotonic()
                self._rate(stage, step, steps, optimiser)
                self._step(stage, step, optimiser, still, batch)
                self.place.step = step + 1
                self.place.seconds += time.monotonic() - began
                advance(1)
                if (step + 1) % every == 0 or step + 1 == steps:
                    if self._judge(stage, last=step + 1 == steps and stage is self.recipe.stages[-1]):
                        return
                    self._save(optimiser)
                elif time.monotonic() - self._saved_at > CHECKPOINT_EVERY:
                    self._save(optimiser)

    def _begin_anew(self) -> None:
        """Go on from the average of the weights, in all processes."""
        if self.average is not None:
            self.network.load_state_dict(self.average.state_dict())
        self.team.take(list(self.network.state_dict().values()))

    def _rate(self, stage: Stage, step: int, steps: int, optimiser: torch.optim.Optimizer) -> None:
        rate = stage.rate * _rate_share(stage, step, steps) * self.place.rate_factor
        for group in optimiser.param_groups:
            group["lr"] = rate * group["share"]

    def _step(
        self,
        stage: Stage,
        step: int,
        optimiser: torch.optim.Optimizer,
        still: list[torch.nn.Module],
        batch: Batch,
    ) -> None:
        """Learn from one batch; what a network draws at random depends on the step and process only."""
        torch.manual_seed(_seed_of(self.recipe.seed, self.place.stage, step, self.team.rank))
        self.network.train()
        for module in still:
            module.eval()
        cost = cost_of(self.network, self.recipe, stage, batch, self._device, self._teachers)
        optimiser.zero_grad(set_to_none=True)
        cost.backward()  # type: ignore[no-untyped-call]
        learning = [parameter for parameter in self.network.parameters() if parameter.grad is not None]
        value = cost.detach()
        self.team.mean([value, *(parameter.grad for parameter in learning if parameter.grad is not None)])
        self._refuse_no_number("loss", float(value), step)
        # of the mean gradient: all processes see the same, and end together
        norm = torch.nn.utils.clip_grad_norm_(learning, self.recipe.clip_gradient)
        self._refuse_no_number("gradient", float(norm), step)
        self._remember(float(value))
        optimiser.step()
        self._average(step, fresh=stage.anew or self.place.stage == 0)

    def _refuse_no_number(self, what: str, value: float, step: int) -> None:
        """Stop before the weights become no numbers."""
        if not math.isfinite(value):
            msg = (
                f"The {what} is {value} at step {step + 1} of stage {self.place.stage + 1}; lower the "
                "stage's rate. The last checkpoint is whole."
            )
            raise TrainingFailed(msg)

    def _remember(self, value: float) -> None:
        """Take a step's loss into the running mean."""
        before = self.place.loss
        self.place.loss = (
            _LOSS_MEMORY * before + (1 - _LOSS_MEMORY) * value if math.isfinite(before) else value
        )

    def _average(self, step: int, *, fresh: bool) -> None:
        """Move the average towards the weights; faster at the start, so that it forgets the beginning."""
        if self.average is None:
            return
        stay = self.recipe.average
        if fresh:
            stay = min(stay, (step + 1) / (step + 20))
        with torch.no_grad():
            for mean, value in zip(
                self.average.state_dict().values(), self.network.state_dict().values(), strict=True
            ):
                if mean.dtype.is_floating_point:
                    mean.lerp_(value, 1 - stay)
                else:
                    mean.copy_(value)

    def _judge(self, stage: Stage, *, last: bool) -> bool:
        """Look at `val`; return whether patience ran out, as the first process of the team sees it."""
        out = self._look(stage, last=last) if self.team.leads else False
        stop, self.place.rate_factor = self.team.told((out, self.place.rate_factor))
        return bool(stop)

    def _look(self, stage: Stage, *, last: bool) -> bool:
        """Judge on `val`, record it, and return whether patience ran out.

        Raises:
            TrainingFailed: the answers have collapsed, which a beginner's may unless this is the last look.
        """
        engine = validate.NetworkEngine(self.judged, self._device)
        films = self.drawer.films
        task = asked(films, self.recipe.classes_of(stage))
        settings = self.recipe.loss_of(stage)
        found, answers = validate.look(engine, films, self.drawer.pictures, stage.size, task, settings)
        seen = sum(part.films for part in self.recipe.stages[: self.place.stage])
        seen += self.place.step * self.recipe.batch
        line = {
            "stage": self.place.stage + 1,
            "size": stage.size,
            "seen": seen,
            "minutes": round(self.place.seconds / 60, 2),
            "loss": round(self.place.loss, 4),
        }
        line |= {name: round(value, 4) for name, value in found.items() if math.isfinite(value)}
        self.place.metrics.append(dict.fromkeys(found) | line)
        self.run.record(self.place.metrics)
        self._say(", ".join(f"{name} {value}" for name, value in line.items()))
        out = self._compare(stage, float(np.nansum([found["any_disease"], found["macro_f1"]])))
        if out or last or seen >= self.recipe.collapse_after:
            validate.refuse_collapse(answers, ended=out or last)
        return out

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
        if not self.team.leads:
            return
        checkpoint.save(self.run.checkpoint, self.place, self.network, self.average, optimiser)
        self._saved_at = time.monotonic()


def optimiser_of(network: torch.nn.Module, recipe: Recipe, stage: Stage) -> torch.optim.Optimizer:
    """Return the recipe's optimiser for what learns in a stage, each group with its `share` of the rate."""
    parts = transfer.groups(network, stage.rate, stage.block_rate)
    kind = torch.optim.AdamW if recipe.optimiser == "adamw" else torch.optim.Adam
    return kind(parts, weight_decay=recipe.weight_decay)


def cost_of(
    network: torch.nn.Module,
    recipe: Recipe,
    stage: Stage,
    batch: Batch,
    device: torch.device,
    teachers: Teachers | None,
) -> torch.Tensor:
    """Return what a batch costs in a stage: by its labels, its teachers' answers and its twins."""
    codes = batch.codes.to(device)
    inputs = torch.cat([batch.inputs, batch.twins]).to(device)
    with torch.autocast(device.type, torch.bfloat16):
        found = network(inputs.contiguous(memory_format=torch.channels_last))
    logits, twins = found[: len(codes)], found[len(codes) :]
    cost = loss(logits, codes, recipe.loss_of(stage))
    settings = recipe.distil_of(stage)
    if teachers is not None and settings is not None:
        answers = teachers.answers([view.to(device) for view in batch.views])
        cost = mixed(cost, logits, answers, codes, settings)
    if not len(twins):
        return cost
    return cost + stage.twins.weight * apart(logits[: len(twins)], twins, codes[: len(twins)])


@contextmanager
def _share_of_cores(team: Team) -> Iterator[None]:
    """Give a process of a team its share of the cores; one that is alone keeps what it has."""
    before = torch.get_num_threads()
    if team.size > 1:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // team.size))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _seed_of(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def _rate_share(stage: Stage, step: int, steps: int) -> float:
    """Return what share of the stage's rate a step has."""
    if stage.schedule is Schedule.PLATEAU:
        return 1.0
    done = step / steps
    if done < stage.warm_up:
        return max(0.02, done / stage.warm_up)
    return 0.5 * (1 + math.cos(math.pi * (done - stage.warm_up) / (1 - stage.warm_up))) + 0.002
