"""What would move a waiting entry ahead, and to which place: the other half of `why`."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Row
from sqlalchemy.orm import Session

from triage.domain.entry import EntryState
from triage.domain.policy import Policy
from triage.domain.priority import Ground, Standing, Urgency, place
from triage.store import entries
from triage.store.tables import Entry


def would_change(session: Session, entry: Entry | Row[Any], policy: Policy) -> list[dict[str, Any]]:
    """Return each event that would move a waiting entry ahead, with the place it would then have now.

    A place is 1 for the first; events that would change nothing are left out.
    """
    if entry.state is not EntryState.WAITING:
        return []
    standing = entries.standing_of_row(entry)
    present = place(standing, policy).key
    found = []
    for sentence, changed in _events(standing, policy):
        key = place(changed, policy).key
        if key < present:
            found.append({"event": sentence, "position": entries.place_at(session, key)})
    return found


def _events(standing: Standing, policy: Policy) -> list[tuple[str, Standing]]:
    limit = standing.arrived_at + timedelta(minutes=policy.upper_limit_minutes)
    moment = limit.isoformat(timespec="seconds").replace("+00:00", "Z")
    urgent = replace(standing, grounds=(*standing.grounds, Ground("urgent", "ordered as urgent", 1.0)))
    return [
        ("a STAT order", replace(standing, urgency=Urgency.STAT)),
        ("an urgent order", urgent),
        (f"the upper limit at {moment}", replace(standing, aged_out=True)),
    ]
