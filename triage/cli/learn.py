"""`triage train`, `triage evaluate` and `triage models`: learning, judging and the models on disk."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from triage.cli.options import print_json

Data = Annotated[Path, typer.Option("--data", help="Folder of the films: index.csv, labels.csv or train|val|test.")]
Cache = Annotated[Path | None, typer.Option(help="Where decoded films are kept; ~/.cache/triage otherwise.")]
Folder = Annotated[Path | None, typer.Option("--models", help="Folder of the models; else the installed one.")]

models = typer.Typer(no_args_is_help=True, help="The models on disk: list, verify, package.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("evaluate")(evaluate)
    app.add_typer(models, name="models")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def evaluate(
    data: Data,
    name: Annotated[str, typer.Option("--model", help="Name of the model.")] = "chest",
    version: Annotated[str, typer.Option(help="Version, or latest.")] = "latest",
    folder: Folder = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    engine: Annotated[str, typer.Option(help="auto, openvino, torch or cuda.")] = "auto",
    border: Annotated[bool, typer.Option(help="Also what the border of the film alone gives.")] = True,
    cache: Cache = None,
) -> None:
    """Judge a model on a split; print every figure with its interval as one JSON document."""
    from triage.assess.engine import open_engine
    from triage.assess.registry import find, models_dir
    from triage.learn.evaluate import evaluate as judge

    model = find(models_dir(folder), name, version)
    found = judge(model, open_engine(model, engine), data, split=split, cache=cache, border=border, say=_say)
    print_json(found.document)


@models.command("list")
def list_models(folder: Folder = None) -> None:
    """Print every model: name and version, architecture, edge of its input, digest."""
    from triage.assess.registry import load, models_dir, versions

    root = models_dir(folder)
    for entry in sorted(path for path in root.glob("*") if path.is_dir()):
        for version in versions(root, entry.name):
            model = load(entry / version)
            print(f"{model.label}  {model.architecture}  {model.size} px  sha256 {model.sha256[:16]}")


@models.command("package")
def package_model(
    weights: Annotated[Path, typer.Argument(help="Safetensors file of a finished run.")],
    target: Annotated[Path, typer.Argument(help="Folder models/NAME/VERSION to write.")],
    data: Data,
    size: Annotated[int, typer.Option(help="Edge of the input in pixels.")],
    architecture: Annotated[str, typer.Option(help="Network of the weights.")] = "densenet121",
    engine: Annotated[str, typer.Option(help="Engine by which thresholds are taken.")] = "auto",
    cache: Cache = None,
) -> None:
    """Make a model folder from trained weights; thresholds and temperatures come from val."""
    from triage.learn.package import package

    model = package(weights, target, data, architecture=architecture, size=size, cache=cache, engine=engine)
    print(f"{model.label} written to {target}")
