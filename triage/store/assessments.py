"""The model's answers, film by film, and what they say of a study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from triage.domain.assessment import FilmAssessment, conclude
from triage.domain.finding import Finding, FindingResult, FindingState, Outcome
from triage.domain.priority import Evaluation
from triage.domain.study import SETTLED, StudyState
from triage.store.tables import FilmAssessmentRow, Instance, Study


def findings_from_json(raw: Sequence[dict[str, Any]]) -> tuple[FindingResult, ...]:
    """Return the findings of a stored assessment."""
    return tuple(
        FindingResult(
            Finding(item["finding"]),
            item["probability"],
            FindingState(item["state"]),
            item["low"],
            item["high"],
        )
        for item in raw
    )


def findings_to_json(findings: Sequence[FindingResult]) -> list[dict[str, Any]]:
    """Return findings as they are stored."""
    return [
        {
            "finding": item.finding.value,
            "probability": item.probability,
            "state": item.state.value,
            "low": item.low,
            "high": item.high,
        }
        for item in findings
    ]


def to_domain(row: FilmAssessmentRow) -> FilmAssessment:
    """Return a stored answer as the domain knows it."""
    return FilmAssessment(
        sop_instance_uid=row.sop_instance_uid,
        outcome=row.outcome,
        reason=row.reason,
        sentence=row.sentence,
        frontal=row.frontal,
        any_disease=row.any_disease,
        findings=findings_from_json(row.findings),
        model=row.model,
        model_digest=row.model_digest,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def add(
    session: Session,
    instance: Instance,
    film: FilmAssessment,
    *,
    any_disease_low: float = 0.0,
    any_disease_high: float = 1.0,
) -> FilmAssessmentRow:
    """Keep the answer for a film; the unique key of film and model refuses a second one."""
    row = FilmAssessmentRow(
        instance_id=instance.id,
        study_id=instance.study_id,
        study_version=instance.study_version,
        sop_instance_uid=instance.sop_instance_uid,
        outcome=film.outcome,
        reason=film.reason,
        sentence=film.sentence,
        frontal=film.frontal,
        any_disease=film.any_disease,
        any_disease_low=any_disease_low,
        any_disease_high=any_disease_high,
        findings=findings_to_json(film.findings),
        model=film.model,
        model_digest=film.model_digest,
        started_at=film.started_at,
        finished_at=film.finished_at,
    )
    session.add(row)
    session.flush()
    return row


def of_instance(session: Session, instance_id: int, model_digest: str) -> FilmAssessmentRow | None:
    """Return the answer that a model gave for a film, if it did."""
    query = select(FilmAssessmentRow).where(
        FilmAssessmentRow.instance_id == instance_id, FilmAssessmentRow.model_digest == model_digest
    )
    return session.scalars(query).first()


def of_study(session: Session, study_id: int) -> Sequence[FilmAssessmentRow]:
    """Return the newest answer for each current film of a study, in order of arrival."""
    query = (
        select(FilmAssessmentRow)
        .join(Instance, Instance.id == FilmAssessmentRow.instance_id)
        .where(FilmAssessmentRow.study_id == study_id, Instance.current)
        .order_by(FilmAssessmentRow.id)
    )
    newest = {row.instance_id: row for row in session.scalars(query)}
    return list(newest.values())


def evaluation(session: Session, study: Study) -> tuple[Evaluation, FilmAssessmentRow | None]:
    """Return what the order needs to know of a study, and the film that decides it; see `evaluation_of`."""
    return evaluation_of(study, of_study(session, study.id))


def evaluation_of(
    study: Study, rows: Sequence[FilmAssessmentRow]
) -> tuple[Evaluation, FilmAssessmentRow | None]:
    """Return what the order needs to know of a study with these answers, and the film that decides it.

    While films are pending, the worst evaluated film so far already ranks the study, beside what a study that
    is pending gets; a film that was not evaluated says nothing until all have been looked at.
    """
    said = conclude([to_domain(row) for row in rows])
    deciding = next((r for r in rows if said.film and r.sop_instance_uid == said.film.sop_instance_uid), None)
    failed = study.state is StudyState.FAILED
    settled = study.state in SETTLED
    if said.outcome is Outcome.NOT_EVALUATED and not settled:
        return Evaluation(), deciding
    if deciding is None:
        return Evaluation(outcome=said.outcome, reason=said.reason, failed=failed), None
    return (
        Evaluation(
            outcome=said.outcome,
            reason=said.reason,
            failed=failed,
            any_disease=deciding.any_disease,
            any_disease_low=deciding.any_disease_low,
            any_disease_high=deciding.any_disease_high,
            findings=findings_from_json(deciding.findings),
            unseen=said.unseen,
            settled=settled,
        ),
        deciding,
    )
