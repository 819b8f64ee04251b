"""The model's card, generated: what it is for, what it was made from, every figure, what it must not do."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from triage.assess.engine import open_engine
from triage.assess.registry import DESCRIPTION, Model, load
from triage.domain.finding import Finding
from triage.learn.data import Films, Mask, read_films
from triage.learn.evaluate import evaluate
from triage.learn.package import packaging
from triage.learn.runs import Run
from triage.learn.sampling import chances
from triage.learn.table import markdown, sections
from triage.learn.verify import FIGURES, on_processors, proved
from triage.learn.written import write_text

CARD = "MODEL_CARD.md"

_USE = """
## What it is for
Research on the order of a reading list. It gives a frontal chest radiograph a probability for each of six
classes (normal, bacterial pneumonia, viral pneumonia, COVID-19, tuberculosis, other disease) and the
probability that the picture is a frontal chest film at all. A film is *positive* from the any-disease
threshold on or with any finding present, else *undetermined* with any of them in the grey zone below its
threshold, else *negative*.

## What it must not be used for
- Not a medical device. No diagnosis, no treatment, no decision to leave a film unread.
- Not for small findings such as lung nodules: {size} pixels do not show them.
- Not for lateral films, CT, or any other picture.
- Not on films of other hospitals, machines or patients than those below without judging it there first.
"""

#: What is known of the films and of how the weights were made, by hand, beside the versions of a model.
NOTES = "NOTES.md"


def package_with_card(
    weights: Sequence[Path],
    target: Path,
    data: Path,
    *,
    architecture: str | None = None,
    size: int | None = None,
    cache: Path | None = None,
    engine: str = "auto",
    say: Callable[[str], None] = lambda _: None,
) -> Model:
    """Write a model folder: weights, description, figures on `test` and card, all of it or nothing.

    Raises:
        DataError: the films can't be read, or have no `val` or no `test`.
        ModelRefused: on films the engine that serves is too far from torch; or as `packaging`.
        ConfigurationError, NotWritten: as `packaging`.
    """
    engine = on_processors(engine)
    say("taking scale and thresholds from val")
    with packaging(
        weights, target, data, architecture=architecture, size=size, cache=cache, engine=engine
    ) as model:
        films = read_films(data)
        say("comparing the engine that serves with torch, on films of val")
        agreement = proved(model, engine, films, cache)
        made = evaluate(model, open_engine(model, engine), data, cache=cache, say=say)
        document = {**made.document, "engine": asdict(agreement)}
        write_text(model.folder / FIGURES, json.dumps(document, indent=1) + "\n")
        drawn = learnt_from(weights, films)
        write_text(model.folder / CARD, card(model, document, films, drawn))
    return load(target)


def learnt_from(weights: Sequence[Path], films: Films) -> Films:
    """Return the films of `train` that runs, and what they began with or were taught by, have drawn from.

    All of them where no run's settings lie beside the weights.
    """
    drawn = np.zeros(len(films), dtype=bool)
    for path in weights:
        drawn |= _drawn(path, films, unknown=True)
    return films.take(drawn)


def _drawn(weights: Path, films: Films, *, unknown: bool) -> Mask:
    """Return which films weights have learnt from: a run says which, a model's folder only of which set.

    Where neither of them says it, all of `train` if `unknown`, else none.
    """
    run = Run(weights.parent)
    recipe, told = run.settings(), run.summary()
    if recipe is None or told.get("data_sha256") != films.digest:
        described = weights.parent / DESCRIPTION
        same = described.is_file() and load(weights.parent).data_sha256 == films.digest
        return (films.splits == "train") & (unknown or same)
    drawn = np.zeros(len(films), dtype=bool)
    here = films.without(recipe.leave_out)
    for stage in recipe.stages:
        drawn |= chances(here, recipe.classes_of(stage)) > 0
    for other in filter(None, [told.get("start_from"), *told.get("teachers", [])]):
        drawn |= _drawn(Path(other["weights"]), films, unknown=False)
    return drawn


def card(model: Model, document: Mapping[str, Any], films: Films, drawn: Films) -> str:
    """Return the card as Markdown; `drawn` are those of the films from which the weights learnt."""
    return "\n".join(
        [
            f"# {model.label}",
            "",
            f"{model.architecture}, one grey channel, {model.size} x {model.size} pixels, the whole film "
            f"stretched to the square (`{model.preparation}`); the answer is the mean over the film and its "
            f"mirror image. Weights SHA-256 `{model.sha256}`.",
            "Generated by `triage models package`; `triage models verify --data DIR` recomputes the headline "
            "figures of every row.",
            _USE.format(size=model.size),
            _data(films, drawn),
            "## Operating points, all from `val`",
            "",
            *_points(model),
            "",
            f"## Figures on `{document['split']}`, thresholds from `val`",
            "",
            *(markdown(section) for section in sections(document)),
            _notes(model),
        ]
    )


def _data(films: Films, drawn: Films) -> str:
    """Return what it was trained on, by source and by licence."""
    sources = Counter((row.source, row.label) for row in drawn.rows)
    licences = Counter(row.licence for row in drawn.rows)
    lines = [
        "## What it was made from",
        "",
        f"{len(drawn)} films (digest of the set `{films.digest}`); "
        f"{int((films.splits == 'val').sum())} others for thresholds. No patient is in two splits.",
        "",
        "| source | label | films |",
        "|---|---|---|",
        *(f"| {source} | {label} | {count} |" for (source, label), count in sorted(sources.items())),
        "",
        "Licences of these films, as their publishers state them:",
        "",
        *(f"- {count} films: {licence}" for licence, count in licences.most_common()),
        "",
    ]
    return "\n".join(lines)


def _points(model: Model) -> list[str]:
    pairs = {"any disease": model.any_disease, **{key.value: value for key, value in model.findings.items()}}
    return [
        "| answer | undetermined from | present from |",
        "|---|---|---|",
        *(f"| {name} | {pair.low:.4f} | {pair.high:.4f} |" for name, pair in pairs.items()),
        f"| frontal chest film | | {model.gate:.4f} |",
        "",
        f"Temperatures: classes {model.scale.temperature:.4f}, gate {model.scale.gate_temperature:.4f}. "
        "Shift of the diseases among themselves: "
        + ", ".join(
            f"{finding.value} {shift:+.2f}" for finding, shift in zip(Finding, model.scale.shift, strict=True)
        )
        + ".",
    ]


def _notes(model: Model) -> str:
    """Return what the people who made a model wrote of it and its films, or nothing."""
    try:
        return (model.folder.parent / NOTES).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
