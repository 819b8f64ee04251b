"""What HIS and RIS say of a study, whichever way it came and whether before or after the images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from triage.domain.entry import EntryState, EntryStep, EntryVerb
from triage.domain.policy import Policy
from triage.domain.priority import Urgency
from triage.errors import TriageError
from triage.store import entries, policies
from triage.store import orders as stored
from triage.store.database import announce
from triage.store.tables import Entry, Order, Study

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_LIMITS = {
    "accession_number": 64,
    "study_uid": 64,
    "placer_number": 100,
    "filler_number": 100,
    "patient_id": 256,
    "patient_id_issuer": 256,
    "patient_birth_date": 16,
    "patient_name": 400,
    "description": 400,
}


class BadOrder(TriageError):
    """An order that names no study, or with a value that can't be."""

    code = "bad-order"
    exit_code = 2


class Source(StrEnum):
    """The way an order came."""

    REST = "rest"
    HL7 = "hl7"
    MWL = "mwl"


@dataclass(frozen=True)
class OrderRequest:
    """One order as its source states it; empty texts are not known."""

    source: Source
    accession_number: str = ""
    study_uid: str = ""
    placer_number: str = ""
    filler_number: str = ""
    patient_id: str = ""
    patient_id_issuer: str = ""
    patient_birth_date: str = ""
    patient_name: str = ""
    description: str = ""
    #: None where the source says nothing of it; that takes nobody's word away.
    urgency: Urgency | None = None
    cancelled: bool = False

    def __post_init__(self) -> None:
        """Refuse what could not be kept, or could never find its study."""
        for name, limit in _LIMITS.items():
            value = getattr(self, name)
            if len(value) > limit or not (value.isprintable() or not value):
                msg = f"The order's {name} must be printable and not longer than {limit} characters."
                raise BadOrder(msg)
        if self.study_uid and not _UID.fullmatch(self.study_uid):
            msg = "The order's study_uid is no DICOM UID: digits and dots only."
            raise BadOrder(msg)
        _ = self.key

    @property
    def key(self) -> str:
        """The order's identity at its source: what a change or a cancellation must repeat."""
        for kind in ("accession_number", "placer_number", "filler_number", "study_uid"):
            value = getattr(self, kind)
            if value:
                return f"{self.source.value}:{kind}:{value}"
        msg = "An order needs an accession number, a placer or filler order number, or a Study Instance UID."
        raise BadOrder(msg)


@dataclass(frozen=True)
class Received:
    """What an order did: the studies it moved, and those of another patient that it left alone."""

    #: False for an order that was known as it is.
    changed: bool
    created: bool
    studies: tuple[str, ...] = ()
    other_patient: tuple[str, ...] = ()
    waiting_for_images: bool = field(default=False)


def receive(session: Session, request: OrderRequest, now: datetime, actor: str) -> Received:
    """Keep an order and rank its studies anew; the same order again changes nothing.

    A cancelled order withdraws its studies from the list unless another order asks for them, a new one brings
    a withdrawn study back. A study of another patient is left alone and named in the answer.
    """
    row = stored.by_key(session, request.key)
    created = row is None
    if row is None:
        row = Order(order_key=request.key, source=request.source.value, received_at=now)
        session.add(row)
    changed = _fill(row, request, now) or created
    session.flush()
    found = stored.studies_of(session, row)
    own = [study for study in found if not stored.contradicts(row, study)]
    others = tuple(study.study_uid for study in found if study not in own)
    if changed:
        policy = policies.active(session)
        for study in own:
            _apply(session, study, row, policy, now, actor)
        announce(session, "list")
    return Received(changed, created, tuple(study.study_uid for study in own), others, not found)


def _fill(row: Order, request: OrderRequest, now: datetime) -> bool:
    wanted: dict[str, Any] = {"cancelled": request.cancelled}
    # What a cancellation or a change leaves out is not unsaid.
    wanted["urgency"] = request.urgency or row.urgency
    for name in (
        "accession_number",
        "study_uid",
        "patient_id",
        "patient_id_issuer",
        "patient_birth_date",
        "patient_name",
        "description",
    ):
        wanted[name] = getattr(request, name) or getattr(row, name) or ""
    if all(getattr(row, name) == value for name, value in wanted.items()):
        return False
    for name, value in wanted.items():
        setattr(row, name, value)
    if request.urgency is not None:
        # Of several orders the newest word counts, and a change that has none makes no old word new.
        row.received_at = now
    return True


