"""What learning minimises: the label, which may be a set of classes, and the gate."""

from __future__ import annotations

import torch

from triage.domain.finding import CLASSES
from triage.learn.labels import BACTERIAL, CODE_NOT_FRONTAL, CODE_UNSPECIFIED, LABELS, VIRAL
from triage.learn.recipe import Loss


def loss(logits: torch.Tensor, codes: torch.Tensor, settings: Loss) -> torch.Tensor:
    """Return the mean loss of a batch: logits [N, 7], label codes int64 [N].

    A single class costs its smoothed cross entropy. Unspecified pneumonia costs the log of the summed
    probability of its two kinds. The mean is weighted by the classes; only the
    proportion of their weights matters. What is no frontal film costs the gate only.
    """
    logits = logits.float()
    frontal = codes < CODE_NOT_FRONTAL
    likelihood, own = torch.log_softmax(logits[frontal, : len(CLASSES)], dim=1), codes[frontal]
    single = likelihood.gather(1, own.clamp(max=len(CLASSES) - 1)[:, None])[:, 0]
    smoothed = (1 - settings.smoothing) * single + settings.smoothing * likelihood.mean(dim=1)
    either = torch.logsumexp(likelihood[:, [BACTERIAL, VIRAL]], dim=1)
    cost = -torch.where(own == CODE_UNSPECIFIED, either, smoothed)
    by_label = [settings.class_weights.get(name, 1.0) for name in LABELS[:CODE_NOT_FRONTAL]]
    weights = torch.tensor(by_label, device=own.device)[own]
    wanted = frontal.float() * (1 - 2 * settings.gate_smoothing) + settings.gate_smoothing
    gate = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, -1], wanted)
    # of no frontal film both sums are 0
    mean = (weights * cost).sum() / weights.sum().clamp(min=torch.finfo(torch.float32).tiny)
    return mean + settings.gate_weight * gate


def apart(one: torch.Tensor, other: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Return the mean divergence of two answers to the same frontal films, both ways; logits [N, 7]."""
    frontal = codes < CODE_NOT_FRONTAL
    first = torch.log_softmax(one[frontal, : len(CLASSES)].float(), dim=1)
    second = torch.log_softmax(other[frontal, : len(CLASSES)].float(), dim=1)
    return ((first.exp() - second.exp()) * (first - second)).sum() / frontal.sum().clamp(min=1)
