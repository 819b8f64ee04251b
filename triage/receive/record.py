"""The rows of received objects: instance, study, place in the list, and the job that a film asks for.

Objects that share a transaction share their statements too: what is looked up is asked for once, what is new
goes in by one INSERT a table. Only what is rare (a late film, a conflict, a fact that moves a study in the
list) is done study by study, by the same steps that every other stage takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

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
from triage.store.studies import Head
from triage.store.tables import Entry, Study
from triage.work.queue import Queue, Stage

if TYPE_CHECKING:
    from triage.receive.intake import Arrival

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


@dataclass(slots=True)
class _Object:
    """One object on its way into the rows, with what was found out about its study."""

    number: int
    arrival: Arrival
    now: datetime
    kind: Family
    study: Head | None = None
    new: bool = False
    #: Whether something changed on which the study's place depends.
    moved: bool = False
    #: Ids of other bytes under the same UID, and of those among them that this object supersedes.
    rivals: tuple[int, ...] = ()
    superseded: tuple[int, ...] = ()

    @property
    def header(self) -> Header:
        """What the object says of itself."""
        return self.arrival.header


class Recorder:
    """Writes objects into the caller's transaction; the same object again changes nothing."""

    def __init__(
        self, queue: Queue, clock: Callable[[], datetime], policy: Callable[[Session], Policy]
    ) -> None:
        """Write nothing yet."""
        self._queue = queue
        self._clock = clock
        self._policy = policy

    def record(self, session: Session, arrivals: Sequence[Arrival]) -> list[Verdict]:
        """Write objects down in their order; success with a sentence means that one was kept apart."""
        verdicts: dict[int, Verdict] = {}
        waiting = [
            _Object(number, arrival, arrival.at or self._clock(), family(arrival.header.sop_class_uid))
            for number, arrival in enumerate(arrivals)
        ]
        while waiting:
            wave, waiting = _apart(waiting)
            waiting = self._wave(session, wave, verdicts) + waiting
        return [verdicts[number] for number in range(len(arrivals))]

    def _wave(self, session: Session, wave: Sequence[_Object], verdicts: dict[int, Verdict]) -> list[_Object]:
        """Write down objects that have nothing to do with each other; return those to be looked at again.

        These are the ones that another process wrote down between our look and our insert.
        """
        unknown = _unknown(session, wave, verdicts)
        known = studies.heads(session, [item.header.study_uid for item in unknown]) if unknown else {}
        fresh = [item for item in unknown if item.header.study_uid not in known]
        made = studies.create_all(
            session, [(item.header, item.arrival.sender.ae_title, item.now) for item in fresh]
        )
        strangers, kept = [], []
        for item in unknown:
            uid = item.header.study_uid
            item.new = uid in made
            item.study = made.get(uid) or known.get(uid)
            if item.study is not None and not item.new and _is_stranger(item.study, item.header):
                item.study = None
                strangers.append(item)
            elif item.study is not None:
                self._reopen(session, item, item.study)
                kept.append(item)
        ids = instances.add_all(session, [_row(item) for item in (*kept, *strangers)])
        for item in (*kept, *strangers):
            if item.header.sop_instance_uid in ids:
                said = _OTHER_PATIENT if item.study is None else ""
                verdicts[item.number] = Verdict(Status.SUCCESS, said, item.study.id if item.study else None)
        kept = [item for item in kept if item.number in verdicts]
        self._join(session, kept, ids)
        return [item for item in unknown if item.number not in verdicts]

    @staticmethod
    def _reopen(session: Session, item: _Object, study: Head) -> None:
        """Open the next version of a study for a late film; a late paper opens none."""
        if item.kind is Family.OTHER or study.state is StudyState.RECEIVING:
            return
        row = session.get_one(Study, study.id, populate_existing=True)
        studies.step(session, row, StudyStep.REOPEN, item.now, cause="late image")
        item.study = replace(study, state=row.state, version=row.version)
        item.moved = True

    def _join(self, session: Session, kept: Sequence[_Object], ids: dict[str, int]) -> None:
        """Bring studies, list and jobs up to date with the objects that were added."""
        for item in kept:
            if item.rivals:
                own = ids[item.header.sop_instance_uid]
                instances.mark_conflict(session, (own, *item.rivals), item.superseded)
                item.moved = item.moved or bool(item.superseded)
            if not item.new:
                _fill(session, item)
        studies.touch(session, {item.study.id: item.now for item in kept if item.study and not item.new})
        self._place(session, kept)
        for item in kept:
            if unjudged_reason(item.header) is None:
                own = ids[item.header.sop_instance_uid]
                self._queue.put(session, Stage.ASSESS, str(own), {"instance_id": own}, item.now)

    def _place(self, session: Session, kept: Sequence[_Object]) -> None:
        """Give studies with a first radiograph their places in the list, or look at their places again."""
        old = [item.study.id for item in kept if item.study and not item.new]
        states = entries.states(session, old) if old else {}
        arrived = []
        for item in kept:
            assert item.study is not None
            if item.study.id in states:
                self._place_again(session, item, item.study.id, states[item.study.id])
            elif item.kind is not Family.OTHER:
                arrived.append((item.study, item.now))
                if not item.new:
                    # The wait of a study begins with its first film, not with a paper that came before it.
                    studies.fill(session, item.study.id, {"arrived_at": item.now})
        if arrived:
            entries.create_all(session, arrived, self._policy(session), arrived[-1][1], "first image")

    def _place_again(self, session: Session, item: _Object, study_id: int, state: EntryState) -> None:
        restored = state is EntryState.WITHDRAWN and item.kind is not Family.OTHER
        if not restored and not item.moved:
            return
        if restored:
            entry = session.get_one(Entry, study_id, populate_existing=True)
            entries.step(session, entry, EntryStep.RESTORE, item.now, actor="receive", cause="new image")
        session.flush()
        entries.rerank(
            session,
            session.get_one(Study, study_id, populate_existing=True),
            self._policy(session),
            item.now,
            verb="received",
            cause="another object",
            actor="receive",
        )


