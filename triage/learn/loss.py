"""What learning minimises: the label, which may be a set of classes, and the gate."""

from __future__ import annotations

import torch

from triage.domain.finding import CLASSES
from triage.learn.labels import BACTERIAL, CODE_NOT_FRONTAL, CODE_UNSPECIFIED, VIRAL
from triage.learn.recipe import Loss


def loss(logits: torch.Tensor, codes: torch.Tensor, settings: Loss) -> torch.Tensor:
    """Return the mean loss of a batch: logits [N, 7], label codes int64 [N].

    A single class costs its smoothed cross entropy. Unspecified pneumonia costs the log of the summed
    probability of its two kinds. What is no frontal film costs the gate only.
    """
    logits = logits.float()
    frontal = codes < CODE_NOT_FRONTAL
    likelihood = torch.log_softmax(logits[:, : len(CLASSES)], dim=1)
    single, either = codes < CODE_UNSPECIFIED, codes == CODE_UNSPECIFIED
    known = likelihood[single]
    cost = -(1 - settings.smoothing) * known.gather(1, codes[single, None]).sum()
    cost = cost - settings.smoothing * known.mean(dim=1).sum()
    cost = cost - torch.logsumexp(likelihood[either][:, [BACTERIAL, VIRAL]], dim=1).sum()
    wanted = frontal.float() * (1 - 2 * settings.gate_smoothing) + settings.gate_smoothing
    gate = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, -1], wanted)
    return cost / frontal.sum().clamp(min=1) + settings.gate_weight * gate


def apart(one: torch.Tensor, other: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Return the mean divergence of two answers to the same frontal films, both ways; logits [N, 7]."""
    frontal = codes < CODE_NOT_FRONTAL
    first = torch.log_softmax(one[frontal, : len(CLASSES)].float(), dim=1)
    second = torch.log_softmax(other[frontal, : len(CLASSES)].float(), dim=1)
    return ((first.exp() - second.exp()) * (first - second)).sum() / frontal.sum().clamp(min=1)
