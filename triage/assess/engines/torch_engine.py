"""The reference engine: torch in fp32 on the processor."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from triage.assess.network import Mirrored, build
from triage.assess.registry import Model
from triage.errors import ModelRefused

Batch = npt.NDArray[np.float32]


def load_network(model: Model) -> torch.nn.Module:
    """Return the model's bare network in fp32 and evaluation mode, with the weights of its folder.

    Raises:
        ModelRefused: the weights are of another architecture, or no safetensors at all.
    """
    network = build(model.architecture, len(model.classes) + 1)
    try:
        state = load_file(model.weights)
        network.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=False)
        missing = set(network.state_dict()) - set(state)
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        msg = f"The weights of {model.label} can't be read as {model.architecture}: {type(error).__name__}."
        raise ModelRefused(msg) from error
    # batch counters are of no use after training and need not be stored
    lacking = sorted(name for name in missing if not name.endswith("num_batches_tracked"))
    if lacking:
        msg = f"The weights of {model.label} lack {len(lacking)} tensors of {model.architecture}."
        raise ModelRefused(msg)
    return network.float().eval()


class TorchEngine:
    """The network by torch in fp32, the reference for every other engine."""

    batches = True
    name = "torch fp32"

    def __init__(self, model: Model, threads: int = 0) -> None:
        """Load the weights and run once, so that the first film does not pay; 0 threads: as torch has it."""
        if threads:
            torch.set_num_threads(threads)
        network: Any = Mirrored(load_network(model))
        self._network = network.to(memory_format=torch.channels_last)
        self._lock = threading.Lock()
        self.infer(np.zeros((1, 1, model.size, model.size), np.float32))

    def infer(self, batch: Batch) -> Batch:
        """Return float32 logits [N, 7] of a prepared batch float32 [N, 1, S, S]."""
        pictures = torch.from_numpy(np.ascontiguousarray(batch)).contiguous(memory_format=torch.channels_last)
        with self._lock, torch.inference_mode():
            return np.asarray(self._network(pictures).numpy(), np.float32)
