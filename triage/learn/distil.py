"""Finished networks that teach another: each sees a film at its own size; their doubts are learnt as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from triage.domain.finding import CLASSES
from triage.learn.labels import CODE_NOT_FRONTAL
from triage.learn.networks import finished
from triage.learn.recipe import Distil


@dataclass(frozen=True)
class Teachers:
    """Networks that do not learn any more."""

    networks: tuple[torch.nn.Module, ...]

    @classmethod
    def load(cls, settings: Distil, weights: Sequence[Path], device: torch.device) -> Teachers:
        """Return the teachers of a recipe with the weights of a file each.

        Raises:
            ModelRefused: weights are no safetensors or of another architecture.
        """
        networks = []
        for teacher, path in zip(settings.teachers, weights, strict=True):
            network = finished(teacher.architecture, path).to(device)
            networks.append(network.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
        return cls(tuple(networks))

    def answers(self, views: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the mean of their logits, float32 [N, 7], for the same films at the size of each."""
        found = []
        for network, view in zip(self.networks, views, strict=True):
            films = view.contiguous(memory_format=torch.channels_last)
            with torch.no_grad(), torch.autocast(films.device.type, torch.bfloat16):
                found.append(network(films).float())
        return torch.stack(found).mean(0)


def mixed(
    cost: torch.Tensor, logits: torch.Tensor, answers: torch.Tensor, codes: torch.Tensor, settings: Distil
) -> torch.Tensor:
    """Return the labels' cost mixed with how far the logits are from the teachers' answers."""
    share = settings.share
    return (1 - share) * cost + share * distance(logits, answers, codes, settings.temperature)


def distance(
    logits: torch.Tensor, answers: torch.Tensor, codes: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Return the mean divergence of the softened class answers over the frontal films of a batch.

    It is multiplied by the temperature's square, so that its gradient is as large as the labels'.
    """
    frontal = codes < CODE_NOT_FRONTAL
    own = torch.log_softmax(logits[frontal, : len(CLASSES)].float() / temperature, dim=1)
    said = torch.softmax(answers[frontal, : len(CLASSES)].float() / temperature, dim=1)
    apart = torch.nn.functional.kl_div(own, said, reduction="sum") / frontal.sum().clamp(min=1)
    return apart * temperature**2
