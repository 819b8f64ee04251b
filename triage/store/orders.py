"""Orders from RIS and HIS, found by accession number or study UID, before or after the images."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from triage.domain.priority import Urgency
from triage.store.tables import Order, Study


def for_study(session: Session, study: Study) -> Sequence[Order]:
    """Return the orders that name a study, newest first."""
    same = [Order.study_uid == study.study_uid]
    if study.accession_number:
        same.append(Order.accession_number == study.accession_number)
    query = (
        select(Order).where(or_(*same), ~Order.cancelled).order_by(Order.received_at.desc(), Order.id.desc())
    )
    return session.scalars(query).all()


def urgency(session: Session, study: Study) -> Urgency:
    """Return the human's word on a study: the newest order's, else the object's own."""
    return urgency_of(study, for_study(session, study))


def urgency_of(study: Study, orders: Sequence[Order]) -> Urgency:
    """Return the word of the newest of these orders, else the object's own."""
    newest = max(orders, key=lambda order: (order.received_at, order.id), default=None)
    return study.object_urgency if newest is None else newest.urgency
