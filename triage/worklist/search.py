"""Finding a patient's studies in the list by name, ID or accession number."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import or_
from sqlalchemy.orm import Session

from triage.domain.entry import EntryState
from triage.store import entries
from triage.store.tables import Entry, Study
from triage.worklist import rows


def search(session: Session, text: str, now: datetime, limit: int = 50) -> list[dict[str, Any]]:
    """Return the entries whose patient name, patient ID or accession number holds every word of `text`.

    Unread ones come first, in reading order; then read ones, newest first.
    """
    query = rows.rows_of()
    words = text.replace(",", " ").replace("^", " ").split()
    if not words:
        return []
    for word in words[:6]:
        columns = (Study.patient_name, Study.patient_id, Study.accession_number, Study.study_uid)
        query = query.where(or_(*(column.icontains(word, autoescape=True) for column in columns)))
    unread = Entry.state.in_((EntryState.WAITING, EntryState.CLAIMED))
    first = query.where(unread).order_by(Entry.band, Entry.effective_at, Entry.arrived_at, Entry.study_uid)
    found = list(rows.read(session, first.limit(limit)))
    if len(found) < limit:
        rest = query.where(~unread).order_by(Entry.study_id.desc()).limit(limit - len(found))
        found += rows.read(session, rest)
    items = rows.items(session, found, now)
    for row, item in zip(found, items, strict=True):
        if row.state == EntryState.WAITING:
            item["position"] = entries.place_at(session, rows.key_of(row))
    return items
