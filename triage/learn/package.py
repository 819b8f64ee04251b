"""From trained weights to a model that may serve: fp16 safetensors, model.toml, card."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from triage.assess.engine import open_engine
from triage.assess.network import build
from triage.assess.prepare import PREPARATION
from triage.assess.registry import CARD, WEIGHTS, Model, digest, load
from triage.assess.scale import Scale
from triage.domain.finding import CLASSES, Finding
from triage.errors import DataError, TrainingFailed
from triage.learn.answers import logits
from triage.learn.cache import cache_dir, pictures
from triage.learn.calibrate import Calibration, Limits, calibration_of
from triage.learn.checkpoint import fill, read_tensors
from triage.learn.data import read_films

_NEUTRAL = Calibration(Scale(), 0.5, Limits(0.2, 0.5), {finding: Limits(0.2, 0.5) for finding in Finding})


def package(
    weights: Sequence[Path],
    target: Path,
    data: Path,
    *,
    architecture: str,
    size: int,
    cache: Path | None = None,
    engine: str = "auto",
) -> Model:
    """Write a model folder with scale and thresholds from `val`; return the model as it loads.

    Of several weights of one network, as from the last stages of a run, the mean is taken.
    `target` is `models/<name>/<version>`; nothing of it changes until everything is written.

    Raises:
        DataError: the films can't be read or have no `val`.
        ModelRefused: the weights are missing, a pickle, or of another architecture.
        TrainingFailed: the disk has no room.
    """
    state = _mean(weights, architecture)
    films = read_films(data)
    indices = np.flatnonzero(films.splits == "val")
    if not len(indices):
        msg = f"{data} has no film in the split 'val', from which thresholds are taken."
        raise DataError(msg)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=target.parent))
    try:
        _write_weights(state, partial / WEIGHTS)
        facts = {
            "name": target.parent.name,
            "version": target.name,
            "architecture": architecture,
            "size": size,
        }
        _write_card(partial, facts, films.digest, _NEUTRAL)
        val = films.take(indices)
        grey = pictures(films, cache_dir(cache))
        values = logits(open_engine(load(partial), engine), grey, indices, size)
        _write_card(partial, facts, films.digest, calibration_of(val, values))
        load(partial)
        _put(partial, target)
    except OSError as error:
        msg = f"The model can't be written to {target}: {error.strerror}."
        raise TrainingFailed(msg) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return load(target)


def _mean(weights: Sequence[Path], architecture: str) -> dict[str, torch.Tensor]:
    network, states = build(architecture, len(CLASSES) + 1), []
    for path in weights:
        states.append(read_tensors(path))
        fill(network, states[-1], path, architecture)
    names = [name for name, tensor in states[0].items() if tensor.is_floating_point()]
    return {name: torch.stack([state[name].float() for state in states]).mean(dim=0) for name in names}


def _write_weights(state: Mapping[str, torch.Tensor], path: Path) -> None:
    half = {name: tensor.half().contiguous() for name, tensor in state.items()}
    save_file(half, path)
    path.chmod(0o644)


def _put(partial: Path, target: Path) -> None:
    """Move the finished files into the target, description last, so that a reader never sees a mixture."""
    target.mkdir(exist_ok=True)
    for name in (WEIGHTS, CARD):
        (partial / name).replace(target / name)


def _write_card(folder: Path, facts: Mapping[str, object], data_digest: str, found: Calibration) -> None:
    def limits(pair: Limits) -> str:
        return f"{{ low = {pair.low}, high = {pair.high} }}"

    classes = ", ".join(f'"{name}"' for name in CLASSES)
    lines = [
        "# Written by `triage models package`; scale and thresholds come from the split val.",
        f'name = "{facts["name"]}"',
        f'version = "{facts["version"]}"',
        f'architecture = "{facts["architecture"]}"',
        f"classes = [{classes}]",
        f"size = {facts['size']}",
        f'preparation = "{PREPARATION}"',
        f'sha256 = "{digest(folder / WEIGHTS)}"',
        f'data_sha256 = "{data_digest}"',
        "",
        "[calibration]",
        f"temperature = {found.scale.temperature}",
        f"gate_temperature = {found.scale.gate_temperature}",
        f"shift = [{', '.join(str(value) for value in found.scale.shift)}]",
        "",
        "[thresholds]",
        f"gate = {found.gate}",
        f"any_disease = {limits(found.any_disease)}",
        *(f"{finding.value} = {limits(found.findings[finding])}" for finding in Finding),
        "",
    ]
    (folder / CARD).write_text("\n".join(lines), encoding="utf-8")
