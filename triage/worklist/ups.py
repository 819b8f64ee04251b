"""The reading list as Unified Procedure Steps (PS3.4 CC): one workitem for each entry, without a network.

A client that sorts by Scheduled Procedure Step Priority, then by Scheduled Procedure Step Start DateTime,
has our order: STAT is HIGH and everything else MEDIUM, since an urgent order is, like a finding, an
advance of the start and no class of its own. The model never sets the priority.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from sqlalchemy import Row, Select, func, select
from sqlalchemy.orm import Session

from triage.domain.entry import EntryState
from triage.domain.policy import Policy
from triage.errors import TriageError
from triage.store import entries, policies
from triage.store.tables import Entry, EntryEvent, Study
from triage.store.types import random_uid
from triage.worklist import actions

PUSH_CLASS = "1.2.840.10008.5.1.4.34.6.1"
LABEL = "TRIAGE READING LIST"
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")


class State(StrEnum):
    """Procedure Step State (0074,1000)."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"


_STATES = {
    EntryState.WAITING: State.SCHEDULED,
    EntryState.CLAIMED: State.IN_PROGRESS,
    EntryState.READ: State.COMPLETED,
    EntryState.WITHDRAWN: State.CANCELED,
}
_ENTRY_STATES = {state: entry for entry, state in _STATES.items()}


class UpsError(TriageError):
    """A request that is refused; `status` is the DIMSE status of PS3.4 CC.2."""

    code = "ups"

    def __init__(self, status: int, sentence: str) -> None:
        """Keep the status beside the sentence."""
        super().__init__(sentence)
        self.status = status


def _rows() -> Select[Any]:
    changed = (
        select(func.max(EntryEvent.at))
        .where(EntryEvent.study_id == Entry.study_id)
        .correlate(Entry)
        .scalar_subquery()
    )
    columns = (
        Entry.workitem_uid, Entry.study_uid, Entry.state, Entry.band, Entry.effective_at, Entry.arrived_at,
        Entry.due_at, Entry.urgency, Entry.standing, Entry.pins, Entry.aged_out, Entry.policy,
        Study.state.label("study_state"), Study.patient_id, Study.patient_id_issuer, Study.patient_name,
        Study.patient_birth_date, Study.patient_sex, Study.accession_number, Study.description,
        Study.study_date,
    )  # fmt: skip
    return select(*columns, changed.label("changed_at")).join(Study, Study.id == Entry.study_id)


def search(
    session: Session, keys: Dataset, limit: int | None = None, offset: int = 0, *, whole: bool = False
) -> Iterator[Dataset]:
    """Yield the workitems that match a query's keys: in reading order, unread ones unless it names a state.

    Matched are state, priority, workitem and study UID, patient ID and name, accession number and label;
    every other key is only returned. Each answer holds what was asked for, all without any key or if `whole`.
    """
    wanted = _text(keys.get("ProcedureStepState"))
    states = [State.SCHEDULED, State.IN_PROGRESS]
    if wanted:
        states = [state for state in State if state.value == wanted]
    known: dict[str, Policy] = {}
    given = 0
    for state in states:
        condition = entries.in_state(_ENTRY_STATES[state])
        order = (Entry.band, Entry.effective_at, Entry.arrived_at, Entry.study_uid)
        for row in session.execute(_rows().where(condition).order_by(*order)):
            if row.policy not in known:
                known[row.policy] = policies.by_version(session, row.policy)
            item = workitem(row, known[row.policy])
            if not _matches(item, keys):
                continue
            given += 1
            if given > offset:
                yield item if whole else _asked_for(item, keys)
            if limit is not None and given >= offset + limit:
                return


def retrieve(session: Session, uid: str) -> Dataset:
    """Return one workitem.

    Raises:
        UpsError: C307, no such workitem here.
    """
    row = session.execute(_rows().where(Entry.workitem_uid == _known_form(uid))).first()
    if row is None:
        raise _unknown()
    return workitem(row, policies.by_version(session, row.policy))


def study_of(session: Session, uid: str) -> str:
    """Return the Study Instance UID that a workitem is of; empty where there is no such workitem."""
    return session.scalar(select(Entry.study_uid).where(Entry.workitem_uid == uid)) or ""


def change_state(session: Session, uid: str, change: Dataset, actor: str, now: datetime) -> None:
    """Claim, complete or give back by a change of state with a Transaction UID (PS3.4 CC.2.1).

    CANCELED gives the study back to the list under a new workitem: it has not been read yet, and the
    list never drops a study because of a client.

    Raises:
        UpsError: with the status of PS3.4 table CC.2.1-2.
        RefusedOnce: a film came since the claim; the next COMPLETED is accepted.
    """
    entry = session.scalars(select(Entry).where(Entry.workitem_uid == _known_form(uid))).first()
    if entry is None:
        raise _unknown()
    transaction = _text(change.get("TransactionUID"))
    state = _text(change.get("ProcedureStepState"))
    if not _UID.fullmatch(transaction) or len(transaction) > 64:
        raise UpsError(0xC301, "The Transaction UID is missing or no UID.")
    if state == State.IN_PROGRESS:
        _claim(session, entry, transaction, actor, now)
    elif state in (State.COMPLETED, State.CANCELED):
        _finish(session, entry, State(state), transaction, actor, now)
    elif state == State.SCHEDULED:
        raise UpsError(0xC303, "A workitem becomes SCHEDULED by its creation only.")
    else:
        raise UpsError(0x0115, "The Procedure Step State is none of PS3.4 CC.1.1.")


