"""The models on disk: `models/<name>/<version>/` with weights, model.toml, card; refused if they differ."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triage.assess.prepare import PREPARATION
from triage.assess.scale import Scale
from triage.domain.finding import CLASSES, Finding
from triage.errors import ModelRefused

WEIGHTS = "weights.safetensors"
DESCRIPTION = "model.toml"


@dataclass(frozen=True)
class Thresholds:
    """Below `low` absent, from `high` on present, between them undetermined."""

    low: float
    high: float


@dataclass(frozen=True)
class Model:
    """What model.toml says; the weights lie beside it and match `sha256`."""

    folder: Path
    name: str
    version: str
    architecture: str
    classes: tuple[str, ...]
    #: Edge of the square input in pixels.
    size: int
    preparation: str
    sha256: str
    #: Digest of the data that it was trained on.
    data_sha256: str
    scale: Scale
    #: From this probability on, a picture counts as a frontal chest film.
    gate: float
    any_disease: Thresholds
    findings: Mapping[Finding, Thresholds]

    @property
    def label(self) -> str:
        """Name and version, as lists and reports show it."""
        return f"{self.name}/{self.version}"

    @property
    def weights(self) -> Path:
        """The file of the weights."""
        return self.folder / WEIGHTS


def models_dir(override: Path | None = None) -> Path:
    """Return the folder of all models: the given one, else the one that came with this installation."""
    return override or Path(__file__).resolve().parents[2] / "models"


def versions(root: Path, name: str) -> list[str]:
    """Return the versions of a model, oldest first (numbers count as numbers)."""
    # a folder with a dot is a model in the making
    found = [entry.parent.name for entry in (root / name).glob(f"[!.]*/{DESCRIPTION}")]
    return sorted(found, key=lambda text: (not text.isdigit(), int(text) if text.isdigit() else 0, text))


def find(root: Path, name: str, version: str = "latest") -> Model:
    """Return a verified model.

    Raises:
        ModelRefused: no such model or version, or `load` refuses it.
    """
    known = versions(root, name)
    if not known:
        msg = f"No model '{name}' lies in {root}; check the setting model.folder."
        raise ModelRefused(msg)
    chosen = known[-1] if version == "latest" else version
    if chosen not in known:
        msg = f"The model '{name}' has no version '{chosen}'; there are: {', '.join(known)}."
        raise ModelRefused(msg)
    return load(root / name / chosen)


def load(folder: Path) -> Model:
    """Return the model of a folder after comparing its weights with the digest that model.toml names.

    Raises:
        ModelRefused: a file is missing, a value can't be, the digest differs, or the model was trained on
            another preparation or other classes than this code has.
    """
    try:
        raw = tomllib.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        model = _read(folder, raw)
    except OSError as error:
        msg = f"The model in {folder} can't be read: {error.strerror}."
        raise ModelRefused(msg) from None
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        msg = f"{folder / DESCRIPTION} is not a valid model description ({error}); install the model anew."
        raise ModelRefused(msg) from None
    if model.preparation != PREPARATION or model.classes != CLASSES:
        msg = f"The model {model.label} expects another input or other classes than this version; retrain it."
        raise ModelRefused(msg)
    if digest(model.weights) != model.sha256:
        msg = f"The weights of {model.label} do not match its model.toml; install the model anew."
        raise ModelRefused(msg)
    return model


def digest(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        ModelRefused: the file can't be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        msg = f"The weights {path} can't be read: {error.strerror}."
        raise ModelRefused(msg) from None


def _scale(raw: Mapping[str, Any]) -> Scale:
    shift = tuple(float(value) for value in raw["shift"])
    if len(shift) != len(Finding):
        msg = f"the shift has {len(shift)} values, not one for each of {len(Finding)} diseases"
        raise ValueError(msg)
    return Scale(float(raw["temperature"]), float(raw["gate_temperature"]), shift)


def _thresholds(raw: Mapping[str, Any]) -> Thresholds:
    low, high = float(raw["low"]), float(raw["high"])
    if not 0 <= low <= high <= 1:
        msg = f"thresholds {low} and {high} are not 0 <= low <= high <= 1"
        raise ValueError(msg)
    return Thresholds(low, high)


def _read(folder: Path, raw: Mapping[str, Any]) -> Model:
    calibration, thresholds = raw["calibration"], raw["thresholds"]
    return Model(
        folder=folder,
        name=str(raw["name"]),
        version=str(raw["version"]),
        architecture=str(raw["architecture"]),
        classes=tuple(raw["classes"]),
        size=int(raw["size"]),
        preparation=str(raw["preparation"]),
        sha256=str(raw["sha256"]),
        data_sha256=str(raw.get("data_sha256", "")),
        scale=_scale(calibration),
        gate=float(thresholds["gate"]),
        any_disease=_thresholds(thresholds["any_disease"]),
        findings={finding: _thresholds(thresholds[finding.value]) for finding in Finding},
    )
