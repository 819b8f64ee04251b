"""The networks, all from MONAI: one grey channel in, six class logits and one gate logit out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.networks import nets

from triage.errors import ModelRefused

_BUILDERS: dict[str, Callable[..., torch.nn.Module]] = {
    "densenet121": nets.DenseNet121,
    "densenet169": nets.DenseNet169,
    "densenet201": nets.DenseNet201,
}


class Mirrored(torch.nn.Module):
    """A network that answers with the mean of its logits for a film and for the film's mirror image.

    What it says is steadier, and better (docs/training.md), for twice the work.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        """Answer by `network`."""
        super().__init__()
        self.network = network

    def forward(self, films: torch.Tensor) -> torch.Tensor:
        """Return logits [N, 7] of films [N, 1, S, S]."""
        logits = self.network(torch.cat([films, films.flip(-1)]))
        return logits.view(2, -1, logits.shape[1]).mean(0)


def architectures() -> tuple[str, ...]:
    """Return the names that `build` knows."""
    return tuple(_BUILDERS)


def build(architecture: str, outputs: int) -> torch.nn.Module:
    """Return a network with random weights, in evaluation mode; input float32 [N, 1, S, S].

    Raises:
        ModelRefused: the architecture is not known.
    """
    try:
        make = _BUILDERS[architecture]
    except KeyError:
        msg = f"The architecture '{architecture}' is not known; known: {', '.join(_BUILDERS)}."
        raise ModelRefused(msg) from None
    return make(spatial_dims=2, in_channels=1, out_channels=outputs).eval()
