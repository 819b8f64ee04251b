"""Orders from RIS and HIS, found by accession number or study UID, before or after the images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

from sqlalchemy import ColumnElement, Table, and_, bindparam, or_, select
from sqlalchemy.orm import Session

from triage.domain.priority import Urgency
from triage.store.prepared import Prepared
from triage.store.studies import Head
from triage.store.tables import Order, Study

_ORDER = cast("Table", Order.__table__)


class Word(NamedTuple):
    """What an order says of the urgency of a study, and of whom it speaks."""

    id: int
    received_at: int
    urgency: str
    patient_id: str
    patient_id_issuer: str
    patient_birth_date: str


_WORDS = Prepared(
    lambda _: select(*(_ORDER.c[name] for name in Word._fields)).where(
        or_(
            _ORDER.c.study_uid == bindparam("uid", type_=_ORDER.c.study_uid.type),
            _ORDER.c.accession_number == bindparam("accession", type_=_ORDER.c.accession_number.type),
        ),
        ~_ORDER.c.cancelled,
        _ORDER.c.urgency.is_not(None),
    )
)


def for_study(session: Session, study: Study) -> Sequence[Order]:
    """Return the orders that name a study and not another patient, newest first."""
    same = [Order.study_uid == study.study_uid]
    if study.accession_number:
        same.append(Order.accession_number == study.accession_number)
    query = (
        select(Order).where(or_(*same), ~Order.cancelled).order_by(Order.received_at.desc(), Order.id.desc())
    )
    return [order for order in session.scalars(query) if not contradicts(order, study)]


def contradicts(order: Order | Word, study: Study | Head) -> bool:
    """Return whether order and study name different patients: such an order must not move the study.

    Only values that both have can contradict each other; issuers are compared where both are known.
    """
    pairs = (
        (order.patient_id, study.patient_id),
        (order.patient_id_issuer, study.patient_id_issuer),
        (order.patient_birth_date, study.patient_birth_date),
    )
    return any(one and other and one != other for one, other in pairs)


def studies_of(session: Session, order: Order) -> Sequence[Study]:
    """Return the studies that an order names, whoever they belong to."""
    same = []
    if order.study_uid:
        same.append(Study.study_uid == order.study_uid)
    if order.accession_number:
        same.append(Study.accession_number == order.accession_number)
    return session.scalars(select(Study).where(or_(*same))).all() if same else []


def naming() -> ColumnElement[bool]:
    """Return, for a query of studies, whether an order names the row's study."""
    same = or_(
        Order.study_uid == Study.study_uid,
        and_(Study.accession_number != "", Order.accession_number == Study.accession_number),
    )
    return select(Order.id).where(same, ~Order.cancelled).correlate(Study).exists()


def by_key(session: Session, key: str) -> Order | None:
    """Return the order with an identity at its source."""
    return session.scalars(select(Order).where(Order.order_key == key)).first()


def without_images(session: Session, limit: int) -> Sequence[Order]:
    """Return the orders, newest first, for which no image has come."""
    arrived = select(Study.id).where(
        or_(
            and_(Order.study_uid != "", Study.study_uid == Order.study_uid),
            and_(Order.accession_number != "", Study.accession_number == Order.accession_number),
        )
    )
    query = select(Order).where(~Order.cancelled, ~arrived.exists())
    return session.scalars(query.order_by(Order.received_at.desc(), Order.id.desc()).limit(limit)).all()


def urgency(session: Session, study: Study) -> Urgency:
    """Return the human's word on a study: of the newest order that states one, else the object's own."""
    return urgency_of(study, for_study(session, study))


def urgency_of_head(session: Session, head: Head) -> Urgency:
    """Return `urgency` of a study of which only the head is known."""
    rows = _WORDS.ask(session, {"uid": head.study_uid, "accession": head.accession_number or None})
    said = [word for word in (Word(*row) for row in rows) if not contradicts(word, head)]
    newest = max(said, key=lambda word: (word.received_at, word.id), default=None)
    return head.object_urgency if newest is None else Urgency(newest.urgency)


def urgency_of(study: Study, orders: Sequence[Order]) -> Urgency:
    """Return the word of the newest of these orders that states one, else the object's own."""
    said = [(order.received_at, order.id, order.urgency) for order in orders if order.urgency is not None]
    return max(said)[2] if said else study.object_urgency
