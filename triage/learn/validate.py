"""A look at `val` while learning: a few figures, and whether the answers have collapsed to one class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from triage.domain.finding import CLASSES
from triage.errors import TrainingFailed
from triage.learn.answers import Answers, answers_of, logits
from triage.learn.cache import Pictures
from triage.learn.data import Films, Mask
from triage.learn.labels import CODE_NOT_FRONTAL, CODE_UNLABELLED, NORMAL
from triage.learn.loss import loss
from triage.learn.measures import auroc, confusion, rates
from triage.learn.recipe import Loss

#: One answer to more than this share of the films is a collapse, where no class is as common as that.
_COLLAPSE = 0.98

Figures = dict[str, float]


@dataclass
class NetworkEngine:
    """A network in training as an engine: bf16 where the device has it, channels last."""

    network: torch.nn.Module
    device: torch.device

    def infer(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return logits float32 [N, 7]."""
        self.network.eval()
        inputs = torch.from_numpy(np.ascontiguousarray(batch)).to(self.device)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16):
            found = self.network(inputs)
        return np.asarray(found.float().cpu().numpy(), np.float32)


def look(
    engine: NetworkEngine, films: Films, pictures: Pictures, size: int, asked: Mask, settings: Loss
) -> tuple[Figures, Answers]:
    """Return the figures of the films of `val` that are asked for, and the answers behind them.

    The loss there is that of the labels alone, of films as they are.
    """
    rows = np.flatnonzero(asked & (films.splits == "val") & (films.codes != CODE_UNLABELLED))
    values = logits(engine, pictures, rows, size)
    val = answers_of(films.take(rows), values)
    cost = loss(torch.from_numpy(values), torch.from_numpy(val.films.codes), settings)
    return {"val_loss": float(cost)} | figures(val), val


def figures(val: Answers) -> Figures:
    """Return AUROC of any disease and of the gate, accuracy and macro F1 of six classes, and precision.

    Precision is the share of the diseased among the frontal films of which disease is likelier than not.
    """
    codes = val.films.codes
    frontal = codes < CODE_NOT_FRONTAL
    called = frontal & (val.diseased >= 0.5)
    single = codes < len(CLASSES)
    table = rates(
        confusion(codes[single], val.classes[single].argmax(axis=1), len(CLASSES)).astype(np.float64)
    )
    return {
        "any_disease": auroc(codes[frontal] != NORMAL, val.diseased[frontal]),
        "gate": auroc(frontal, val.gate),
        "accuracy": float(table["accuracy"]),
        "macro_f1": float(table["macro_f1"]),
        "precision": float((codes[called] != NORMAL).mean()) if called.any() else float("nan"),
    }


def refuse_collapse(val: Answers, *, ended: bool) -> None:
    """Raise when the answers are one class for nearly every film, at the end also one of normal and diseased.

    Of a beginner the second says nothing: it may call nearly all films diseased, and learn from there.

    Raises:
        TrainingFailed: the sentence names the class and its share.
    """
    single = val.films.codes < len(CLASSES)
    _refuse_one(CLASSES, val.classes[single].argmax(axis=1), val.films.codes[single])
    if ended:
        frontal = val.films.frontal
        _refuse_one(("normal", "diseased"), val.diseased[frontal] >= 0.5, val.films.codes[frontal] != NORMAL)


def _refuse_one(names: Sequence[str], said: npt.NDArray[Any], true: npt.NDArray[Any]) -> None:
    if not len(said):
        return
    answers = np.bincount(said.astype(np.int64), minlength=len(names)) / len(said)
    labels = np.bincount(true.astype(np.int64), minlength=len(names)) / len(true)
    most = int(answers.argmax())
    if answers[most] > _COLLAPSE and labels[most] < 0.9:
        msg = (
            f"The network answers '{names[most]}' to {answers[most]:.0%} of the films of val, of which "
            f"{labels[most]:.0%} are: it has collapsed; lower the rate, or balance the classes."
        )
        raise TrainingFailed(msg)
