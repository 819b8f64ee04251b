"""The networks, all from MONAI: one grey channel in, six class logits and one gate logit out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.networks import nets

from triage.errors import ModelRefused

#: The blocks of an EfficientNet-B0 without squeeze and excitation, which is what makes it a Lite0.
_LITE0 = (
    "r1_k3_s11_e1_i32_o16",
    "r2_k3_s22_e6_i16_o24",
    "r2_k5_s22_e6_i24_o40",
    "r3_k3_s22_e6_i40_o80",
    "r3_k5_s11_e6_i80_o112",
    "r4_k5_s22_e6_i112_o192",
    "r1_k3_s11_e6_i192_o320",
)


def _lite0(spatial_dims: int, in_channels: int, out_channels: int) -> torch.nn.Module:
    """Return an EfficientNet-Lite0; MONAI has the other EfficientNets by name, and this one by its blocks."""
    made = nets.EfficientNet(list(_LITE0), spatial_dims, in_channels, out_channels)
    for part in made.modules():
        if hasattr(part, "_swish"):
            # the other difference: it has ReLU6 where its kin have swish
            part._swish = torch.nn.ReLU6()
    return made


_BUILDERS: dict[str, Callable[..., torch.nn.Module]] = {
    "densenet121": nets.DenseNet121,
    "densenet169": nets.DenseNet169,
    "densenet201": nets.DenseNet201,
    "efficientnet-lite0": _lite0,
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


class Reduced(torch.nn.Module):
    """A network that sees films reduced to its own edge."""

    def __init__(self, network: torch.nn.Module, edge: int) -> None:
        """Answer by `network`, which learnt from films of `edge` pixels."""
        super().__init__()
        self.network = network
        self.edge = edge

    def forward(self, films: torch.Tensor) -> torch.Tensor:
        """Return logits [N, 7] of films [N, 1, S, S]."""
        return self.network(torch.nn.functional.adaptive_avg_pool2d(films, self.edge))


class Ensemble(torch.nn.Module):
    """Networks of different kinds, which answer with the mean of their logits."""

    def __init__(self, *networks: torch.nn.Module) -> None:
        """Answer by all `networks`."""
        super().__init__()
        self.networks = torch.nn.ModuleList(networks)

    def forward(self, films: torch.Tensor) -> torch.Tensor:
        """Return logits [N, 7] of films [N, 1, S, S]."""
        return torch.stack([network(films) for network in self.networks]).mean(0)


def architectures() -> tuple[str, ...]:
    """Return the names that `build` knows."""
    return tuple(_BUILDERS)


def members(architecture: str) -> list[tuple[str, int | None]]:
    """Return the networks that an architecture names, each with the edge to which films are reduced for it.

    An ensemble is written `densenet121@160+efficientnet-lite0`: films as large as the model's input are
    reduced to 160 pixels for the first and stay as they are for the second.

    Raises:
        ModelRefused: a network is not known, or an edge is no number.
    """
    found = []
    for part in architecture.split("+"):
        name, _, edge = part.partition("@")
        if name not in _BUILDERS:
            msg = f"The architecture '{name}' is not known; known: {', '.join(_BUILDERS)}."
            raise ModelRefused(msg)
        if edge and not edge.isdecimal():
            msg = f"The architecture '{part}' has '{edge}' where the edge of its films belongs."
            raise ModelRefused(msg)
        found.append((name, int(edge) if edge else None))
    return found


def build(architecture: str, outputs: int) -> torch.nn.Module:
    """Return a network with random weights, in evaluation mode; input float32 [N, 1, S, S].

    Raises:
        ModelRefused: the architecture is not known.
    """
    made: list[torch.nn.Module] = []
    for name, edge in members(architecture):
        network = _BUILDERS[name](spatial_dims=2, in_channels=1, out_channels=outputs)
        made.append(Reduced(network, edge) if edge else network)
    return (made[0] if len(made) == 1 else Ensemble(*made)).eval()
