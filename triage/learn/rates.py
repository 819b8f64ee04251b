"""The rate to learn at: a short trial with a rate that grows, and where its loss falls fastest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import matplotlib.figure
import numpy as np
import torch

from triage.errors import TrainingFailed
from triage.learn import transfer
from triage.learn.distil import Teachers
from triage.learn.sampling import Drawer
from triage.learn.training import cost_of, optimiser_of
from triage.learn.written import whole

#: The trial ends where the smoothed loss is this many times its best.
_DIVERGED = 2.0
_MEMORY = 0.9


@dataclass(frozen=True)
class Trial:
    """The rates tried, the smoothed loss at each, and the rate at which it fell fastest."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    best: float


def find_rate(
    network: torch.nn.Module,
    drawer: Drawer,
    device: torch.device,
    teachers: Teachers | None = None,
    *,
    low: float = 1e-6,
    high: float = 1.0,
    steps: int = 60,
) -> Trial:
    """Return a trial over rates from `low` to `high` in equal ratios; the network is spoilt by it.

    Each step is one of the recipe's first stage but for the rate: what learns, the cost, the optimiser, the
    clipped gradient. The same network on the same films gives the same trial.

    Raises:
        TrainingFailed: the loss is no number from the start.
    """
    recipe = drawer.recipe
    stage = recipe.stages[0]
    still = transfer.freeze(network, stage.learn)
    optimiser = optimiser_of(network, recipe, stage)
    torch.manual_seed(recipe.seed)
    network.train()
    for module in still:
        module.eval()
    tried: list[float] = []
    losses: list[float] = []
    smooth = 0.0
    for step, batch in enumerate(drawer.batches(0, 0, steps, 1)):
        rate = low * (high / low) ** (step / max(1, steps - 1))
        for group in optimiser.param_groups:
            group["lr"] = rate * group["share"]
        cost = cost_of(network, recipe, stage, batch, device, teachers)
        value = float(cost.detach())
        if not math.isfinite(value):
            break
        optimiser.zero_grad(set_to_none=True)
        cost.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_gradient)
        optimiser.step()
        smooth = _MEMORY * smooth + (1 - _MEMORY) * value
        tried.append(rate)
        # the mean starts at 0: undo its pull
        losses.append(smooth / (1 - _MEMORY ** (step + 1)))
        if losses[-1] > _DIVERGED * min(losses):
            break
    if len(losses) < 3:
        raise TrainingFailed(
            "The trial of rates gave no usable loss; look at the films and the recipe's loss."
        )
    return Trial(tuple(tried), tuple(losses), steepest(tried, losses))


def steepest(rates: list[float], losses: list[float]) -> float:
    """Return the rate at which the loss falls fastest over the logarithm of the rate."""
    slope = np.gradient(np.array(losses), np.log(np.array(rates)))
    return float(rates[int(np.argmin(slope))])


def plot(trial: Trial, path: Path) -> None:
    """Draw the loss over the rate and mark the best rate.

    Raises:
        NotWritten: the file can't be written.
    """
    figure = matplotlib.figure.Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(trial.rates, trial.losses)
    axes.axvline(trial.best, linestyle="--", label=f"steepest at {trial.best:.1e}")
    axes.set(xscale="log", xlabel="rate", ylabel="loss, smoothed")
    axes.legend()
    with whole(path) as fresh:
        figure.savefig(fresh, format="png", dpi=120)
