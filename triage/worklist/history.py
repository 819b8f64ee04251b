"""The list as it stood at any minute, from the events alone: no copy of the list is ever kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Select, delete, func, select, union_all
from sqlalchemy.orm import Session, aliased

from triage.domain.entry import EntryState, EntryStep, EntryVerb
from triage.errors import TriageError
from triage.store import entries, installation
from triage.store.database import Database
from triage.store.tables import Entry, EntryEvent, PolicyRow, Study

#: What happened to an entry, as readers say it: each step and each verb.
WORDS: Mapping[str, str] = {
    EntryStep.CLAIM: "claimed",
    EntryStep.RELEASE: "released",
    EntryStep.EXPIRE: "claim ended, its reader was idle",
    EntryStep.COMPLETE: "marked as read",
    EntryStep.WITHDRAW: "withdrawn",
    EntryStep.RESTORE: "back in the list",
    EntryStep.REOPEN: "back in the list",
    EntryVerb.ARRIVED: "entered the list",
    EntryVerb.RECEIVED: "another object arrived",
    EntryVerb.ASSESSED: "re-ranked after an assessment",
    EntryVerb.CONCLUDED: "re-ranked after the conclusion",
    EntryVerb.ORDERED: "re-ranked after an order",
    EntryVerb.PATIENT_CHANGED: "patient corrected",
    EntryVerb.RERANKED: "re-ranked",
    EntryVerb.POLICY: "re-ranked under another policy",
    EntryVerb.PINNED: "pinned ahead",
    EntryVerb.LOWERED: "lowered",
    EntryVerb.NOTED: "note written",
    EntryVerb.REFUSED: "not marked as read: look at the new film first",
    EntryVerb.AGED_OUT: "waited longer than the limit: moved ahead",
    EntryVerb.DUE_WARNED: "due soon",
    EntryVerb.DUE_BREACHED: "overdue",
}
#: Events that one transaction forgets.
_AT_ONCE = 1000


class BadTime(TriageError):
    """A time that can't be read."""

    code = "bad-time"
    exit_code = 2


def moment_of(text: str) -> datetime:
    """Return the time of an RFC 3339 text; without an offset it is UTC.

    Raises:
        BadTime: the text is no time.
    """
    wrong = BadTime("The time can't be read; write it like 2026-03-01T12:00:00Z.")
    try:
        moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00").replace(" ", "+"))
    except ValueError:
        try:
            moment = datetime.fromisoformat(text.strip())
        except ValueError:
            raise wrong from None
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:  # before the year 1 or after 9999, once its offset is taken off
        raise wrong from None


def at(session: Session, moment: datetime, limit: int = 50) -> dict[str, Any]:
    """Return the first `limit` rows of the list as readers saw it at `moment`, in its order of then.

    Each row names the model and policy that had put it there.

    Raises:
        BadTime: the history of then is not kept any more.
    """
    start = installation.history_start(session)
    if start is not None and moment < start:
        msg = f"The history is kept from {start.isoformat(timespec='seconds')} on; choose a later time."
        raise BadTime(msg)
    event = aliased(EntryEvent)
    query = (
        select(event, Study)
        .join(Study, Study.id == event.study_id)
        .where(event.id.in_(last_events(moment)), event.state == EntryState.WAITING)
        .order_by(event.band, event.effective_at, event.arrived_at, Study.study_uid)
        .limit(limit)
    )
    rows = session.execute(query).all()
    models = _models(session, [study.id for _, study in rows], moment)
    in_force = session.scalars(
        select(PolicyRow).where(PolicyRow.activated_at <= moment).order_by(PolicyRow.id.desc()).limit(1)
    ).first()
    return {
        "generated_at": moment.isoformat().replace("+00:00", "Z"),
        "policy": in_force.version if in_force else "",
        "items": [
            _item(number, row, study, models.get(study.id, ""), moment)
            for number, (row, study) in enumerate(rows, start=1)
        ],
        "next_cursor": None,
    }


def forget(db: Database, clock: Callable[[], datetime], keep: timedelta) -> int:
    """Remove the history of studies that were read longer than `keep` ago; return how many events that were.

    Whatever still waits keeps all of its history. Some thousand studies at a time, so that no writer waits.
    """
    before = clock() - keep
    removed = 0
    while True:
        with db.write() as session:
            old = select(Entry.study_id).where(Entry.read_at < before)
            chosen = select(EntryEvent.id).where(EntryEvent.study_id.in_(old)).limit(_AT_ONCE)
            numbers = session.scalars(chosen).all()
            if not numbers:
                return removed
            session.execute(delete(EntryEvent).where(EntryEvent.id.in_(numbers)))
            installation.set_history_start(session, before)
            removed += len(numbers)


def last_events(moment: datetime) -> Select[tuple[int | None]]:
    """Return the newest event by then of each entry that may have waited: those read before are left out."""
    unread = [
        select(Entry.study_id).where(entries.in_state(state), Entry.arrived_at <= moment)
        for state in (EntryState.WAITING, EntryState.CLAIMED, EntryState.WITHDRAWN)
    ]
    candidates = union_all(*unread, select(Entry.study_id).where(Entry.read_at > moment)).subquery()
    last = (
        select(func.max(EntryEvent.id))
        .where(EntryEvent.study_id == candidates.c.study_id, EntryEvent.at <= moment)
        .correlate(candidates)
        .scalar_subquery()
    )
    return select(last).select_from(candidates)


def _models(session: Session, study_ids: list[int], moment: datetime) -> dict[int, str]:
    """Return the model that had last spoken of each study by then."""
    query = (
        select(EntryEvent.study_id, EntryEvent.model)
        .where(EntryEvent.study_id.in_(study_ids), EntryEvent.at <= moment, EntryEvent.model != "")
        .order_by(EntryEvent.id)
    )
    return {study_id: model for study_id, model in session.execute(query)}  # noqa: C416 - rows, not tuples


def _item(number: int, event: EntryEvent, study: Study, model: str, moment: datetime) -> dict[str, Any]:
    def text(value: datetime) -> str:
        return value.isoformat().replace("+00:00", "Z")

    return {
        "position": number,
        "study_instance_uid": study.study_uid,
        "accession_number": study.accession_number,
        "patient": {
            "id": study.patient_id,
            "name": study.patient_name,
            "birth_date": study.patient_birth_date,
            "sex": study.patient_sex,
        },
        "status": event.state.value,
        "claimed_by": event.claimed_by,
        "arrived_at": text(event.arrived_at),
        "due_at": text(event.due_at),
        "waited_seconds": max(0, int((moment - event.arrived_at).total_seconds())),
        "band": event.band,
        "effective_at": text(event.effective_at),
        "advance_minutes": (event.arrived_at - event.effective_at).total_seconds() / 60,
        "assessment": {
            "state": None,
            "outcome": None,
            "any_disease": None,
            "model": model or None,
            "findings": [],
        },
        "policy": event.policy,
        "reasons": [event.cause or WORDS.get(event.verb, event.verb)],
    }
