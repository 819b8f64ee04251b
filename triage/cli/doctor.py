"""`triage doctor`: one line for each thing that must work, and what to do where it does not."""

from __future__ import annotations

import typer

from triage.cli.options import Config, Json, print_json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(config: Config = None, as_json: Json = False) -> None:
    """Check configuration, database, disk, model, port and every destination (exit code 1 if one fails)."""
    from triage import checks, settings

    loaded = settings.load(config)
    found = [{"name": c.name, "ok": c.ok, "sentence": c.sentence} for c in checks.run(loaded, config)]
    if as_json:
        print_json(found)
    else:
        for check in found:
            print(f"{'ok  ' if check['ok'] else 'FAIL'}  {check['name']:12} {check['sentence']}")
    if not all(check["ok"] for check in found):
        raise typer.Exit(1)
