"""Starting from given weights, and letting only a part of the network learn."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import torch

from triage.errors import ModelRefused
from triage.learn.checkpoint import Tensors, read_tensors
from triage.learn.networks import HEADS

#: torchvision names the layers of a dense layer directly, MONAI keeps them in `layers`.
_TORCHVISION = re.compile(r"(denselayer\d+)\.(norm1|relu1|conv1|norm2|relu2|conv2)\.")
#: Where an ensemble keeps the weights of each of its networks.
_MEMBER = re.compile(r"^networks\.\d+\.(network\.)?")
_HEADS = tuple(f"{name}." for name in HEADS)
_BLOCKS = 4
#: The sixteen small blocks of an EfficientNet count as four.
_SMALL_BLOCKS = 4


def start_from(network: torch.nn.Module, path: Path) -> list[str]:
    """Give a network the weights of a file as far as they fit; return the names that stayed as they were.

    The head may differ (it is new for new classes). Colour input is summed to grey. Of an ensemble's weights
    those of the network of this kind are taken.

    Raises:
        ModelRefused: no safetensors, or the weights of the body are another architecture's.
    """
    given = translated(read_tensors(path))
    own = network.state_dict()
    taken: Tensors = {}
    for name, value in own.items():
        offered = given.get(name)
        if offered is not None and name == "features.conv0.weight" and offered.shape[1] != value.shape[1]:
            offered = offered.sum(1, keepdim=True)
        if offered is not None and offered.shape == value.shape:
            taken[name] = offered.to(value.dtype)
        elif not name.startswith(_HEADS) and not name.endswith("num_batches_tracked"):
            msg = f"{path} is of another architecture: the tensor '{name}' is missing or has another shape."
            raise ModelRefused(msg)
    network.load_state_dict(taken, strict=False)
    return sorted(set(own) - set(taken))


def translated(state: Tensors) -> Tensors:
    """Return tensors by MONAI's names, whether they came with those or with torchvision's."""
    renamed = {
        _TORCHVISION.sub(r"\1.layers.\2.", _MEMBER.sub("", name)): value for name, value in state.items()
    }
    return {
        name.replace("classifier.", "class_layers.out."): value.float()
        if value.is_floating_point()
        else value
        for name, value in renamed.items()
    }


def block_of(name: str) -> int:
    """Return how far a parameter is from the head: 0 the head, 1 the last dense block, ... 4 the first."""
    if name.startswith(_HEADS):
        return 0
    small = re.match(r"_blocks\.\d+\.(\d+)\.", name)
    if small:
        return _BLOCKS - int(small.group(1)) // _SMALL_BLOCKS
    layer = re.match(r"layer(\d)\.", name)
    if layer:
        return _BLOCKS + 1 - int(layer.group(1))
    found = re.search(r"(?:denseblock|transition)(\d)\.", name)
    if found is None:
        # the normalisation or convolution behind the last block
        return 1 if "norm5" in name or name.startswith(("_conv_head.", "_bn1.")) else _BLOCKS
    # a transition belongs to the block that it leads to
    number = int(found.group(1)) + ("transition" in name)
    return _BLOCKS + 1 - number


def freeze(network: torch.nn.Module, learn: Literal["all", "head"] | int) -> list[torch.nn.Module]:
    """Let the head, the last `learn` blocks or everything learn; return the modules that must stay still.

    Frozen normalisations also keep their statistics, so the caller puts them into evaluation mode.
    """
    reach = _BLOCKS if learn == "all" else 0 if learn == "head" else int(learn)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(block_of(name) <= reach)
    return [
        module
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.BatchNorm2d) and block_of(f"{name}.") > reach
    ]


def groups(network: torch.nn.Module, rate: float, block_rate: float) -> list[dict[str, object]]:
    """Return the optimiser's groups: each block learns at `block_rate` of the rate of the block after it."""
    by_block: dict[int, list[torch.nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            by_block.setdefault(0 if block_rate == 1 else block_of(name), []).append(parameter)
    return [
        {"params": parameters, "lr": rate * block_rate**block, "share": block_rate**block}
        for block, parameters in sorted(by_block.items())
    ]
