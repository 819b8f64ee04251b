"""Whether a model is what its card says: its digest, its engine, and its figures from the films."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from triage.assess.engine import open_engine, probe_films, verify_engine
from triage.assess.registry import Model, digest
from triage.errors import DataError
from triage.learn.answers import prepared
from triage.learn.cache import cache_dir, pictures
from triage.learn.data import read_films
from triage.learn.evaluate import evaluate
from triage.learn.table import row_keys

#: The evaluation that the card was written from.
FIGURES = "figures.json"
#: The figures that are recomputed, and by how much another processor may move them.
HEADLINES = (
    "auroc",
    "accuracy",
    "macro_f1",
    "f1",
    "sensitivity",
    "specificity",
    "frontal_recall",
    "others_rejected",
)
_TOLERANCE = 0.01
_FILMS = 64


@dataclass(frozen=True)
class Check:
    """One thing looked at, and whether it is as it should be."""

    holds: bool
    sentence: str


def verify(
    model: Model,
    kind: str = "auto",
    data: Path | None = None,
    *,
    cache: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> list[Check]:
    """Return the checks of a model that `registry.find` let through; with `data` its figures too.

    Raises:
        DataError: the films can't be read, or the model has no figures to compare with.
        ModelRefused: the engine is not there.
    """
    same = digest(model.weights) == model.sha256
    checks = [Check(same, f"the weights of {model.label} have the digest {model.sha256[:16]} of model.toml")]
    engine, reference = open_engine(model, kind), open_engine(model, "torch")
    films = probe_films(model.size) if data is None else _some(data, model.size, cache)
    agreement = verify_engine(model, engine, films, reference)
    sentence = (
        f"{agreement.engine} changes a probability by at most {agreement.largest:.4f} "
        f"(tolerance {agreement.tolerance}) on {agreement.films} films"
    )
    checks.append(Check(agreement.holds, sentence))
    if data is None:
        return checks
    document = evaluate(model, engine, data, cache=cache, border=False, say=say).document
    return [*checks, *compare(recorded(model), document)]


def recorded(model: Model) -> Mapping[str, Any]:
    """Return the evaluation that was written beside the model.

    Raises:
        DataError: there is none, or it can't be read.
    """
    path = model.folder / FIGURES
    try:
        document: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        msg = f"{path} can't be read; package the model anew to get its figures."
        raise DataError(msg) from None
    return document


def compare(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Check]:
    """Yield a check for each row: whether its headline figures are those of the card."""
    same = was.get("data_sha256") == now.get("data_sha256")
    yield Check(same, "the films are those of the card" if same else "the films are not those of the card")
    for key in row_keys(was):
        pairs = [
            (name, float(was[key][name]), float(now.get(key, {}).get(name) or 0.0))
            for name in HEADLINES
            if was[key].get(name) is not None
        ]
        if not pairs:
            continue
        worst = max(abs(before - after) for _, before, after in pairs)
        shown = ", ".join(f"{name} {after:.3f} (card {before:.3f})" for name, before, after in pairs)
        yield Check(worst <= _TOLERANCE, f"{key}: {shown}")


def _some(data: Path, size: int, cache: Path | None) -> list[np.ndarray]:
    """Return some prepared films of `val`, spread over it."""
    films = read_films(data)
    rows = np.flatnonzero(films.splits == "val")
    rows = rows[:: max(1, len(rows) // _FILMS)]
    return [film for batch in prepared(pictures(films, cache_dir(cache)), rows, size) for film in batch]
