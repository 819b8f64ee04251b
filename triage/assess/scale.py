"""From a network's logits to the probabilities that are shown; fitted on `val` when a model is packaged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from triage.domain.finding import CLASSES, Finding

Logits = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """What is done to the logits [N, 7] of the six classes, the first of them normal, and of the gate."""

    temperature: float = 1.0
    gate_temperature: float = 1.0
    #: Added to the logits of the diseases, against the shares that they had in training. It moves
    #: probability from one disease to another only: how likely any disease is stays as it was.
    shift: tuple[float, ...] = (0.0,) * len(Finding)

    def classes(self, logits: Logits) -> Floats:
        """Return the probabilities of the classes [N, 6], which sum to 1."""
        scaled = logits[:, : len(CLASSES)].astype(np.float64) / self.temperature
        diseased = 1 - _softmax(scaled)[:, :1]
        return np.concatenate([1 - diseased, diseased * _softmax(scaled[:, 1:] + self.shift)], axis=1)

    def gate(self, logits: Logits) -> Floats:
        """Return the probability that a picture is a frontal chest film [N]."""
        scaled = np.clip(logits[:, -1].astype(np.float64) / self.gate_temperature, -60, 60)
        return np.asarray(1 / (1 + np.exp(-scaled)))


def _softmax(values: Floats) -> Floats:
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