def _claim(session: Session, entry: Entry, transaction: str, actor: str, now: datetime) -> None:
    if entry.state is EntryState.CLAIMED:
        raise UpsError(0xC302, "The workitem is IN PROGRESS already: another reader has it.")
    if entry.state is not EntryState.WAITING:
        raise UpsError(0xC300, "The workitem is in a final state and may no longer be changed.")
    actions.claim(session, entry.study_uid, actor, now)
    entries.guarded_update(session, entry, entry.state, {"transaction_uid": transaction})


def _finish(
    session: Session, entry: Entry, state: State, transaction: str, actor: str, now: datetime
) -> None:
    if entry.state is EntryState.WAITING:
        raise UpsError(0xC310, "The workitem is not yet IN PROGRESS.")
    if entry.state is not EntryState.CLAIMED:
        same = _STATES[entry.state] is state
        if same:
            raise UpsError(
                0xB306 if state is State.COMPLETED else 0xB304, f"The workitem is {state} already."
            )
        raise UpsError(0xC300, "The workitem is in a final state and may no longer be changed.")
    if entry.transaction_uid != transaction:
        raise UpsError(0xC301, "The Transaction UID is not the one that locked the workitem.")
    if state is State.COMPLETED:
        actions.complete(session, entry.study_uid, actor, now, anyone=True)
        return
    actions.release(session, entry.study_uid, actor, now, anyone=True)
    fresh = {"transaction_uid": "", "workitem_uid": random_uid()}
    entries.guarded_update(session, entry, entry.state, fresh)


def _known_form(uid: str) -> str:
    if not _UID.fullmatch(uid) or len(uid) > 64:
        raise _unknown()
    return uid


def _unknown() -> UpsError:
    return UpsError(0xC307, "No such workitem is managed here.")


def _dt(moment: datetime) -> str:
    return moment.strftime("%Y%m%d%H%M%S.%f") + "+0000"


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def workitem(row: Row[Any], policy: Policy) -> Dataset:
    """Return an entry as a workitem to interpret its study (PS3.4 CC.2.5, PS3.3 C.30)."""
    item = Dataset()
    item.SpecificCharacterSet = "ISO_IR 192"
    item.SOPClassUID = PUSH_CLASS
    item.SOPInstanceUID = row.workitem_uid
    item.ProcedureStepState = _STATES[row.state].value
    item.ScheduledProcedureStepPriority = "HIGH" if row.band == 0 else "MEDIUM"
    item.ScheduledProcedureStepModificationDateTime = _dt(row.changed_at or row.arrived_at)
    item.ProcedureStepLabel = "Read chest radiograph"
    item.WorklistLabel = LABEL
    item.ScheduledProcedureStepStartDateTime = _dt(row.effective_at)
    # Nothing that arrives later than this can be read before it, STAT apart.
    promised = row.arrived_at + timedelta(minutes=policy.upper_limit_minutes)
    item.ExpectedCompletionDateTime = _dt(max(promised, row.due_at))
    item.ScheduledWorkitemCodeSequence = Sequence([_code("110005", "DCM", "Interpretation")])
    reasons = "; ".join(entries.reasons_of(row, policy)) or "in order of arrival"
    item.CommentsOnTheScheduledProcedureStep = reasons[:1024]
    item.InputReadinessState = "INCOMPLETE" if row.study_state.value == "receiving" else "READY"
    source = Dataset()
    source.TypeOfInstances = "DICOM"
    source.StudyInstanceUID = row.study_uid
    item.InputInformationSequence = Sequence([source])
    item.PatientName = row.patient_name
    item.PatientID = row.patient_id
    item.IssuerOfPatientID = row.patient_id_issuer
    item.PatientBirthDate = row.patient_birth_date
    item.PatientSex = row.patient_sex
    item.StudyInstanceUID = row.study_uid
    order = Dataset()
    order.StudyInstanceUID = row.study_uid
    order.AccessionNumber = row.accession_number
    order.RequestedProcedureDescription = row.description[:64]
    item.ReferencedRequestSequence = Sequence([order])
    return item


_MATCHED = (
    "SOPInstanceUID",
    "ScheduledProcedureStepPriority",
    "StudyInstanceUID",
    "PatientID",
    "PatientName",
    "WorklistLabel",
    "AccessionNumber",
)


def _matches(item: Dataset, keys: Dataset) -> bool:
    order = item.ReferencedRequestSequence[0]
    asked = keys.get("ReferencedRequestSequence") or [Dataset()]
    for name in _MATCHED:
        key = _text(keys.get(name) or asked[0].get(name))
        value = str(item.get(name) if name in item else order.get(name, ""))
        if key and key != "*" and not _alike(value, key, folded=name == "PatientName"):
            return False
    return True


def _text(value: Any) -> str:
    """Return a value as it stands in the query, several parted by backslashes."""
    if isinstance(value, MultiValue):
        return "\\".join(str(part) for part in value)
    return "" if value is None else str(value)


def _alike(value: str, key: str, *, folded: bool) -> bool:
    """Single value, list of UIDs and wildcard matching (PS3.4 C.2.2.2)."""
    if folded:
        value, key = value.casefold(), key.casefold()
    if "\\" in key:
        return value in key.split("\\")
    return fnmatchcase(value, key.replace("[", "[[]")) if "*" in key or "?" in key else value == key


def _asked_for(item: Dataset, keys: Dataset) -> Dataset:
    wanted = {element.tag for element in keys if element.keyword != "SpecificCharacterSet"}
    if not wanted:
        return item
    answer = Dataset()
    for element in item:
        if element.tag in wanted or element.keyword in (
            "SpecificCharacterSet",
            "SOPClassUID",
            "SOPInstanceUID",
        ):
            answer.add(element)
    for tag in wanted - {element.tag for element in item}:
        answer.add(keys[tag])
    return answer
