"""A finished network that teaches another: it sees each film larger, and its doubts are learnt as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from triage.domain.finding import CLASSES
from triage.errors import ConfigurationError
from triage.learn.labels import CODE_NOT_FRONTAL
from triage.learn.networks import finished
from triage.learn.recipe import Distil, name_without
from triage.learn.runs import WEIGHTS, command, last_run, may_know, refuse_knowing


def find_teacher(given: str, root: Path, leave_out: Sequence[str] = ()) -> Path:
    """Return the weights of a teacher, given as a file, as a run's folder, or as the recipe of its run.

    For a recipe the newest finished run in `root` is taken. Where the learner leaves sources out, so must its
    teacher have done, or its answers would tell of them.

    Raises:
        ConfigurationError: there is none, or it has learnt from a source that is left out.
    """
    path = Path(given)
    for file in (path, path / WEIGHTS, root / given / WEIGHTS):
        if file.is_file():
            refuse_knowing(file, leave_out)
            return file
    for name in dict.fromkeys((name_without(given, leave_out), given)):
        run = last_run(root, name, state="finished")
        if run is not None and not may_know(run.weights, leave_out):
            return run.weights
    left = f" that has left out {', '.join(leave_out)}" if leave_out else ""
    msg = (
        f"The teacher '{given}' is no weights file, no run's folder and no recipe with a finished run{left} "
        f"in {root}; train it first: {command(given, leave_out)}."
    )
    raise ConfigurationError(msg)


@dataclass(frozen=True)
class Teacher:
    """A network that does not learn any more."""

    network: torch.nn.Module

    @classmethod
    def load(cls, settings: Distil, path: Path, device: torch.device) -> Teacher:
        """Return the teacher with the weights of a file.

        Raises:
            ModelRefused: the weights are no safetensors or of another architecture.
            ConfigurationError: the teacher's packages are not installed.
        """
        network = finished(settings.architecture, path).to(device)
        moved = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return cls(moved)

    def answers(self, views: torch.Tensor) -> torch.Tensor:
        """Return the logits float32 [N, 7] for films at the teacher's size."""
        views = views.contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), torch.autocast(views.device.type, torch.bfloat16):
            found = self.network(views)
        answer: torch.Tensor = found.float()
        return answer


def mixed(
    cost: torch.Tensor, logits: torch.Tensor, answers: torch.Tensor, codes: torch.Tensor, settings: Distil
) -> torch.Tensor:
    """Return the labels' cost mixed with how far the logits are from the teacher's answers."""
    share = settings.share
    return (1 - share) * cost + share * distance(logits, answers, codes, settings.temperature)


def distance(
    logits: torch.Tensor, answers: torch.Tensor, codes: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Return the mean divergence of the softened class answers over the frontal films of a batch.

    It is multiplied by the temperature's square, so that its gradient is as large as the labels'.
    """
    frontal = codes < CODE_NOT_FRONTAL
    own = torch.log_softmax(logits[frontal, : len(CLASSES)].float() / temperature, dim=1)
    said = torch.softmax(answers[frontal, : len(CLASSES)].float() / temperature, dim=1)
    apart = torch.nn.functional.kl_div(own, said, reduction="sum") / frontal.sum().clamp(min=1)
    return apart * temperature**2
