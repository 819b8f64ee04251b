"""`triage results`: what was built, where it is on its way, and what needs a person."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from triage.cli.options import Config, Json, print_json

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from triage.store.tables import Result

_Ids = Annotated[
    list[int] | None, typer.Argument(metavar="[ID]…", help="Numbers from `triage results list`.")
]


class Shown(StrEnum):
    """Which results to list."""

    ALL = "all"
    WAITING = "queued"
    DEAD = "dead"
    SENT = "sent"
    BUILT = "built"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Results on their way to the PACS, and dead letters.")
    group.command("list")(list_results)
    group.command("show")(show)
    group.command("retry")(retry)
    group.command("rebuild")(rebuild)
    app.add_typer(group, name="results")


def list_results(
    state: Annotated[Shown, typer.Option(help="Only results in this state.")] = Shown.ALL,
    limit: Annotated[int, typer.Option(help="How many, newest first.")] = 50,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """List result objects, newest first, each with its state for each destination."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from triage.cli.worklist import open_database
    from triage.domain.result import ResultState
    from triage.store import results

    states = list(ResultState) if state is Shown.ALL else [ResultState(state.value)]
    with open_database(config).read() as session:
        found = [_json(session, row) for row in results.in_state(session, states, limit)]
    if as_json:
        print_json({"items": found})
        return
    table = Table("id", "kind", "study", "version", "destination", "state", "tries", "last error", box=None)
    for row in found:
        keys = ("id", "kind", "study_instance_uid", "study_version", "destination", "state", "attempts")
        table.add_row(*(Text(str(row[key])) for key in (*keys, "last_error")))
    Console().print(table)


def show(
    number: Annotated[int, typer.Argument(metavar="ID")], as_json: Json = False, config: Config = None
) -> None:
    """Show one result and, as text, what the object says."""
    from pydicom import dcmread

    from triage import settings
    from triage.cli.worklist import open_database

    with open_database(config).read() as session:
        row = _result(session, number)
        shown = _json(session, row)
    path = settings.load(config).data_dir / "results" / row.path
    if as_json:
        print_json(shown)
        return
    for key, value in shown.items():
        print(f"{key.replace('_', ' ')}: {value}")
    print(f"file: {path}")
    if path.exists():
        for line in _lines(dcmread(path), 0):
            print(line)


def retry(
    ids: _Ids = None,
    everything: Annotated[bool, typer.Option("--all", help="Every dead result.")] = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Put dead results on their way again; a running service sends them at once."""
    from triage.cli.worklist import open_database
    from triage.deliver import outbox
    from triage.domain.result import ResultState
    from triage.errors import IllegalTransition
    from triage.store import results
    from triage.work.embedded import EmbeddedQueue

    if bool(ids) == everything:
        _usage("name the numbers of results, or --all.")
    db = open_database(config)
    queue, refused = EmbeddedQueue(db), {}
    done: list[int] = []
    with db.write() as session:
        chosen = (
            results.in_state(session, [ResultState.DEAD], 100_000)
            if everything
            else [_result(session, n) for n in ids or ()]
        )
        for row in chosen:
            try:
                outbox.retry(session, queue, row, datetime.now(UTC))
                done.append(row.id)
            except IllegalTransition as error:
                refused[row.id] = str(error)
    if as_json:
        print_json({"queued": done, "refused": refused})
    else:
        print(f"{len(done)} queued again")
    for number, sentence in refused.items():
        print(f"triage: result {number}: {sentence}", file=sys.stderr)
    if refused:
        raise typer.Exit(1)


def rebuild(
    study_uid: Annotated[str, typer.Argument(metavar="STUDY_UID")],
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Build a study's result objects again and send them; equal content keeps its UID."""
    from triage.cli.worklist import open_database
    from triage.store import studies
    from triage.work.embedded import EmbeddedQueue
    from triage.work.queue import Stage

    db = open_database(config)
    with db.write() as session:
        study = studies.by_uid(session, study_uid)
        payload = {"study_id": study.id, "version": study.version, "rebuild": True}
        key = f"{study.id}/{study.version}/rebuild"
        EmbeddedQueue(db).put(session, Stage.REPORT, key, payload, datetime.now(UTC))
    if as_json:
        print_json({"study_instance_uid": study_uid, "version": study.version, "queued": True})
    else:
        print("queued; a running service builds it at once")


def _usage(sentence: str) -> None:
    print(f"triage: {sentence}", file=sys.stderr)
    raise typer.Exit(2)


def _result(session: Session, number: int) -> Result:
    from triage.store.tables import Result

    row = session.get(Result, number)
    if row is None:
        _usage(f"there is no result {number}; see `triage results list`.")
    assert row is not None
    return row


def _json(session: Session, row: Result) -> dict[str, Any]:
    from triage.store.tables import Study

    return {
        "id": row.id,
        "kind": row.kind,
        "study_instance_uid": session.get_one(Study, row.study_id).study_uid,
        "study_version": row.study_version,
        "sop_instance_uid": row.sop_instance_uid,
        "destination": row.destination,
        "state": row.state.value,
        "attempts": row.attempts,
        "last_error": row.last_error,
        "created_at": row.created_at.isoformat(),
        "changed_at": row.changed_at.isoformat(),
    }


def _lines(item: Any, depth: int) -> list[str]:
    """Return a content tree as indented lines."""
    lines = []
    for child in item.get("ContentSequence", ()):
        name = child.ConceptNameCodeSequence[0].CodeMeaning if "ConceptNameCodeSequence" in child else "image"
        lines.append(f"{'  ' * depth}{name}{_value(child)}")
        lines += _lines(child, depth + 1)
    return lines


def _value(item: Any) -> str:
    if item.ValueType == "CODE":
        return f": {item.ConceptCodeSequence[0].CodeMeaning}"
    if item.ValueType == "NUM":
        return f": {item.MeasuredValueSequence[0].NumericValue}"
    for keyword in ("TextValue", "UID", "Date", "Time"):
        if keyword in item:
            return f": {item[keyword].value}"
    return ""
