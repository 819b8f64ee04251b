"""The engine of a GPU: bf16, channels last, and passes that are recorded once and replayed."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from triage.assess.engines.torch_engine import load_network
from triage.assess.network import Mirrored
from triage.assess.registry import Model

Batch = npt.NDArray[np.float32]

#: How many films the recorded passes take; more are taken in several passes, fewer in the next larger one.
_PASSES = (1, 2, 4, 8)
_WARM_UP = 3


class CudaEngine:
    """The network on a GPU, where launching hundreds of kernels one by one would be most of a small pass."""

    batches = True
    name = "torch bf16 on cuda"

    def __init__(self, model: Model) -> None:
        """Load the weights and record a pass of every size."""
        network: Any = Mirrored(load_network(model))
        network = network.to("cuda", memory_format=torch.channels_last)
        self._passes = {films: _Pass(network, films, model.size) for films in _PASSES}
        self._lock = threading.Lock()

    def infer(self, batch: Batch) -> Batch:
        """Return float32 logits [N, 7] of a prepared batch float32 [N, 1, S, S]."""
        most = _PASSES[-1]
        parts = [batch[start : start + most] for start in range(0, len(batch), most)]
        with self._lock:
            return np.concatenate([self._fitting(len(part)).run(part) for part in parts])

    def _fitting(self, films: int) -> _Pass:
        return self._passes[next(size for size in _PASSES if size >= films)]


class _Pass:
    """One pass of the network over a fixed number of films, as a CUDA graph over memory of its own."""

    def __init__(self, network: torch.nn.Module, films: int, edge: int) -> None:
        """Record the pass; what its first runs set up, such as workspaces, must lie outside of the record."""
        pictures = torch.zeros((films, 1, edge, edge), device="cuda")
        self._pictures = pictures.contiguous(memory_format=torch.channels_last)
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP):
                self._forward(network)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        # other threads may use the GPU meanwhile: the engine that this one is about to replace, for one
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._logits = self._forward(network)

    def _forward(self, network: torch.nn.Module) -> torch.Tensor:
        # a cache of weights in bf16 would outlive the record that fills it
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            return network(self._pictures).float()

    def run(self, batch: Batch) -> Batch:
        """Return the logits of a batch that is no larger than the pass."""
        self._pictures[: len(batch)].copy_(torch.from_numpy(np.ascontiguousarray(batch)))
        self._graph.replay()
        return self._logits[: len(batch)].cpu().numpy()