def _apply(session: Session, study: Study, order: Order, policy: Policy, now: datetime, actor: str) -> None:
    entry = session.get(Entry, study.id, populate_existing=True)
    if entry is None:
        return
    said = "cancelled" if order.cancelled else order.urgency.value if order.urgency else "no urgency stated"
    cause = f"order by {order.source}: {said}"
    wanted = bool(stored.for_study(session, study))
    if order.cancelled and not wanted and entry.state in (EntryState.WAITING, EntryState.CLAIMED):
        free = entries.UNCLAIMED
        entries.step(session, entry, EntryStep.WITHDRAW, now, actor=actor, cause=cause, changes=free)
        return
    if wanted and not order.cancelled and entry.state is EntryState.WITHDRAWN:
        entries.restore(session, entry, policy, now, actor=actor, cause=cause)
    if not entries.rerank(session, study, policy, now, verb=EntryVerb.ORDERED, cause=cause, actor=actor):
        entries.record(session, entry, EntryVerb.ORDERED, now, actor=actor, cause=cause)


@dataclass(frozen=True)
class Person:
    """A patient as a message names one; empty texts are not known."""

    patient_id: str
    issuer: str = ""
    name: str = ""
    birth_date: str = ""


def merge(session: Session, prior: Person, survivor: Person, now: datetime, actor: str) -> tuple[str, ...]:
    """Give the studies and orders of `prior` to `survivor` (ADT A40); returns the studies' UIDs.

    Places, claims and history stay; each entry gets one event. Only what names the same issuer, or none, is
    touched. With the same ID on both sides only name and birth date are corrected (ADT A08). Each study keeps
    whose it was: the modality may still send films of it under the earlier record.
    """
    if not prior.patient_id or not survivor.patient_id:
        msg = "A merge needs the prior and the surviving patient ID."
        raise BadOrder(msg)
    issuers = {"", prior.issuer} if prior.issuer else None
    rows = session.scalars(select(Study).where(Study.patient_id == prior.patient_id)).all()
    mine = [study for study in rows if issuers is None or study.patient_id_issuer in issuers]
    _rename_orders(session, prior, survivor)
    policy = policies.active(session)
    for study in mine:
        was = _identity(study)
        study.patient_id = survivor.patient_id
        study.patient_id_issuer = survivor.issuer or study.patient_id_issuer
        study.patient_name = survivor.name or study.patient_name
        study.patient_birth_date = survivor.birth_date or study.patient_birth_date
        # What was only filled in contradicts nothing that a modality says.
        changed = any(said and said != _identity(study)[name] for name, said in was.items())
        if changed and was not in study.earlier_patients:
            study.earlier_patients = [*study.earlier_patients, was]
    session.flush()
    for study in mine:
        entry = session.get(Entry, study.id, populate_existing=True)
        if entry is None:
            continue
        entries.guarded_update(session, entry, entry.state, {})
        cause = "patient record changed"
        entries.record(session, entry, EntryVerb.PATIENT_CHANGED, now, actor=actor, cause=cause)
        entries.rerank(session, study, policy, now, verb=EntryVerb.RERANKED, cause=cause, actor=actor)
    announce(session, "list")
    return tuple(study.study_uid for study in mine)


def _identity(study: Study) -> dict[str, str]:
    """Return whose a study is, as it is kept once it is somebody else's."""
    return {
        "patient_id": study.patient_id,
        "issuer": study.patient_id_issuer,
        "birth_date": study.patient_birth_date,
        "name": study.patient_name,
    }


def _rename_orders(session: Session, prior: Person, survivor: Person) -> None:
    known = {
        "patient_id": survivor.patient_id,
        "patient_id_issuer": survivor.issuer,
        "patient_name": survivor.name,
        "patient_birth_date": survivor.birth_date,
    }
    changed = {name: value for name, value in known.items() if value}
    same = Order.patient_id == prior.patient_id
    if prior.issuer:
        same = same & or_(Order.patient_id_issuer == "", Order.patient_id_issuer == prior.issuer)
    session.execute(update(Order).where(same).values(changed).execution_options(synchronize_session="fetch"))


def without_images(session: Session, limit: int = 100) -> list[dict[str, Any]]:
    """Return orders for which no image has come, newest first, as the API shows them."""
    return [_shown(order) for order in stored.without_images(session, limit)]


def _shown(order: Order) -> dict[str, Any]:
    return {
        "accession_number": order.accession_number,
        "study_instance_uid": order.study_uid,
        "patient": {
            "id": order.patient_id,
            "name": order.patient_name,
            "birth_date": order.patient_birth_date,
        },
        "description": order.description,
        "urgency": order.urgency.value if order.urgency else None,
        "source": order.source,
        "received_at": order.received_at.isoformat().replace("+00:00", "Z"),
    }


def apply_all(session: Session, requests: Sequence[OrderRequest], now: datetime, actor: str) -> int:
    """Keep several orders in the caller's transaction; returns how many were new or moved a study."""
    return sum(
        bool(done.created or done.studies) for done in (receive(session, r, now, actor) for r in requests)
    )
