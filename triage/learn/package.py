"""From trained weights to a model that may serve: fp16 safetensors, model.toml, card."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from triage.assess.engine import open_engine
from triage.assess.network import build
from triage.assess.prepare import PREPARATION
from triage.assess.registry import CARD, WEIGHTS, Model, digest, load
from triage.domain.finding import CLASSES, Finding
from triage.errors import DataError, ModelRefused, TrainingFailed
from triage.learn.answers import Infers, answers_of, logits
from triage.learn.cache import cache_dir, pictures
from triage.learn.calibrate import Calibration, Limits, calibrate, gate_temperature_of, temperature_of
from triage.learn.data import read_films

_NEUTRAL = Calibration(1.0, 1.0, 0.5, Limits(0.2, 0.5), {finding: Limits(0.2, 0.5) for finding in Finding})


def load_weights(path: Path, architecture: str) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file after checking that they are this architecture's.

    Raises:
        ModelRefused: the file is missing, is a pickle or anything but safetensors, or is of another
            architecture.
    """
    try:
        state = load_file(path)
    except FileNotFoundError:
        msg = f"The weights {path} are not there."
        raise ModelRefused(msg) from None
    except (SafetensorError, OSError, ValueError):
        msg = f"{path} is not a safetensors file; pickles are never loaded."
        raise ModelRefused(msg) from None
    network = build(architecture, len(CLASSES) + 1)
    expected = {name: value.shape for name, value in network.state_dict().items()}
    for name, shape in expected.items():
        if name.endswith("num_batches_tracked"):
            continue
        if name not in state or state[name].shape != shape:
            msg = f"{path} holds no weights of {architecture}: '{name}' is missing or has another shape."
            raise ModelRefused(msg)
    return state


def package(
    weights: Path,
    target: Path,
    data: Path,
    *,
    architecture: str,
    size: int,
    cache: Path | None = None,
    engine: str = "auto",
) -> Model:
    """Write a model folder with thresholds and temperatures from `val`; return the model as it loads.

    `target` is `models/<name>/<version>`; nothing of it changes until everything is written.

    Raises:
        DataError: the films can't be read or have no `val`.
        ModelRefused: the weights are not of this architecture.
        TrainingFailed: the disk has no room.
    """
    state = load_weights(weights, architecture)
    films = read_films(data)
    val = np.flatnonzero(films.splits == "val")
    if not len(val):
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
        opened = open_engine(load(partial), engine)
        found = calibration_of(opened, data, size, cache)
        _write_card(partial, facts, films.digest, found)
        load(partial)
        _put(partial, target)
    except OSError as error:
        msg = f"The model can't be written to {target}: {error.strerror}."
        raise TrainingFailed(msg) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return load(target)


def calibration_of(engine: Infers, data: Path, size: int, cache: Path | None = None) -> Calibration:
    """Return temperatures and thresholds of a model from the films of `val`."""
    films = read_films(data)
    indices = np.flatnonzero(films.splits == "val")
    val = films.take(indices)
    values = logits(engine, pictures(films, cache_dir(cache)), indices, size)
    temperature, gate_temperature = temperature_of(val, values), gate_temperature_of(val, values)
    return calibrate(answers_of(val, values, temperature, gate_temperature), temperature, gate_temperature)


def _write_weights(state: Mapping[str, torch.Tensor], path: Path) -> None:
    half = {
        name: tensor.half().contiguous()
        for name, tensor in state.items()
        if tensor.is_floating_point() and not name.endswith("num_batches_tracked")
    }
    save_file(half, path)


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
        "# Written by `triage models package`; thresholds and temperatures come from the split val.",
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
        f"temperature = {found.temperature}",
        f"gate_temperature = {found.gate_temperature}",
        "",
        "[thresholds]",
        f"gate = {found.gate}",
        f"any_disease = {limits(found.any_disease)}",
        *(f"{finding.value} = {limits(found.findings[finding])}" for finding in Finding),
        "",
    ]
    (folder / CARD).write_text("\n".join(lines), encoding="utf-8")
