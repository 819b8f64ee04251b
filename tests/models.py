"""A tiny model on disk, in the final file format, with random weights: for tests of everything around it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors.torch import save_file

from triage.assess.network import build
from triage.assess.prepare import PREPARATION
from triage.assess.registry import Model, Thresholds
from triage.assess.scale import Scale
from triage.domain.finding import CLASSES, Finding

SIZE = 64
_LIMITS = Thresholds(0.2, 0.5)


def described(size: int, limits: Thresholds = _LIMITS, folder: Path = Path()) -> Model:
    """Return what a registry would say of a model for films of this size, for engines made by a test."""
    return Model(
        folder=folder,
        name="chest",
        version="9",
        architecture="none",
        classes=CLASSES,
        size=size,
        preparation="",
        sha256="d" * 64,
        data_sha256="",
        scale=Scale(),
        gate=0.5,
        any_disease=limits,
        findings=dict.fromkeys(Finding, limits),
    )


def write_model(
    root: Path, *, seed: int = 0, gate: float = 0.0, architecture: str = "densenet121", size: int = SIZE
) -> Path:
    """Write `root/chest/1` and return its folder; every picture passes the gate unless told otherwise."""
    folder = root / "chest" / "1"
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    state = build(architecture, len(CLASSES) + 1).state_dict()
    save_file({name: tensor.half() for name, tensor in state.items()}, folder / "weights.safetensors")
    digest = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    limits = "{ low = 0.3, high = 0.6 }"
    lines = [
        'name = "chest"',
        'version = "1"',
        f'architecture = "{architecture}"',
        f"classes = {list(CLASSES)}",
        f"size = {size}",
        f'preparation = "{PREPARATION}"',
        f'sha256 = "{digest}"',
        "[calibration]",
        "temperature = 0.8",
        "gate_temperature = 1.0",
        "shift = [0.5, -0.25, 0, 0, 0.125]",
        "[thresholds]",
        f"gate = {gate}",
        f"any_disease = {limits}",
        *(f"{finding.value} = {limits}" for finding in Finding),
    ]
    (folder / "model.toml").write_text("\n".join(lines) + "\n")
    return folder
