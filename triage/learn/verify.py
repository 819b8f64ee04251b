"""Whether a model is what its card says: its digest, its engine, and its figures from the films."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from triage.assess.engine import Agreement, Engine, open_engine, probe_films, verify_engine
from triage.assess.registry import Model, digest
from triage.errors import DataError, ModelRefused
from triage.learn.answers import prepared
from triage.learn.cache import cache_dir, pictures
from triage.learn.data import Films, read_films
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
    "precision",
    "recall",
    "sensitivity",
    "specificity",
    "frontal_recall",
    "others_rejected",
)
_TOLERANCE = 0.01
#: Films on which an engine is compared with torch.
_FILMS = 100
_SEED = 12


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
    engine = open_engine(model, kind)
    if data is None:
        agreement = verify_engine(model, engine, probe_films(model.size), open_engine(model, "torch"))
    else:
        agreement = _on_films(model, engine, read_films(data), cache)
    sentence = (
        f"{agreement.engine} changes a probability by at most {agreement.largest:.4f} "
        f"(tolerance {agreement.tolerance}) on {agreement.films} "
        + ("drawn pictures" if data is None else "films of val")
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


def on_processors(kind: str) -> str:
    """Return an engine's kind, for `auto` the one that serves on processors whatever this machine has."""
    if kind != "auto":
        return kind
    return "openvino" if find_spec("openvino") else "torch"


def proved(model: Model, kind: str, films: Films, cache: Path | None = None) -> Agreement:
    """Return how far an engine is from torch in fp32 on films.

    Raises:
        DataError: no film is a frontal one of `val`.
        ModelRefused: the engine is not there, or further from torch than it may be.
    """
    agreement = _on_films(model, open_engine(model, kind), films, cache)
    if not agreement.holds:
        msg = (
            f"On {agreement.films} films of val the engine {agreement.engine} changes a probability of "
            f"{model.label} by {agreement.largest:.3f}, more than {agreement.tolerance}, so that it must not "
            "serve; train on, or package other weights."
        )
        raise ModelRefused(msg)
    return agreement


def _on_films(model: Model, engine: Engine, films: Films, cache: Path | None) -> Agreement:
    batches = prepared(pictures(films, cache_dir(cache)), spread(films), model.size)
    return verify_engine(
        model, engine, [film for batch in batches for film in batch], open_engine(model, "torch")
    )


def spread(films: Films) -> npt.NDArray[np.int64]:
    """Return some frontal films of `val`, as many of each source as far as it has them; always the same.

    Raises:
        DataError: there is none.
    """
    rows = np.flatnonzero((films.splits == "val") & films.frontal)
    if not len(rows):
        msg = f"{films.root} has no frontal film in the split 'val', on which engines are compared."
        raise DataError(msg)
    rows = np.random.default_rng(_SEED).permutation(rows)
    sources = films.sources[rows]
    turns = zip_longest(*(rows[sources == source] for source in np.unique(sources)))
    return np.array([row for turn in turns for row in turn if row is not None][:_FILMS], np.int64)
