"""The audit log: who touched which patient's data, in the vocabulary of PS3.15 A.5 (CID 400)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from triage.store.tables import Audit


class AuditEvent(StrEnum):
    """Event identifiers of CID 400 (DCM)."""

    AUDIT_LOG_USED = "110101"
    INSTANCES_ACCESSED = "110103"
    INSTANCES_TRANSFERRED = "110104"
    ORDER_RECORD = "110109"
    PATIENT_RECORD = "110110"
    PROCEDURE_RECORD = "110111"
    QUERY = "110112"
    SECURITY_ALERT = "110113"
    USER_AUTHENTICATION = "110114"


class AuditOutcome(IntEnum):
    """EventOutcomeIndicator (PS3.15 A.5.2)."""

    SUCCESS = 0
    MINOR_FAILURE = 4


@dataclass(frozen=True)
class AuditRecord:
    """One row to be: `action` is C, R, U, D or E; `detail` names no patient."""

    at: datetime
    event: AuditEvent
    action: str
    actor: str
    host: str = ""
    study_uid: str = ""
    outcome: AuditOutcome = AuditOutcome.SUCCESS
    detail: str = ""


def append(session: Session, records: Sequence[AuditRecord]) -> None:
    """Append records; there is no function that changes or removes one."""
    rows = [
        {
            "at": record.at,
            "event_code": record.event.value,
            "action": record.action,
            "outcome": int(record.outcome),
            "actor": record.actor[:80],
            "host": record.host[:64],
            "study_uid": record.study_uid[:64],
            "detail": record.detail,
        }
        for record in records
    ]
    if rows:
        session.execute(insert(Audit), rows)


def newest(session: Session, limit: int, before_id: int | None = None) -> Sequence[Audit]:
    """Return the newest rows, newest first, from below `before_id` on."""
    query = select(Audit).order_by(Audit.id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(Audit.id < before_id)
    return session.scalars(query).all()
