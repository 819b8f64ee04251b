"""`triage evaluate`: a model or a training run judged on a split of films."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from triage.cli.options import Json, print_json
from triage.errors import ConfigurationError

if TYPE_CHECKING:
    from triage.assess.registry import Model
    from triage.learn.answers import Infers
    from triage.learn.candidate import Candidate


@dataclass(frozen=True)
class _Choice:
    """What is judged: models by name, or the folders of runs."""

    model: str
    version: str
    models: Path | None
    engine: str
    runs: list[Path]


@dataclass(frozen=True)
class _Wanted:
    """What is made beyond the figures."""

    audit: bool
    report: Path | None
    pictures: Path | None

    def of(self, number: int) -> _Wanted:
        """Return what is wanted of the model of that number: from the second on its files are numbered."""
        if number == 1:
            return self
        report = self.report and self.report.with_stem(f"{self.report.stem}-{number}")
        pictures = self.pictures and self.pictures.with_name(f"{self.pictures.name}-{number}")
        return replace(self, report=report, pictures=pictures)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evaluate")(evaluate)


def evaluate(
    *,
    data: Annotated[
        Path, typer.Option("--data", help="Folder of the films: index.csv, labels.csv or train|val|test.")
    ],
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Table of file and label that lies elsewhere.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="val or test.")] = "test",
    as_json: Json = False,
    model: Annotated[str, typer.Option("--model", help="Name of the model.")] = "chest",
    version: Annotated[str, typer.Option("--version", help="Version of the model, or 'latest'.")] = "latest",
    models: Annotated[
        Path | None, typer.Option("--models-dir", help="Folder of the models; else the installed one.")
    ] = None,
    run: Annotated[
        list[Path] | None,
        typer.Option("--run", help="Judge this finished run instead of a model; may be given again."),
    ] = None,
    engine: Annotated[str, typer.Option("--engine", help="auto, openvino, torch or cuda.")] = "auto",
    border: Annotated[
        bool, typer.Option("--border/--no-border", help="Also what the border of the film alone gives.")
    ] = True,
    audit: Annotated[
        bool,
        typer.Option("--audit", help="Also what moves the answers and should not: boxes, windows, headers."),
    ] = False,
    report: Annotated[
        Path | None, typer.Option("--report", help="Also write the figures and curves to this HTML file.")
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(
            "--pictures", help="Also write curves, confusion and worst films to this folder, as PNG."
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", help="Where decoded films are kept; else ~/.cache/triage/films."),
    ] = None,
) -> None:
    """Judge a model on a split, every figure with its interval; thresholds come from the split val.

    A run that left sources out is judged on them as on strangers. Its figures are kept in its folder if they
    are of the films that it learnt from.
    """
    documents: list[dict[str, Any]] = []
    choice = _Choice(model, version, models, engine, run or [])
    wanted = _Wanted(audit, report, pictures)
    asked = {"split": split, "cache": cache, "border": border, "labels": labels}
    for number, (found, opened, made) in enumerate(_judged(choice, data, labels, cache), 1):
        documents.append(_judge(found, opened, made, data, asked, wanted.of(number)))
        if not as_json:
            from triage.learn.table import table

            print(table(documents[-1]))
    if as_json:
        print_json(documents[0] if len(documents) == 1 else documents)


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _judged(
    choice: _Choice, data: Path, labels: Path | None, cache: Path | None
) -> Iterator[tuple[Model, Infers, Candidate | None]]:
    """Yield each model to judge with its engine, and the run that it is of."""
    from triage.assess.engine import open_engine
    from triage.assess.registry import find, models_dir
    from triage.learn.candidate import candidate

    if choice.runs and choice.engine not in {"auto", "torch"}:
        msg = f"A run is judged by torch; package it to judge it by {choice.engine}, or leave --engine out."
        raise ConfigurationError(msg)
    if not choice.runs:
        found = find(models_dir(choice.models), choice.model, choice.version)
        yield found, open_engine(found, choice.engine), None
    for folder in choice.runs:
        _say(f"taking the operating points of {folder.name} from val")
        made = candidate(folder, data, cache=cache, labels=labels)
        yield made.model, made.engine, made


def _judge(
    model: Model,
    engine: Infers,
    run: Candidate | None,
    data: Path,
    asked: dict[str, Any],
    wanted: _Wanted,
) -> dict[str, Any]:
    """Return all figures as one document, after writing what is asked for."""
    from triage.learn.evaluate import evaluate as judge

    left_out = run.recipe.leave_out if run else ()
    made = judge(model, engine, data, **asked, left_out=left_out, say=_say)
    if wanted.audit:
        from triage.assess.engines.torch_engine import load_network
        from triage.learn.audit import audit

        _say("auditing")
        network = run.network if run else load_network(model)
        made.document["audit"] = audit(model, engine, network, made)
    if wanted.report is not None:
        from triage.learn.report import write_report

        write_report(made, wanted.report)
        _say(f"The report is {wanted.report}.")
    if wanted.pictures is not None:
        from triage.learn.report import write_pictures

        write_pictures(made, wanted.pictures)
        _say(f"The pictures are in {wanted.pictures}.")
    if run is not None:
        from triage.learn.candidate import keep

        if not keep(run, made.document, asked["split"]):
            _say(f"These are not the films of {run.run.folder.name}: the figures are not kept in its folder.")
    return made.document
