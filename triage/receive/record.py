"""The rows of one received object: instance, study, place in the list, and the job that it asks for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from triage.domain.entry import EntryState, EntryStep
from triage.domain.finding import NotEvaluated
from triage.domain.header import Family, Header, family, unjudged_reason
from triage.domain.policy import Policy
from triage.domain.priority import Urgency, urgency_of_word
from triage.domain.study import StudyState, StudyStep
from triage.receive.identity import Person, differ
from triage.receive.verdict import Status, Verdict
from triage.store import entries, instances, studies
from triage.store.tables import Entry, Instance, Study
from triage.work.queue import Queue, Stage

if TYPE_CHECKING:
    from triage.receive.intake import Arrival

log = logging.getLogger(__name__)

_RANK = {Urgency.STAT: 0, Urgency.URGENT: 1, Urgency.ROUTINE: 2}
_OTHER_PATIENT = (
    "An object came under the Study Instance UID of another patient; it is kept apart and was not merged."
)
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
        self, queue: Queue, clock: Callable[[], datetime], policy: Callable[[Session], Policy]
    ) -> None:
        """Write nothing yet."""
        self._queue = queue
        self._clock = clock
        self._policy = policy

    def record(self, session: Session, arrival: Arrival) -> Verdict:
        """Write one object down; success with a sentence means that it was kept apart."""
        header = arrival.header
        known = instances.with_uid(session, header.sop_instance_uid)
        again = next((row for row in known if row.digest == arrival.digest), None)
        if again is not None:
            self._restore_file(again, arrival)
            return Verdict(Status.SUCCESS, study_id=again.study_id)
        now = self._clock()
        study = studies.find(session, header.study_uid)
        if study is not None and differ(_person_of_study(study), _person_of_header(header)):
            session.add(_row(arrival, now, unjudged=NotEvaluated.PATIENT_MISMATCH, quarantine=_OTHER_PATIENT))
            return Verdict(Status.SUCCESS, _OTHER_PATIENT)
        new = study is None
        if study is None:
            study = studies.create(session, header, sender=arrival.sender.ae_title, now=now)
        with session.no_autoflush:  # one flush for all rows: a flush costs more than a row
            self._keep(session, study, arrival, now, known, new=new)
        return Verdict(Status.SUCCESS, study_id=study.id)

    @staticmethod
    def _restore_file(known: Instance, arrival: Arrival) -> None:
        # The file of a purged object has just come back under the same name: use it again.
        if not known.path:
            known.path = arrival.path
            known.purged_at = None

    def _keep(
        self,
        session: Session,
        study: Study,
        arrival: Arrival,
        now: datetime,
        known: Sequence[Instance],
        *,
        new: bool,
    ) -> None:
        header = arrival.header
        kind = family(header.sop_class_uid)
        row = _row(arrival, now, unjudged=unjudged_reason(header), study=study)
        _mark_conflicts(known, row)
        if kind is not Family.OTHER and study.state is not StudyState.RECEIVING:
            studies.step(session, study, StudyStep.REOPEN, now, cause="late image")
            row.study_version = study.version
        # After the step, which reads the study anew.
        self._update_study(study, header, now)
        session.add(row)
        self._place(session, study, kind, now, new=new)
        session.flush()
        if row.unjudged is None:
            self._queue.put(session, Stage.ASSESS, str(row.id), {"instance_id": row.id}, now)

    @staticmethod
    def _update_study(study: Study, header: Header, now: datetime) -> None:
        said = urgency_of_word(header.requested_priority)
        if _RANK[said] < _RANK[study.object_urgency]:
            study.object_urgency = said
        for column, attribute in _FILLED_LATER.items():
            if not getattr(study, column) and getattr(header, attribute):
                setattr(study, column, getattr(header, attribute))
        study.last_instance_at = now

    def _place(self, session: Session, study: Study, kind: Family, now: datetime, *, new: bool) -> None:
        """Give a study with a radiograph its place in the list, or look at its place again."""
        entry = None if new else session.get(Entry, study.id)
        if entry is None:
            if kind is Family.OTHER:
                return
            # The wait of a study begins with its first film, not with a paper that came before it.
            study.arrived_at = now
            entries.create(session, study, self._policy(session), now, "first image")
            return
        if entry.state is EntryState.WITHDRAWN and kind is not Family.OTHER:
            entries.step(session, entry, EntryStep.RESTORE, now, actor="receive", cause="new image")
        session.flush()
        entries.rerank(
            session,
            study,
            self._policy(session),
            now,
            verb="received",
            cause="another object",
            actor="receive",
        )


def _row(
    arrival: Arrival,
    now: datetime,
    *,
    unjudged: NotEvaluated | None,
    study: Study | None = None,
    quarantine: str = "",
) -> Instance:
    header = arrival.header
    return Instance(
        study_id=study.id if study else None,
        study_version=study.version if study else 1,
        study_uid=header.study_uid,
        series_uid=header.series_uid,
        sop_instance_uid=header.sop_instance_uid,
        sop_class_uid=header.sop_class_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
        modality=header.modality,
        digest=arrival.digest,
        size=arrival.size,
        path=arrival.path,
        sender=arrival.sender.ae_title,
        received_at=now,
        unjudged=unjudged,
        current=not quarantine,
        quarantine=quarantine,
    )


def _mark_conflicts(known: Sequence[Instance], row: Instance) -> None:
    """Mark every copy under one UID; in its own study the newest counts, in another study nothing changes.

    Otherwise whoever sends a UID a second time under another study would take a film out of the first.
    """
    for other in known:
        other.conflict = row.conflict = True
        if other.study_id == row.study_id:
            other.current = False


def _person_of_study(study: Study) -> Person:
    return Person(study.patient_id, study.patient_id_issuer, study.patient_birth_date, study.patient_name)


def _person_of_header(header: Header) -> Person:
    return Person(header.patient_id, header.patient_id_issuer, header.patient_birth_date, header.patient_name)
