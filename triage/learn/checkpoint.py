"""A training at a moment: weights, their average, the optimiser and the place, in one safetensors file.

No pickle: a checkpoint is read as tensors and text. It is written beside the old one and then put in its
place, so that a kill or a full disk leaves the last good one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from triage.errors import ModelRefused
from triage.learn.written import whole

Tensors = dict[str, torch.Tensor]


@dataclass
class Place:
    """Where a training is: the next step of a stage, and what validation has said so far."""

    recipe: str
    architecture: str
    stage: int = 0
    step: int = 0
    #: Running mean of the loss.
    loss: float = float("nan")
    best: float = float("-inf")
    #: Looks at `val` since the best one.
    stale: int = 0
    #: What a plateau has made of the stage's rate.
    rate_factor: float = 1.0
    seconds: float = 0.0
    #: How many processes learn together.
    processes: int = 1
    metrics: list[dict[str, Any]] = field(default_factory=list)


def write_tensors(tensors: Tensors, path: Path, note: dict[str, str] | None = None) -> None:
    """Write a safetensors file; the old one stays until the new one is whole on the disk.

    Raises:
        NotWritten: the disk has no room or can't be written.
    """
    with whole(path) as fresh:
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, fresh, note)


def read_tensors(path: Path) -> Tensors:
    """Return the tensors of a safetensors file.

    Raises:
        ModelRefused: the file is missing, is a pickle, or no safetensors for another reason.
    """
    try:
        return load_file(path)
    except FileNotFoundError:
        msg = f"The weights {path} are not there."
        raise ModelRefused(msg) from None
    except (OSError, SafetensorError, ValueError) as error:
        msg = f"{path} is no safetensors file ({error}); pickles are never loaded: convert it first."
        raise ModelRefused(msg) from None


def fill(network: torch.nn.Module, state: Tensors, where: Path, architecture: str) -> None:
    """Give a network its weights.

    Raises:
        ModelRefused: the tensors are another architecture's; the sentence names the first that is wrong.
    """
    # counters of batches say nothing about an architecture, and models that serve have none
    own = {n: t for n, t in network.state_dict().items() if not n.endswith("num_batches_tracked")}
    for name, value in own.items():
        if name not in state or state[name].shape != value.shape:
            msg = f"{where} is of another architecture than {architecture}: see the tensor '{name}'."
            raise ModelRefused(msg)
    network.load_state_dict(
        {name: state[name] for name in state if name in network.state_dict()}, strict=False
    )


def save(
    path: Path,
    place: Place,
    network: torch.nn.Module,
    average: torch.nn.Module | None,
    optimiser: torch.optim.Optimizer,
) -> None:
    """Write everything that going on needs.

    Raises:
        NotWritten: the disk can't be written.
    """
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    if average is not None:
        tensors |= {f"average.{name}": value for name, value in average.state_dict().items()}
    names: dict[Any, str] = {parameter: name for name, parameter in network.named_parameters()}
    for parameter, state in optimiser.state.items():
        for key, value in state.items():
            tensors[f"optimiser.{names[parameter]}.{key}"] = torch.as_tensor(value)
    # two names must not share one piece of memory in a safetensors file
    tensors = {name: value.detach().clone() for name, value in tensors.items()}
    write_tensors(tensors, path, {"place": json.dumps(asdict(place))})


def read_place(path: Path) -> Place:
    """Return where the training of a checkpoint is.

    Raises:
        ModelRefused: the file is no checkpoint.
    """
    try:
        with safe_open(path, "pt") as file:
            note = file.metadata() or {}
        return Place(**json.loads(note["place"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        msg = f"{path} is no checkpoint of a training; start it without --resume."
        raise ModelRefused(msg) from None


def restore(
    path: Path,
    place: Place,
    network: torch.nn.Module,
    average: torch.nn.Module | None,
    optimiser: torch.optim.Optimizer | None,
) -> None:
    """Fill the parts of a training from a checkpoint.

    Raises:
        ModelRefused: the checkpoint is of another architecture, or no safetensors.
    """
    tensors = read_tensors(path)
    fill(network, _under(tensors, "network."), path, place.architecture)
    if average is not None:
        fill(average, _under(tensors, "average."), path, place.architecture)
    if optimiser is None:
        return
    kept = _under(tensors, "optimiser.")
    for name, parameter in network.named_parameters():
        state = _under(kept, f"{name}.")
        if state:
            optimiser.state[parameter] = {
                key: value if key == "step" else value.to(parameter.device) for key, value in state.items()
            }


def _under(tensors: Tensors, prefix: str) -> Tensors:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
