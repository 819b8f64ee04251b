"""`triage feedback`: what readers said of the findings, for the evaluation of the model."""

from __future__ import annotations

import typer

from triage.cli.options import Config, Json, print_json


def register(app: typer.Typer) -> None:
    """Add the command."""
    group = typer.Typer(no_args_is_help=True, help="Readers' agreement with the findings.")
    group.command("export")(export)
    app.add_typer(group, name="feedback")


def export(config: Config = None, as_json: Json = False) -> None:
    """Write labels.csv beside the films, for `triage evaluate --data`; patients are pseudonyms."""
    from triage import settings
    from triage.cli.worklist import open_database
    from triage.worklist import feedback

    spool = settings.load(config).data_dir / "spool"
    spool.mkdir(parents=True, exist_ok=True)
    with open_database(config).write() as session:
        path, count = feedback.write(session, spool)
    if as_json:
        print_json({"file": str(path), "data": str(spool), "films": count})
    else:
        print(
            f"{count} films with a confirmed finding in {path}; triage evaluate … --data {spool} --split test"
        )
