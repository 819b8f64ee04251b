"""What a network keeps of a film before its last layer, and what can be read from it that should not be."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from triage.learn.answers import prepared
from triage.learn.data import Mask
from triage.learn.measures import rounded
from triage.learn.networks import HEADS

Features = npt.NDArray[np.float32]

_FOLDS = 5
#: Inverse of the penalty on the weights: there are more features than films, which would be learnt by heart.
_FREEDOM = 0.01


def features(
    network: torch.nn.Module, pictures: npt.NDArray[np.uint8], indices: npt.NDArray[np.int64], size: int
) -> Features:
    """Return the pooled features [len(indices), F] of films, those of an ensemble's networks side by side."""
    seen: list[torch.Tensor] = []
    found = []
    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])) for layer in _last(network)
    ]
    try:
        with torch.inference_mode():
            for batch in prepared(pictures, indices, size):
                seen.clear()
                network(torch.from_numpy(batch))
                found.append(torch.cat(seen, dim=1).numpy())
    finally:
        for hook in hooks:
            hook.remove()
    return np.concatenate(found)


def _last(network: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the last layer of the network, or of each in an ensemble."""
    heads = [part for name, part in network.named_modules() if name.rpartition(".")[2] in HEADS]
    return [[part for part in head.modules() if isinstance(part, torch.nn.Linear)][-1] for head in heads]


def common_sources(sources: npt.NDArray[np.str_]) -> Mask:
    """Return which films are of a source with enough of them to be told from others; none if it is alone."""
    _, index = np.unique(sources, return_inverse=True)
    common: Mask = np.bincount(index)[index] >= _FOLDS * 2 if len(index) else np.zeros(0, np.bool_)
    return common if len(np.unique(index[common])) > 1 else np.zeros_like(common)


def source_read(seen: Features, sources: npt.NDArray[np.str_]) -> dict[str, object]:
    """Return how well the source of a film can be told from its features, by a logistic regression.

    Cross-validated balanced accuracy beside chance; a network that ignores hospitals is near chance.
    """
    names, index = np.unique(sources, return_inverse=True)
    regression = LogisticRegression(C=_FREEDOM, class_weight="balanced", max_iter=500)
    said = cross_val_predict(make_pipeline(StandardScaler(), regression), seen, index, cv=_FOLDS)
    return {
        "n": len(seen),
        "sources": names.tolist(),
        "features": seen.shape[1],
        "balanced_accuracy": rounded(float(balanced_accuracy_score(index, said))),
        "chance": rounded(1 / len(names)),
    }
