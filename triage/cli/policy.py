"""`triage policy`: what a policy says, and what it would do, before it is switched on."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from triage.cli.options import Config, Json, print_json


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="The reading policy.")
    group.command("show")(show)
    group.command("test")(check)
    group.command("diff")(diff)
    group.command("activate")(activate)
    app.add_typer(group, name="policy")


def show(config: Config = None, as_json: Json = False) -> None:
    """Show the policy in force, its version and the longest overtaking that it allows."""
    from triage.cli.worklist import open_database
    from triage.store import policies

    with open_database(config).read() as session:
        policy = policies.active(session)
    _show(policy, as_json)


def _show(policy: Any, as_json: bool) -> None:
    shown = {"version": policy.version, "digest": policy.digest, **policy.to_mapping()}
    if as_json:
        print_json(shown)
        return
    print(f"Policy {policy.version}, mode {policy.mode.value}")
    print(f"Only STAT overtakes a film that arrived more than {policy.max_advance:g} minutes before it.")
    for name, minutes in sorted(policy.minutes.items(), key=lambda pair: -pair[1]):
        print(f"  {name:22} {minutes:6g} min ahead")
    for name, minutes in policy.due.items():
        print(f"  due, {name:17} {minutes:6g} min after arrival")


def check(file: Path, as_json: Json = False) -> None:
    """Check the policy of FILE and show what it says; nothing is changed."""
    from triage import settings

    _show(settings.read_policy(file), as_json)


def diff(
    file: Path,
    config: Config = None,
    as_json: Json = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Also the rows that stay where they are.")
    ] = False,
    at: Annotated[str, typer.Option("--at", metavar="TIME", help="To the list as it stood (RFC 3339).")] = "",
) -> None:
    """Show what the policy of FILE would do to the waiting list, row by row; nothing is changed."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from triage import settings
    from triage.cli.worklist import open_database
    from triage.worklist import history, policy_change

    policy = settings.read_policy(file)
    moment = history.moment_of(at) if at else datetime.now(UTC)
    with open_database(config).read() as session:
        moves = policy_change.compare(session, policy, moment, past=bool(at))
    shown = [m for m in moves if everything or m.before != m.after or m.advance_before != m.advance_after]
    if as_json:
        print_json(
            [
                {
                    "study_instance_uid": m.study_uid,
                    "before": m.before,
                    "after": m.after,
                    "advance_minutes_before": m.advance_before.total_seconds() / 60,
                    "advance_minutes_after": m.advance_after.total_seconds() / 60,
                    "reasons": list(m.reasons),
                }
                for m in shown
            ]
        )
        return
    title = f"What {policy.version} would do: {len(shown)} of {len(moves)} rows change"
    table = Table(title=Text(title, style="table.title"))
    for name in ("Now", "Then", "Minutes now", "Minutes then", "Why", "Study"):
        table.add_column(name)
    for m in shown:
        before, after = m.advance_before.total_seconds() / 60, m.advance_after.total_seconds() / 60
        why = Text("; ".join(m.reasons))
        table.add_row(str(m.before), str(m.after), f"{before:.0f}", f"{after:.0f}", why, m.study_uid)
    Console().print(table)


def activate(file: Path, config: Config = None) -> None:
    """Put the policy of FILE in force: one transaction, undone by activating the old one."""
    import getpass

    from triage import settings
    from triage.cli.worklist import open_database
    from triage.worklist import policy_change

    policy = settings.read_policy(file)
    with open_database(config).write() as session:
        policy_change.switch(session, policy, datetime.now(UTC), getpass.getuser())
    print(f"Policy {policy.version} is in force.")
