"""A reading room with synthetic patients, for the tests of list and page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from triage.domain.assessment import FilmAssessment
from triage.domain.entry import EntryVerb
from triage.domain.finding import Finding, FindingResult, NotEvaluated, Outcome, finding_state
from triage.domain.header import Header
from triage.domain.study import CompletedBy, StudyStep
from triage.store import assessments, entries, policies, studies
from triage.store.database import Database
from triage.store.tables import Instance, Study

ROOT = "1.2.826.0.1.3680043.10.1471"
LOW, HIGH = 0.3, 0.6


def uid_of(number: int) -> str:
    return f"{ROOT}.{number}"


def arrive(
    db: Database,
    number: int,
    at: datetime,
    *,
    name: str = "",
    priority: str = "",
    accession: str = "",
    description: str = "Chest PA",
) -> str:
    """Let the first image of a study arrive; returns the Study Instance UID."""
    uid = uid_of(number)
    header = Header(
        study_uid=uid,
        series_uid=f"{uid}.1",
        sop_instance_uid=f"{uid}.1.1",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        modality="DX",
        patient_id=f"SYN-{number:05d}",
        patient_name=name or f"SYNTHETIC^P{number}",
        patient_birth_date=f"19{30 + number % 60:02d}0{1 + number % 9}1{number % 10}",
        patient_sex="FM"[number % 2],
        accession_number=accession or f"ACC{number:05d}",
        study_date=at.strftime("%Y%m%d"),
        study_time=at.strftime("%H%M%S"),
        study_description=description,
        requested_priority=priority,
    )
    with db.write() as session:
        head = studies.create_head(session, header, sender="SIMULATOR", now=at)
        assert head is not None
        session.add(
            Instance(
                study_id=head.id,
                study_uid=uid,
                series_uid=header.series_uid,
                sop_instance_uid=header.sop_instance_uid,
                sop_class_uid=header.sop_class_uid,
                transfer_syntax_uid=header.transfer_syntax_uid,
                modality="DX",
                digest=f"{number:064x}",
                size=9_000_000,
                path=f"{number}.dcm",
                sender="SIMULATOR",
                received_at=at,
            )
        )
        entries.place_new(session, head, at, policies.active(session), at, "first image")
    return uid


def assess(
    db: Database,
    number: int,
    at: datetime,
    probabilities: Mapping[Finding, float] | None = None,
    *,
    any_disease: float | None = None,
    not_evaluated: NotEvaluated | None = None,
) -> None:
    """Let the model answer for a study that arrived, and conclude it."""
    said = dict.fromkeys(Finding, 0.03) | dict(probabilities or {})
    findings = tuple(FindingResult(f, p, finding_state(p, LOW, HIGH), LOW, HIGH) for f, p in said.items())
    worst = max(said.values()) if any_disease is None else any_disease
    outcome = (
        Outcome.POSITIVE if worst >= HIGH else Outcome.UNDETERMINED if worst >= LOW else Outcome.NEGATIVE
    )
    if not_evaluated:
        outcome, findings = Outcome.NOT_EVALUATED, ()
    with db.write() as session:
        study = studies.by_uid(session, uid_of(number))
        instance = session.query(Instance).filter_by(study_id=study.id).one()
        film = FilmAssessment(
            sop_instance_uid=instance.sop_instance_uid,
            outcome=outcome,
            reason=not_evaluated,
            sentence=f"The film is {outcome.value.replace('_', ' ')}.",
            frontal=0.99,
            any_disease=None if not_evaluated else worst,
            findings=findings,
            model="chest/1",
            model_digest="d" * 64,
            started_at=at,
            finished_at=at + timedelta(milliseconds=200),
        )
        assessments.add(session, instance, film, any_disease_low=LOW, any_disease_high=HIGH)
        studies.complete(session, study.id, CompletedBy.QUIET, at)
        session.refresh(study)
        studies.step(session, study, StudyStep.ASSESS, at)
        last = StudyStep.NOT_EVALUATED if not_evaluated else StudyStep.ASSESSED
        studies.step(session, study, last, at)
        entries.rerank(
            session, study, policies.active(session), at, verb=EntryVerb.ASSESSED, cause=film.sentence
        )


_CASES: tuple[tuple[str, str, dict[Finding, float]], ...] = (
    ("SYNTHETIC^ADA", "", {Finding.TUBERCULOSIS: 0.93, Finding.OTHER: 0.41}),
    ("SYNTHETIC^BRUNO", "", {}),
    ("SYNTHETIC^CARLA", "STAT", {Finding.BACTERIAL_PNEUMONIA: 0.71}),
    ("SYNTHETIC^DAVID", "", {Finding.COVID19: 0.86, Finding.VIRAL_PNEUMONIA: 0.52}),
    ("SYNTHETIC^ELENA", "URGENT", {}),
    ("SYNTHETIC^FELIX", "", {Finding.OTHER: 0.48}),
    ("SYNTHETIC^GRETA", "", {Finding.BACTERIAL_PNEUMONIA: 0.79, Finding.VIRAL_PNEUMONIA: 0.36}),
    ("SYNTHETIC^HUGO", "", {}),
    ("SYNTHETIC^INES", "", {Finding.VIRAL_PNEUMONIA: 0.64}),
    ("SYNTHETIC^JONAS", "", {}),
)


def fill(db: Database, now: datetime, count: int = 14) -> list[str]:
    """Let `count` studies wait, a few minutes apart, most of them assessed; returns their UIDs."""
    uids = []
    for number in range(1, count + 1):
        name, priority, findings = _CASES[(number - 1) % len(_CASES)]
        at = now - timedelta(minutes=17 * (count + 1 - number) - 5)
        full = name if number <= len(_CASES) else f"{name}{number}"
        uids.append(arrive(db, number, at, name=full, priority=priority))
        later = at + timedelta(seconds=2)
        if number % 8 == 0:
            assess(db, number, later, not_evaluated=NotEvaluated.NOT_FRONTAL)
        elif number % 11:
            assess(db, number, later, findings)
    return uids


def study_of(db: Database, uid: str) -> Study:
    with db.read() as session:
        return studies.by_uid(session, uid)