def _apart(waiting: Iterable[_Object]) -> tuple[list[_Object], list[_Object]]:
    """Return the objects that share neither study nor UID with one before them, and the others."""
    wave: list[_Object] = []
    rest: list[_Object] = []
    seen: set[str] = set()
    for item in waiting:
        names = {item.header.study_uid, item.header.sop_instance_uid}
        (wave if seen.isdisjoint(names) else rest).append(item)
        seen |= names
    return wave, rest


def _unknown(session: Session, wave: Sequence[_Object], verdicts: dict[int, Verdict]) -> list[_Object]:
    """Answer for the objects whose very bytes are here already; return the others, with their rivals."""
    copies = instances.copies(session, [item.header.sop_instance_uid for item in wave])
    unknown = []
    for item in wave:
        known = copies.get(item.header.sop_instance_uid, ())
        again = next((copy for copy in known if copy.digest == item.arrival.digest), None)
        if again is None:
            item.rivals = tuple(copy.id for copy in known)
            item.superseded = tuple(copy.id for copy in known if copy.study_uid == item.header.study_uid)
            unknown.append(item)
            continue
        if not again.path:
            # The file of a purged object has just come back under the same name: use it again.
            instances.restore_file(session, again.id, item.arrival.path)
        verdicts[item.number] = Verdict(Status.SUCCESS, study_id=again.study_id)
    return unknown


def _fill(session: Session, item: _Object) -> None:
    """Write what the object knows of its study and the study's row does not."""
    study, header = item.study, item.header
    assert study is not None
    facts: dict[str, Any] = {
        column: getattr(header, attribute)
        for column, attribute in _FILLED_LATER.items()
        if not getattr(study, column) and getattr(header, attribute)
    }
    said = urgency_of_word(header.requested_priority)
    if _RANK[said] < _RANK[study.object_urgency]:
        facts["object_urgency"] = said
    if facts:
        studies.fill(session, study.id, facts)
        item.study = replace(study, **facts)
        item.moved = True


def _row(item: _Object) -> dict[str, Any]:
    """Return the object's row; one that belongs to no study is quarantined.

    Of several copies under one UID the newest of a study counts, and in another study nothing changes:
    otherwise whoever sends a UID a second time under another study would take a film out of the first.
    """
    header, arrival, study = item.header, item.arrival, item.study
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
        "received_at": item.now,
        "unjudged": unjudged_reason(header) if study else NotEvaluated.PATIENT_MISMATCH,
        "current": study is not None,
        "conflict": bool(study and item.rivals),
        "quarantine": "" if study else _OTHER_PATIENT,
    }


def _is_stranger(study: Head, header: Header) -> bool:
    return differ(
        Person(study.patient_id, study.patient_id_issuer, study.patient_birth_date, study.patient_name),
        Person(header.patient_id, header.patient_id_issuer, header.patient_birth_date, header.patient_name),
    )
