"""What runs the network: one protocol, the choice of an engine, and the proof that it may serve.

torch in fp32 is the reference. Every other engine has to agree with it, within a stated tolerance, on
pictures before it answers for a patient; one that does not is not used.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from triage.assess.prepare import prepare
from triage.assess.registry import Model
from triage.errors import ModelRefused

log = logging.getLogger(__name__)

Batch = npt.NDArray[np.float32]

#: The largest change of a calibrated probability that an engine may make, by its arithmetic. Of 300 films
#: the one that bf16 moved most moved by .028, all others by less than .02.
TOLERANCE = {"f32": 1e-3, "bf16": 0.04}
_PROBES = 6


class Engine(Protocol):
    """One loaded network; `infer` may be called from many threads."""

    name: str
    #: Whether several films at once are faster than one after the other.
    batches: bool

    def infer(self, batch: Batch) -> Batch:
        """Return logits [N, classes + gate] of prepared films float32 [N, 1, S, S]."""


@dataclass(frozen=True)
class Agreement:
    """How far an engine's probabilities are from the reference's, over some films."""

    engine: str
    films: int
    #: Largest and mean absolute change of any probability, gate included.
    largest: float
    mean: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Return whether the engine may serve."""
        return self.largest <= self.tolerance


def verify_engine(model: Model, engine: Engine, films: Sequence[Batch], reference: Engine) -> Agreement:
    """Return how far `engine` is from `reference` on prepared films float32 [1, S, S]."""

    def said(by: Engine) -> npt.NDArray[np.float64]:
        logits = np.concatenate([by.infer(film[None]) for film in films])
        return np.column_stack([model.scale.classes(logits), model.scale.gate(logits)])

    change = np.abs(said(engine) - said(reference))
    tolerance = TOLERANCE["bf16" if "bf16" in engine.name else "f32"]
    return Agreement(engine.name, len(films), float(change.max()), float(change.mean()), tolerance)


def probe_films(size: int, count: int = _PROBES) -> list[Batch]:
    """Return prepared pictures for a check without patients: smooth shapes with grain, always the same."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    films = []
    for index in range(count):
        noise = np.random.default_rng(index).normal(0, 0.03, (size, size))
        lungs = sum(np.exp(-(((x - side) * 3) ** 2) - ((y + 0.1) * 1.4) ** 2) for side in (-0.45, 0.45))
        spot = np.exp(-(((x - 0.3 + index * 0.12) ** 2 + (y - 0.2) ** 2) * 40)) * index * 0.1
        films.append(prepare((0.8 - 0.6 * lungs + spot + noise).astype(np.float32), size))
    return films


def open_engine(model: Model, kind: str = "auto", cache: Path | None = None, threads: int = 0) -> Engine:
    """Return an engine of `kind` (auto, torch, openvino, cuda) that has been proved to agree with torch.

    `auto` takes CUDA where there is a GPU, else OpenVINO where it is installed, else torch. OpenVINO is tried
    in f32 when it does not agree in bf16; for a GPU that disagrees nothing else is taken, `auto` or not.
    `cache` keeps the converted network and the proof, so that later starts of OpenVINO need no torch.

    Raises:
        ModelRefused: the engine that was chosen is not there, or disagrees with the reference.
    """
    if kind == "torch":
        return _torch(model, threads)
    if kind == "cuda" or (kind == "auto" and _cuda_is_there()):
        return _proved(model, lambda: _cuda(model), cache)
    if find_spec("openvino") is None:
        if kind == "openvino":
            raise ModelRefused("OpenVINO is not installed; set model.engine to auto or torch.")
        return _torch(model, threads)
    try:
        return _proved(model, lambda: _openvino(model, cache, "bf16", threads), cache)
    except _Disagrees as refusal:
        log.warning("The bf16 engine is not used.", extra={"event": "engine_refused", "why": str(refusal)})
        return _proved(model, lambda: _openvino(model, cache, "f32", threads), cache)


class _Disagrees(ModelRefused):
    """An engine that is too far from the reference."""


def _proved(model: Model, make: Callable[[], Engine], cache: Path | None) -> Engine:
    """Return the engine if a proof is kept for it here, or can be made now.

    A file is kept for an engine that agreed and for no other: that it is there is the proof. What it holds
    is for people, so that one cut short by a crash stops no start.
    """
    engine = make()
    kept = None if cache is None else cache / _proof_name(model, engine)
    if kept is not None and kept.exists():
        return engine
    agreement = verify_engine(model, engine, probe_films(model.size), _torch(model))
    if not agreement.holds:
        msg = (
            f"The engine {engine.name} changes a probability of {model.label} by {agreement.largest:.3f}, "
            f"more than {agreement.tolerance}; set model.engine to torch."
        )
        raise _Disagrees(msg)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(asdict(agreement)))
    return engine


def _proof_name(model: Model, engine: Engine) -> str:
    """Return a name that no other weights, scale or form of the network have."""
    scale = hashlib.sha256(repr(model.scale).encode()).hexdigest()[:8]
    return f"{model.sha256[:32]}-{scale}-mirrored-{engine.name.replace(' ', '-')}.json"


def _torch(model: Model, threads: int = 0) -> Engine:
    from triage.assess.engines.torch_engine import TorchEngine

    return TorchEngine(model, threads)


def _cuda(model: Model) -> Engine:
    if not _cuda_is_there():
        raise ModelRefused("No CUDA device is here; set model.engine to auto.")
    from triage.assess.engines.cuda_engine import CudaEngine

    try:
        return CudaEngine(model)
    except RuntimeError as error:  # what torch raises for a driver or a memory that does not do
        msg = f"The GPU can't run {model.label} ({type(error).__name__}); set model.engine to openvino."
        raise ModelRefused(msg) from error


def _openvino(model: Model, cache: Path | None, precision: str, threads: int) -> Engine:
    from triage.assess.engines.openvino_engine import OpenVinoEngine

    folder = cache or Path.home() / ".cache" / "triage" / "engines"
    return OpenVinoEngine(model, folder, precision, threads)


def _cuda_is_there() -> bool:
    """Return whether torch could use a GPU, without importing torch where the driver is not even there."""
    if not Path("/proc/driver/nvidia/version").exists():
        return False
    import torch

    return torch.cuda.is_available()
