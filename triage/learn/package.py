"""From trained weights to a model that may serve: fp16 safetensors, model.toml, card."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from triage.assess.engine import open_engine
from triage.assess.network import build
from triage.assess.prepare import PREPARATION
from triage.assess.registry import DESCRIPTION, WEIGHTS, Model, Thresholds, digest, load
from triage.assess.scale import Scale
from triage.domain.finding import CLASSES, Finding
from triage.errors import ConfigurationError, DataError, ModelRefused
from triage.learn.answers import logits
from triage.learn.cache import cache_dir, pictures
from triage.learn.calibrate import Calibration, calibration_of
from triage.learn.checkpoint import fill, read_tensors, write_tensors
from triage.learn.data import read_films
from triage.learn.labels import OUTPUTS
from triage.learn.networks import hidden_units
from triage.learn.runs import Run
from triage.learn.written import not_written, write_text

#: What weights are taken for that lie in no run.
_USUAL = "densenet121"
_NEUTRAL = Calibration(
    Scale(), 0.5, Thresholds(0.2, 0.5), {finding: Thresholds(0.2, 0.5) for finding in Finding}
)


@contextmanager
def packaging(
    weights: Sequence[Path],
    target: Path,
    data: Path,
    *,
    architecture: str | None = None,
    size: int | None = None,
    cache: Path | None = None,
    engine: str = "auto",
) -> Iterator[Model]:
    """Give a model, with scale and thresholds from `val`, in a folder that no list of models shows.

    What else belongs to it is written beside it; at the end all of it takes the place of `target`, which is
    `models/<name>/<version>`. Until then, and if anything fails, nothing of `target` changes. Of several
    weights of one network, as from the last stages of a run, the mean is taken; networks of several kinds
    become an ensemble, in the order given. `architecture` and `size` are told by the settings of the run
    that weights lie in; for weights from elsewhere they are given.

    Raises:
        ConfigurationError: they are not known, or are not those of the run.
        DataError: the films can't be read or have no `val`.
        ModelRefused: the weights are missing, a pickle, of another architecture, have a hidden layer, or have
            learnt to stand behind another network.
        NotWritten: the disk has no room.
    """
    architecture, size, state = _joined(_kinds(weights, architecture, size))
    films = read_films(data)
    indices = np.flatnonzero(films.splits == "val")
    if not len(indices):
        msg = f"{data} has no film in the split 'val', from which thresholds are taken."
        raise DataError(msg)
    partial = _beside(target)
    try:
        _write_weights(state, partial / WEIGHTS)
        facts = {
            "name": target.parent.name,
            "version": target.name,
            "architecture": architecture,
            "size": size,
        }
        _describe(partial, facts, films.digest, _NEUTRAL)
        val = films.take(indices)
        grey = pictures(films, cache_dir(cache))
        values = logits(open_engine(load(partial), engine), grey, indices, size)
        _describe(partial, facts, films.digest, calibration_of(val, values))
        yield load(partial)
        _put(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _beside(target: Path) -> Path:
    """Return a new folder from which a model can be moved into its place."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise not_written(target, error) from None


def _kinds(
    weights: Sequence[Path], architecture: str | None, size: int | None
) -> dict[str, tuple[int, list[Path]]]:
    """Return edge of the input and weights of each architecture, as their runs or the caller tell."""
    kinds: dict[str, tuple[int, list[Path]]] = {}
    for path in weights:
        name, edge = _kind(path, architecture, size)
        known, paths = kinds.setdefault(name, (edge, []))
        if known != edge:
            msg = (
                f"{paths[0]} and {path} are both of {name}, for {known} and {edge} pixels: package "
                "weights of one size together."
            )
            raise ConfigurationError(msg)
        paths.append(path)
    return kinds


def _kind(path: Path, architecture: str | None, size: int | None) -> tuple[str, int]:
    settings = Run(path.parent).settings()
    if settings is None:
        if size is None:
            msg = f"No settings of a run lie beside {path}: give --size, and --architecture if need be."
            raise ConfigurationError(msg)
        return architecture or _USUAL, size
    if settings.gate is not None:
        msg = (
            f"{path} learnt to stand behind another network as its gate, and a model that serves has its "
            "gate in itself: train without `gate` to package."
        )
        raise ModelRefused(msg)
    stage = re.fullmatch(r"stage-(\d+)-\d+\.safetensors", path.name)
    edge = settings.stages[int(stage[1]) - 1 if stage else -1].size
    if (architecture or settings.architecture, size or edge) != (settings.architecture, edge):
        msg = (
            f"{path} is of {settings.architecture} for {edge} pixels by its run's settings, not of "
            f"{architecture or settings.architecture} for {size or edge}: leave --architecture "
            "and --size away."
        )
        raise ConfigurationError(msg)
    return settings.architecture, edge


def _joined(kinds: Mapping[str, tuple[int, Sequence[Path]]]) -> tuple[str, int, dict[str, torch.Tensor]]:
    """Return the architecture, the edge of the input and the weights of one network, or of an ensemble."""
    size = max(edge for edge, _ in kinds.values())
    states = [_mean(paths, name) for name, (_, paths) in kinds.items()]
    if len(kinds) == 1:
        return next(iter(kinds)), size, states[0]
    names: list[str] = []
    whole: dict[str, torch.Tensor] = {}
    for place, ((name, (edge, _)), state) in enumerate(zip(kinds.items(), states, strict=True)):
        reduced = edge < size
        names.append(f"{name}@{edge}" if reduced else name)
        where = f"networks.{place}.network." if reduced else f"networks.{place}."
        whole |= {where + key: tensor for key, tensor in state.items()}
    return "+".join(names), size, whole


def _mean(weights: Sequence[Path], architecture: str) -> dict[str, torch.Tensor]:
    network, states = build(architecture, OUTPUTS), []
    for path in weights:
        states.append(read_tensors(path))
        if hidden_units(states[-1]):
            msg = (
                f"{path} has a hidden layer in its head, and networks that serve have none: train without "
                "head_units to package."
            )
            raise ModelRefused(msg)
        fill(network, states[-1], path, architecture)
    names = [name for name, tensor in states[0].items() if tensor.is_floating_point()]
    return {name: torch.stack([state[name].float() for state in states]).mean(dim=0) for name in names}


def _write_weights(state: Mapping[str, torch.Tensor], path: Path) -> None:
    write_tensors({name: tensor.half() for name, tensor in state.items()}, path)
    path.chmod(0o644)


def _put(partial: Path, target: Path) -> None:
    """Move a finished folder into its place; what lay there is gone as a whole, its card included."""
    old = partial.with_name(f"{partial.name}.old")
    try:
        partial.chmod(0o755)
        if target.exists():
            target.rename(old)
        try:
            partial.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
    except OSError as error:
        raise not_written(target, error) from None
    shutil.rmtree(old, ignore_errors=True)


def _describe(folder: Path, facts: Mapping[str, object], data_digest: str, found: Calibration) -> None:
    def limits(pair: Thresholds) -> str:
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
    write_text(folder / DESCRIPTION, "\n".join(lines))
