"""The rows of received objects: instance, study, place in the list, and the job that a film asks for.

What every object needs is a handful of prepared statements; what is rare (a late film, a conflict, a fact
that moves a study in the list) takes the same steps as in every other stage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from triage.domain.entry import EntryState, EntryVerb
from triage.domain.finding import NotEvaluated
from triage.domain.header import Family, Header, family, unjudged_reason
from triage.domain.policy import Policy
from triage.domain.priority import Urgency, urgency_of_word
from triage.domain.study import StudyState, StudyStep
from triage.receive.identity import Person, differ
from triage.receive.verdict import Status, Verdict
from triage.store import entries, instances, studies
from triage.store.instances import Copy
from triage.store.studies import Head
from triage.store.tables import Entry, Study
from triage.work.queue import Queue, Stage

if TYPE_CHECKING:
    from triage.receive.intake import Arrival

_WEIGHT = {Family.OTHER: 0, Family.RAW_FILM: 1, Family.FILM: 2}
_RANK = {Urgency.STAT: 0, Urgency.URGENT: 1, Urgency.ROUTINE: 2}
_OTHER_PATIENT = (
    "An object came under the Study Instance UID of another patient; it is kept apart and was not merged: "
    "correct its patient or its Study Instance UID at the source, and send it again."
)
_JUST_PURGED = "The file of the object was being purged just now; send it again."
#: Facts of a study that a later object may fill in where the first one left them empty.
_FILLED_LATER = {
    "accession_number": "accession_number",
    "patient_id": "patient_id",
    "patient_id_issuer": "patient_id_issuer",
    "patient_birth_date": "patient_birth_date",
    "patient_sex": "patient_sex",
    "description": "study_description",
}


class Recorder:
    """Writes objects into the caller's transaction; the same object again changes nothing."""

    def __init__(
        self,
        queue: Queue,
        clock: Callable[[], datetime],
        policy: Callable[[Session], Policy],
        holds: Callable[[str], bool],
    ) -> None:
        """Write nothing yet; `holds` says whether the spool has a file."""
        self._queue = queue
        self._clock = clock
        self._policy = policy
        self._holds = holds

    def record(self, session: Session, arrivals: Sequence[Arrival]) -> list[Verdict]:
        """Write objects down in their order; success with a sentence means that one was kept apart."""
        return [self._one(session, arrival, arrival.at or self._clock()) for arrival in arrivals]

    def _one(self, session: Session, arrival: Arrival, now: datetime) -> Verdict:
        header = arrival.header
        known = instances.copies(session, header.sop_instance_uid)
        again = next((copy for copy in known if copy.digest == arrival.digest), None)
        if again is not None:
            return self._again(session, again, arrival, now)
        study, new = _study_of(session, arrival, now)
        if not new and _is_stranger(session, study, header):
            instances.add(session, _row(arrival, None, now))
            return Verdict(Status.SUCCESS, _OTHER_PATIENT)
        kept = _Kept(arrival, now, family(header.sop_class_uid), study, new=new)
        self._keep(session, kept, known)
        return Verdict(Status.SUCCESS, study_id=study.id)

    def _again(self, session: Session, known: Copy, arrival: Arrival, now: datetime) -> Verdict:
        """Answer for bytes that are here already, or were until their file was purged."""
        if not known.path:
            # The file of a purged object has just come back under the same name: use it again.
            instances.restore_file(session, known.id, arrival.path)
            # Asked once the row is ours: the purge may have taken the file since it was published.
            if not self._holds(arrival.path):
                instances.forget_file(session, known.id, now)
                return Verdict(Status.LATER, _JUST_PURGED)
        return Verdict(Status.SUCCESS, study_id=known.study_id)

    def _keep(self, session: Session, kept: _Kept, known: Sequence[Copy]) -> None:
        """Add an object to its study, and bring study, list and jobs up to date with it."""
        if not kept.new:
            _reopen(session, kept)
            _fill(session, kept)
            studies.touch(session, kept.study.id, kept.now)
        same = [copy for copy in known if copy.study_id == kept.study.id]
        # Of one UID the newest copy counts, but what is no film takes no film out of its study.
        weight = _WEIGHT[kept.kind]
        counts = all(_WEIGHT[family(copy.sop_class_uid)] <= weight for copy in same)
        row = _row(kept.arrival, kept.study, kept.now, conflict=bool(known), counts=counts)
        own = instances.add(session, row)
        if own is None:  # another process was quicker with the very same bytes
            return
        if known:
            # In another study nothing changes: otherwise whoever sends a UID a second time under another
            # study would take a film out of the first.
            superseded = [copy.id for copy in same] if counts else []
            instances.mark_conflict(session, (own, *(copy.id for copy in known)), superseded)
            kept.moved = kept.moved or bool(superseded)
        self._place(session, kept)
        if unjudged_reason(kept.arrival.header) is None:
            self._queue.put(session, Stage.ASSESS, str(own), {"instance_id": own}, kept.now)

    def _place(self, session: Session, kept: _Kept) -> None:
        """Give a study with a radiograph its place in the list, or look at its place again."""
        state = None if kept.new else entries.state_of(session, kept.study.id)
        if state is not None:
            self._place_again(session, kept, state)
        elif kept.kind is not Family.OTHER:
            if not kept.new:
                # The wait of a study begins with its first film, not with a paper that came before it.
                studies.fill(session, kept.study.id, {"arrived_at": kept.now})
            policy = self._policy(session)
            entries.place_new(session, kept.study, kept.now, policy, kept.now, "first image")

    def _place_again(self, session: Session, kept: _Kept, state: EntryState) -> None:
        film = kept.kind is not Family.OTHER
        restored = state is EntryState.WITHDRAWN and film
        unseen = state in (EntryState.READ, EntryState.CLAIMED) and film
        if not restored and not unseen and not kept.moved:
            return
        policy = self._policy(session)
        if restored:
            entry = session.get_one(Entry, kept.study.id, populate_existing=True)
            entries.restore(session, entry, policy, kept.now, actor="receive", cause="new image")
        session.flush()
        study = session.get_one(Study, kept.study.id, populate_existing=True)
        if unseen:
            entries.show_new_film(session, study, policy, kept.now, actor="receive")
        else:
            cause = "another object"
            entries.rerank(
                session, study, policy, kept.now, verb=EntryVerb.RECEIVED, cause=cause, actor="receive"
            )


