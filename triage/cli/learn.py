"""`triage train`, `triage runs` and `triage models`: models made and checked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from triage.cli.options import Json, print_json
from triage.errors import ConfigurationError

_Data = Annotated[
    Path, typer.Option("--data", help="Folder of the films: index.csv, labels.csv or train|val|test.")
]
_Models = Annotated[
    Path | None, typer.Option("--models-dir", help="Folder of the models; else the installed one.")
]
_Name = Annotated[str, typer.Option("--model", help="Name of the model.")]
_Version = Annotated[str, typer.Option("--version", help="Version of the model, or 'latest'.")]
_Cache = Annotated[
    Path | None, typer.Option("--cache", help="Where decoded films are kept; else ~/.cache/triage/films.")
]
_Runs = Annotated[Path, typer.Option("--runs", help="Where run folders and their register lie.")]
_RUNS = Path("triage-data/runs")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("train")(train)
    app.command("runs")(list_runs)
    group = typer.Typer(no_args_is_help=True, help="The models on disk: list, verify, package.")
    group.command("list")(list_models)
    group.command("verify")(verify)
    group.command("package")(package)
    app.add_typer(group, name="models")


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe's file, or the name of one in config/recipes.")],
    *,
    data: _Data,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the last run of this recipe.")] = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    runs: _Runs = _RUNS,
    leave_out: Annotated[
        list[str] | None,
        typer.Option("--leave-out", help="Learn nothing of this source; may be given again."),
    ] = None,
    find_rate: Annotated[
        Path | None, typer.Option("--find-rate", help="Do not train: try rates, and draw them to this PNG.")
    ] = None,
    cache: _Cache = None,
) -> None:
    """Train a network by RECIPE; a run that was killed goes on with --resume."""
    from triage.learn import train as training
    from triage.learn.recipe import find_recipe

    path = find_recipe(recipe)
    if find_rate is not None:
        if resume:
            msg = "--find-rate tries rates from the start of a recipe; leave --resume out."
            raise ConfigurationError(msg)
        best = training.try_rates(
            path, data, runs, find_rate, device=device, cache=cache, leave_out=leave_out or ()
        )
        print(f"The loss falls fastest at a rate of {best:.1e}.")
        return
    folder = training.train(
        path, data, runs, resume=resume, device=device, cache=cache, leave_out=leave_out or (), say=_say
    )
    print(f"The run lies in {folder}.")


def list_runs(
    runs: _Runs = _RUNS,
    as_json: Json = False,
    table: Annotated[
        bool, typer.Option("--table", help="Instead: the figures of the systems that the recipes stand for.")
    ] = False,
    models: _Models = None,
) -> None:
    """List the stages of every training run with what each gave on the split val."""
    if not table:
        from triage.learn.register import lines, trial_table

        if as_json:
            print_json(lines(runs))
        else:
            print(trial_table(runs))
        return
    if as_json:
        msg = "--json goes with the register of runs; leave --table out."
        raise ConfigurationError(msg)
    from triage.assess.registry import models_dir, versions
    from triage.learn.originals import comparison

    root = models_dir(models)
    known = versions(root, "chest")
    print(comparison(runs, root / "chest" / known[-1] if known else None))


def list_models(models: _Models = None, as_json: Json = False) -> None:
    """Print every model: name and version, architecture, edge of its input, digest."""
    from triage.assess.registry import load, models_dir, versions

    root = models_dir(models)
    found = [
        load(root / folder.name / version)
        for folder in sorted(root.glob("*/"))
        for version in versions(root, folder.name)
    ]
    if as_json:
        facts = ("name", "version", "architecture", "size", "sha256")
        print_json({"items": [{fact: getattr(model, fact) for fact in facts} for model in found]})
    else:
        for model in found:
            print(f"{model.label}  {model.architecture}  {model.size} px  sha256 {model.sha256[:16]}")
    if not found:
        print(f"No model lies in {root}.", file=sys.stderr)
        raise typer.Exit(1)


def verify(
    *,
    data: Annotated[
        Path | None, typer.Option("--data", help="Also recompute the figures of the card from these films.")
    ] = None,
    model: _Name = "chest",
    version: _Version = "latest",
    models: _Models = None,
    engine: Annotated[str, typer.Option("--engine", help="The engine to check against torch.")] = "auto",
    cache: _Cache = None,
) -> None:
    """Recompute a model's digest, its engine's agreement with torch and, with films, its figures."""
    from triage.assess.registry import find, models_dir
    from triage.learn.verify import verify as check_all

    found = find(models_dir(models), model, version)
    checks = check_all(found, engine, data, cache=cache, say=_say)
    for check in checks:
        print(f"{'ok  ' if check.holds else 'FAIL'}  {check.sentence}")
    if not all(check.holds for check in checks):
        raise typer.Exit(1)


def package(
    weights: Annotated[
        list[Path],
        typer.Argument(
            help="Safetensors files of finished runs: of those of one network the mean is taken, "
            "several networks answer together."
        ),
    ],
    *,
    out: Annotated[Path, typer.Option("--out", help="The model's folder, NAME/VERSION.")],
    data: _Data,
    size: Annotated[
        int | None, typer.Option("--size", help="Edge of the input in pixels, of weights that lie in no run.")
    ] = None,
    architecture: Annotated[
        str | None,
        typer.Option("--architecture", help="Network of weights that lie in no run; else densenet121."),
    ] = None,
    cache: _Cache = None,
) -> None:
    """Make a model from trained weights: thresholds from val, figures and card from test."""
    from triage.learn.card import package_with_card

    made = package_with_card(weights, out, data, architecture=architecture, size=size, cache=cache, say=_say)
    print(f"The model {made.label} lies in {made.folder}.")
