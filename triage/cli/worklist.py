"""`triage worklist`: the reading list in the terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from triage.cli.options import Config, Json, print_json

_REFRESH = 1.0  # seconds between two looks


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("worklist")(worklist)


def worklist(
    config: Config = None,
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="Keep the list on the screen, live.")] = False,
    why: Annotated[
        str, typer.Option("--why", metavar="UID", help="Why a study stands where it stands.")
    ] = "",
    everything: Annotated[
        bool, typer.Option("--all", help="Also what is claimed, read or withdrawn.")
    ] = False,
    at: Annotated[str, typer.Option("--at", metavar="TIME", help="The list as it stood (RFC 3339).")] = "",
    limit: Annotated[int, typer.Option(help="How many rows.")] = 50,
) -> None:
    """Show the reading list, or with --why the place of one study."""
    from rich.console import Console

    from triage.worklist import history, listing

    db = open_database(config)
    console = Console()
    now = datetime.now(UTC)
    if why:
        with db.read() as session:
            shown = listing.why(session, why, now)
        return print_json(shown) if as_json else console.print(_explanation(shown))
    if at:
        with db.read() as session:
            past = history.at(session, history.moment_of(at), limit)
        return print_json(past) if as_json else console.print(_table(past))
    status = listing.Status.ALL if everything else listing.Status.WAITING

    def look() -> dict[str, Any]:
        with db.read() as session:
            return listing.page(session, datetime.now(UTC), status, limit)

    if watch and not as_json:
        return _watch(console, look)
    return print_json(look()) if as_json else console.print(_table(look()))


def open_database(config: Path | None) -> Any:
    """Return the database of the settings, checked."""
    from triage import settings
    from triage.store import migrations
    from triage.store.database import Database

    db = Database(settings.load(config).database_url)
    migrations.check(db)
    return db


def _watch(console: Any, look: Any) -> None:
    import threading

    from rich.live import Live

    pause = threading.Event()
    with Live(_table(look()), console=console, screen=console.is_terminal) as live:
        while not pause.wait(_REFRESH):
            live.update(_table(look()))


def _table(page: dict[str, Any]) -> Any:
    from rich.table import Table
    from rich.text import Text

    title = f"Reading list, {page['generated_at'][:19]} UTC, policy {page['policy']}"
    table = Table(title=Text(title, style="table.title"))
    for name in ("#", "Waited", "Patient", "Status", "Finding", "Why it stands here", "Study"):
        table.add_column(name, overflow="fold")
    for item in page["items"]:
        urgent = "STAT " if item["band"] == 0 else ""
        waited = item["waited_seconds"] // 60
        table.add_row(
            str(item["position"] or ""),
            f"{waited // 60}:{waited % 60:02d}",
            Text(item["patient"]["name"]),
            item["status"],
            _finding(item["assessment"]),
            Text(urgent + "; ".join(item["reasons"]) or "in order of arrival"),
            item["study_instance_uid"],
        )
    return table


def _finding(assessment: dict[str, Any]) -> str:
    if assessment["outcome"] is None:
        return assessment["state"] or ""
    present = [f for f in assessment["findings"] if f["state"] == "present"]
    named = ", ".join(f"{f['finding']} {f['probability']:.2f}" for f in present)
    return named or str(assessment["outcome"]).replace("_", " ")


def _explanation(shown: dict[str, Any]) -> Any:
    from rich.table import Table
    from rich.text import Text

    place = f"position {shown['position']}" if shown["position"] else shown["status"]
    title = f"{shown['study_instance_uid']}: {place}, policy {shown['policy']}"
    table = Table(title=Text(title, style="table.title"))
    for name in ("Term", "Minutes", "Counts", "Meaning"):
        table.add_column(name)
    for term in shown["terms"]:
        table.add_row(
            term["name"], f"{term['minutes']:+.2f}", "yes" if term["used"] else "", Text(term["sentence"])
        )
    arrived, effective = shown["arrived_at"][:19], shown["effective_at"][:19]
    table.caption = (
        f"arrived {arrived} - {shown['advance_minutes']:.2f} min = {effective} UTC; "
        f"band {shown['band']} ({'STAT' if shown['band'] == 0 else 'routine'}); due {shown['due_at'][:19]}"
        + "".join(f"\n{c['event']} would make it number {c['position']}" for c in shown["would_change"])
    )
    return table