@dataclass(slots=True)
class _Kept:
    """An object that its study keeps."""

    arrival: Arrival
    now: datetime
    kind: Family
    study: Head
    new: bool
    #: Whether something changed on which the study's place depends.
    moved: bool = False


def _study_of(session: Session, arrival: Arrival, now: datetime) -> tuple[Head, bool]:
    """Return the study that an object names, and whether it was made just now."""
    header = arrival.header
    study = studies.head(session, header.study_uid)
    if study is not None:
        return study, False
    made = studies.create_head(session, header, sender=arrival.sender.ae_title, now=now)
    # Another process may have been quicker; what it made is committed by now.
    found = made or studies.head(session, header.study_uid)
    assert found is not None
    return found, made is not None


def _reopen(session: Session, kept: _Kept) -> None:
    """Open the next version of a study for a late film; a late paper opens none."""
    if kept.kind is Family.OTHER or kept.study.state is StudyState.RECEIVING:
        return
    row = session.get_one(Study, kept.study.id, populate_existing=True)
    studies.step(session, row, StudyStep.REOPEN, kept.now, cause="late image")
    session.flush()
    kept.study = replace(kept.study, state=row.state, version=row.version)
    kept.moved = True


def _fill(session: Session, kept: _Kept) -> None:
    """Write what the object knows of its study and the study's row does not."""
    study, header = kept.study, kept.arrival.header
    facts: dict[str, Any] = {
        column: getattr(header, attribute)
        for column, attribute in _FILLED_LATER.items()
        if not getattr(study, column) and getattr(header, attribute)
    }
    if study.patient_id not in ("", header.patient_id):
        facts.pop("patient_id_issuer", None)  # it is the issuer of another ID
    said = urgency_of_word(header.requested_priority)
    if _RANK[said] < _RANK[study.object_urgency]:
        facts["object_urgency"] = said
    if facts:
        studies.fill(session, study.id, facts)
        kept.study = replace(study, **facts)
        kept.moved = True


def _row(
    arrival: Arrival, study: Head | None, now: datetime, *, conflict: bool = False, counts: bool = True
) -> dict[str, Any]:
    """Return the object's row; one that belongs to no study is quarantined."""
    header = arrival.header
    return {
        "study_id": study.id if study else None,
        "study_version": study.version if study else 1,
        "study_uid": header.study_uid,
        "series_uid": header.series_uid,
        "sop_instance_uid": header.sop_instance_uid,
        "sop_class_uid": header.sop_class_uid,
        "transfer_syntax_uid": header.transfer_syntax_uid,
        "modality": header.modality,
        "digest": arrival.digest,
        "size": arrival.size,
        "path": arrival.path,
        "sender": arrival.sender.ae_title,
        "received_at": now,
        "unjudged": unjudged_reason(header) if study else NotEvaluated.PATIENT_MISMATCH,
        "current": study is not None and counts,
        "conflict": conflict,
        "quarantine": "" if study else _OTHER_PATIENT,
    }


def _is_stranger(session: Session, study: Head, header: Header) -> bool:
    sent = Person(header.patient_id, header.patient_id_issuer, header.patient_birth_date, header.patient_name)
    now = Person(study.patient_id, study.patient_id_issuer, study.patient_birth_date, study.patient_name)
    if not differ(now, sent):
        return False
    # HIS may have corrected or merged the record while the modality goes on with the one that it has.
    return all(differ(Person(**was), sent) for was in studies.earlier_patients(session, study.id))
