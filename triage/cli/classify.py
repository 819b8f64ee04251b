"""`triage classify`: files through the service's very pixel chain and model."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from triage.cli.options import Config, Json, print_json
from triage.domain.finding import NotEvaluated

if TYPE_CHECKING:
    from triage.assess.classifier import Classifier, Judged

_SUFFIXES = frozenset({".dcm", ".dicom", ".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"})
#: Answers that mean that a file could not be worked on, rather than that it is no matter for the model.
_FAILED = frozenset({NotEvaluated.UNDECODABLE, NotEvaluated.MODEL_FAILURE, NotEvaluated.TIMEOUT})
_AT_ONCE = 2


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("classify")(classify)


@dataclass(frozen=True)
class _Row:
    path: Path
    judged: Judged | None
    milliseconds: float
    error: str = ""


def classify(
    paths: Annotated[list[Path], typer.Argument(help="DICOM or picture files, or folders of them.")],
    as_json: Json = False,
    explain: Annotated[
        Path | None,
        typer.Option(help="Write heat maps (GradCAM++) of what moved each finding to this folder."),
    ] = None,
    config: Config = None,
) -> None:
    """Classify DICOM or picture files; nothing is stored and nothing is sent."""
    from triage import settings
    from triage.assess.opening import open_classifier

    missing = [path for path in paths if not path.exists()]
    if missing:
        print(f"triage: {missing[0]} does not exist.", file=sys.stderr)
        raise typer.Exit(2)
    files = [file for path in paths for file in _files(path)]
    loaded = settings.load(config)
    cache = loaded.engines_dir if loaded.data_dir.is_dir() else None
    classifier = open_classifier(**dict(loaded.model), cache=cache)
    rows = list(_judge_all(classifier, files, quiet=as_json))
    if explain is not None:
        _explain(classifier, rows, explain)
    if as_json:
        print_json([_json(row, classifier.model.label) for row in rows])
    else:
        _print(rows)
    failed = [row for row in rows if _failure(row)]
    for row in failed:
        print(f"triage: {row.path}: {_failure(row)}", file=sys.stderr)
    if failed:
        raise typer.Exit(1)


def _files(path: Path) -> list[Path]:
    """Return the file itself, or what looks like a film in a folder, in order of name."""
    if not path.is_dir():
        return [path]
    return [file for file in sorted(path.rglob("*")) if file.is_file() and _looks_like_film(file)]


def _looks_like_film(file: Path) -> bool:
    if file.suffix.lower() in _SUFFIXES:
        return True
    with file.open("rb") as opened:
        return opened.read(132)[128:] == b"DICM"


def _judge_all(classifier: Classifier, files: list[Path], *, quiet: bool) -> Iterator[_Row]:
    """Yield each file's answer in order, with a progress bar on a terminal and plain lines elsewhere."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        rows = threads.map(lambda file: _judge(classifier, file), files)
        if console.is_terminal:
            yield from track(rows, "Classifying", total=len(files), console=console, transient=True)
            return
        for number, row in enumerate(rows, 1):
            if not quiet and (number % 100 == 0 or number == len(files)):
                print(f"classified {number} of {len(files)}", file=sys.stderr)
            yield row


def _judge(classifier: Classifier, file: Path) -> _Row:
    started = time.perf_counter()
    try:
        judged = classifier.judge_file(file)
    except OSError as error:
        return _Row(file, None, 0.0, f"The file can't be read: {error.strerror}.")
    return _Row(file, judged, (time.perf_counter() - started) * 1e3)


def _failure(row: _Row) -> str:
    if row.judged is None:
        return row.error
    said = row.judged.assessment
    return said.sentence if said.reason in _FAILED else ""


def _json(row: _Row, model: str) -> dict[str, Any]:
    if row.judged is None:
        return {
            "path": str(row.path),
            "sop_instance_uid": "",
            "outcome": "not_evaluated",
            "reason": NotEvaluated.UNDECODABLE.value,
            "sentence": row.error,
            "gate": {"frontal": None},
            "any_disease": None,
            "findings": [],
            "model": model,
            "milliseconds": 0.0,
        }
    said = row.judged.assessment
    return {
        "path": str(row.path),
        "sop_instance_uid": said.sop_instance_uid,
        "outcome": said.outcome.value,
        "reason": said.reason.value if said.reason else None,
        "sentence": said.sentence,
        "gate": {"frontal": _rounded(said.frontal)},
        "any_disease": _rounded(said.any_disease),
        "findings": [
            {"finding": f.finding.value, "probability": _rounded(f.probability), "state": f.state.value}
            for f in said.findings
        ],
        "model": said.model,
        "milliseconds": round(row.milliseconds, 1),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _print(rows: list[_Row]) -> None:
    """Print one line for each file."""
    for row in rows:
        if row.judged is None:
            print(f"{row.path}: not evaluated. {row.error}")
            continue
        said = row.judged.assessment
        print(f"{row.path}: {said.outcome.value.replace('_', ' ')}. {said.sentence}")


def _explain(classifier: Classifier, rows: list[_Row], folder: Path) -> None:
    """Write the heat maps of every evaluated film."""
    from triage.assess.explain import Explainer

    explainer = Explainer(classifier.model)
    for number, row in enumerate(rows):
        if row.judged is not None:
            explainer.write(row.judged, folder, f"{number:04d}-{row.path.stem}")
