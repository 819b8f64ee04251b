"""What `make run` shows: a whole site on this machine, fed by real C-STORE, its list re-ranking live."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from pydicom import dcmread
from pynetdicom import AE
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from triage import RESEARCH_USE, app, listening, samples
from triage import folder as data_folder
from triage.domain.study import StudyState
from triage.errors import PeerUnreachable, TriageError
from triage.settings import (
    ListenerSettings,
    Settings,
    Site,
    SpoolSettings,
    StudySettings,
    WebSettings,
    load_policy,
)
from triage.store import accounts, entries, policies
from triage.store.database import Database
from triage.store.tables import Entry, FilmAssessmentRow, Study

#: How many rows of the list fit a terminal.
_ROWS = 20
_REFRESH = 0.2  # seconds between two looks at the list
_PATIENCE = 600.0  # seconds until the demonstration stops waiting for the last assessment


def demo_settings(folder: Path, web_port: int, dicom_port: int) -> Settings:
    """Return the settings of the demonstration: its own folder, loopback, studies complete quickly.

    Neither file nor environment is asked: they speak of a real site, whose data must not be touched.
    """
    return Settings.model_construct(
        site=Site(name="demonstration", data_dir=folder / "site"),
        listener=ListenerSettings(port=dicom_port),
        study=StudySettings(quiet_seconds=2),
        spool=SpoolSettings(low_water_mb=256),
        web=WebSettings(port=web_port),
    )


def run(folder: Path, web_port: int, dicom_port: int, console: Console) -> app.Service:
    """Start the service, send the samples, show the list until every film is judged; returns it serving.

    Each run is a new day: the list begins empty. The drawings and the model made ready are kept.

    Raises:
        ConfigurationError: a demonstration runs in this folder already, or a port is in use.
        TriageError: the listener did not take a sample.
    """
    settings = demo_settings(folder, web_port, dicom_port)
    begin_day(folder, settings)  # until this process ends
    films = _draw(folder / "samples", console)
    service = app.Service(settings, load_policy(settings), roles=app.roles_of(["all"]), create=True)
    with console.status("Loading the model ..."):
        service.start()
    try:
        page = _login_address(service)
        console.print(f"[b]Page[/b]  {page}  (opens once; log in again with 'triage demo')")
        for line in service.addresses():
            console.print(line)
        _show(service, films, console)
    except BaseException:
        service.stop()
        raise
    console.print(Text(RESEARCH_USE, style="dim"))
    return service


def begin_day(folder: Path, settings: Settings) -> Callable[[], None]:
    """Hold the demonstration's folder until the answer is called, and remove what its site kept of a run.

    Films that came yesterday have all waited for too long, and would stand before those of today.

    Raises:
        ConfigurationError: a demonstration or another service works in this folder, or a port is in use.
    """
    data_folder.make(settings.data_dir)
    end = data_folder.hold(folder, "demo")
    listening.check_free(listening.addresses(settings, receives=True, serves_page=True))
    with ExitStack() as held:
        for role in app.ALONE:
            held.callback(data_folder.hold(settings.data_dir, role))
        for name in ("spool", "results"):
            shutil.rmtree(settings.data_dir / name)
        for file in settings.data_dir.glob("triage.db*"):
            file.unlink()
    return end


def _draw(folder: Path, console: Console) -> Sequence[samples.Sample]:
    with _bar(console) as progress:
        task = progress.add_task("Drawing sample films", total=None)
        return samples.write(
            folder, progress=lambda done, total: progress.update(task, completed=done, total=total)
        )


def _bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=console)


def _login_address(service: app.Service) -> str:
    name = f"demonstration-{secrets.token_hex(3)}"
    with service.db.write() as session:
        secret = accounts.create_login(session, name, accounts.Role.ADMINISTRATOR, service.clock())
    return f"{service.web_address()}/login/once/{secret}"


def _show(service: app.Service, films: Sequence[samples.Sample], console: Console) -> None:
    progress = _bar(console)
    sent = progress.add_task("Sent by C-STORE ", total=len(films))
    judged = progress.add_task("Studies settled ", total=len({film.study_instance_uid for film in films}))
    with Live(console=console, refresh_per_second=8) as live:

        def draw() -> None:
            progress.update(judged, completed=_settled(service.db))
            live.update(Group(progress, _table(service.db)))

        for film in films:
            _send(service.dicom_address(), film.path)
            progress.advance(sent)
            draw()
        _wait_until(service.db, lambda: _draw_and_check(draw, service.db, progress, judged))
        draw()


def _wait_until(db: Database, done: Callable[[], bool]) -> None:
    """Return as soon as `done` says so, or when patience ends; looks at each commit."""
    changed = threading.Event()
    db.on_commit(lambda _topics: changed.set())
    end = time.monotonic() + _PATIENCE
    while not done() and time.monotonic() < end:
        changed.wait(_REFRESH)
        changed.clear()


def _draw_and_check(draw: Callable[[], None], db: Database, progress: Progress, task: TaskID) -> bool:
    draw()
    total = next(t.total for t in progress.tasks if t.id == task)
    return total is not None and _settled(db) >= total


def _send(address: tuple[str, int, str], path: Path) -> None:
    host, port, title = address
    film = dcmread(path)
    sender = AE("DEMO_MODALITY")
    sender.add_requested_context(film.SOPClassUID, film.file_meta.TransferSyntaxUID)
    association = sender.associate(host, port, ae_title=title)
    if not association.is_established:
        msg = f"The listener on {host}:{port} did not accept the association; see the log."
        raise PeerUnreachable(msg)
    try:
        answer = association.send_c_store(film)
    finally:
        association.release()
    # An answer without a status: the connection broke.
    status = answer.get("Status")
    if status != 0:
        said = "no status" if status is None else f"status 0x{status:04X}"
        msg = f"The listener answered {path.name} with {said} {answer.get('ErrorComment', '')}".rstrip()
        raise TriageError(f"{msg}; see the log, then run it again.")


def _settled(db: Database) -> int:
    done = (StudyState.ASSESSED, StudyState.NOT_EVALUATED, StudyState.FAILED)
    with db.read() as session:
        return session.scalar(select(func.count()).select_from(Study).where(Study.state.in_(done))) or 0


def _table(db: Database) -> Table:
    table = Table(title="Reading list", expand=True)
    for name in ("#", "Patient", "State", "Finding", "Why it stands here"):
        table.add_column(name, overflow="fold")
    with db.read() as session:
        for number, (entry, study) in enumerate(entries.waiting(session, _ROWS), start=1):
            urgent = "STAT " if entry.band == 0 else ""
            ranking = entries.ranking_of(entry, policies.by_version(session, entry.policy))
            reason = next(iter(ranking.reasons), "in order of arrival")
            patient, why = Text(study.patient_name), Text(urgent + reason)
            table.add_row(str(number), patient, study.state.value, _finding(session, entry), why)
    return table


def _finding(session: Session, entry: Entry) -> str:
    query = select(FilmAssessmentRow).where(FilmAssessmentRow.study_id == entry.study_id)
    rows = session.scalars(query).all()
    judged = [row for row in rows if row.any_disease is not None]
    if not judged:
        return rows[0].outcome.value if rows else ""
    worst = max(judged, key=lambda row: row.any_disease or 0.0)
    return f"{worst.outcome.value} {worst.any_disease:.2f}"
