"""What went wrong and waits for a person; and the audit log."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import Response

from triage.domain.result import ResultState
from triage.domain.study import StudyState
from triage.store import audits, instances, refusals
from triage.store import results as stored_results
from triage.store.accounts import Principal, Role
from triage.store.audits import AuditEvent
from triage.store.tables import Result, Study
from triage.web.access import host_of, needs, web_of
from triage.web.answers import json
from triage.web.pages import render
from triage.web.routes import results
from triage.web.shapes import PROBLEMS
from triage.worklist import orders

router = APIRouter()

Viewer = Annotated[Principal, Depends(needs(Role.VIEWER))]
Administrator = Annotated[Principal, Depends(needs(Role.ADMINISTRATOR))]
_MOST = 100


def _gathered(session: Session) -> dict[str, Any]:
    failed = session.scalars(
        select(Study).where(Study.state == StudyState.FAILED).order_by(Study.id.desc()).limit(_MOST)
    ).all()
    dead = session.execute(
        select(Result, Study.study_uid)
        .join(Study, Study.id == Result.study_id)
        .where(Result.state == ResultState.DEAD)
        .order_by(Result.id.desc())
        .limit(_MOST)
    ).all()
    return {
        "failed": [
            {"study_instance_uid": s.study_uid, "arrived_at": s.arrived_at, "sentence": s.state_sentence}
            for s in failed
        ],
        "unreported": [
            {"study_instance_uid": study_uid, "at": event.at, "sentence": event.cause}
            for event, study_uid in stored_results.unreported(session, _MOST)
        ],
        "undelivered": [results.shown(result, study_uid) for result, study_uid in dead],
        "quarantined": [
            {
                "at": instance.received_at,
                "sender": instance.sender,
                "study_instance_uid": instance.study_uid,
                "sop_instance_uid": instance.sop_instance_uid,
                "sop_class_uid": instance.sop_class_uid,
                # Below the data folder.
                "file": f"spool/{instance.path}",
                "sentence": instance.quarantine,
            }
            for instance in instances.quarantined(session, _MOST)
        ],
        "refused": [
            {
                "at": refusal.at,
                "sender": refusal.sender,
                "host": refusal.host,
                "channel": refusal.channel,
                "status": refusal.status,
                "sentence": refusal.sentence,
            }
            for refusal in refusals.newest(session, _MOST)
        ],
    }


@router.get(
    "/api/v1/problems",
    tags=["service"],
    summary="What waits for a person's help",
    response_model=dict[str, Any],
    responses=PROBLEMS,
)
def problems(request: Request, _who: Viewer) -> Response:
    """Give what failed, was not reported or delivered, was kept apart or refused: the newest 100 of each."""
    with web_of(request).parts.db.read() as session:
        return json(_gathered(session))


@router.get("/problems", include_in_schema=False)
def page(request: Request, who: Viewer) -> Response:
    """Show the same on a page, with the orders for which no image has come."""
    web = web_of(request)
    web.trail.accessed(AuditEvent.QUERY, who.name, host_of(request.scope), detail="page Problems")
    with web.parts.db.read() as session:
        unfilmed = orders.without_images(session, _MOST)
        may_retry = web.parts.retry is not None
        return render(request, "problems.html", unfilmed=unfilmed, may_retry=may_retry, **_gathered(session))


@router.get(
    "/api/v1/audit",
    tags=["service"],
    summary="The audit log",
    response_model=dict[str, Any],
    responses=PROBLEMS,
)
def audit(
    request: Request,
    who: Administrator,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    before: Annotated[
        int | None, Query(ge=1, le=2**62, description="Only rows older than this number.")
    ] = None,
) -> Response:
    """Give who touched what (event codes of CID 400), newest first; reading it is itself recorded."""
    web = web_of(request)
    web.trail.record(AuditEvent.AUDIT_LOG_USED, "R", who.name, host_of(request.scope))
    web.trail.flush()
    with web.parts.db.read() as session:
        rows = audits.newest(session, limit, before)
    items = [
        {
            "id": row.id,
            "at": row.at,
            "event_code": row.event_code,
            "action": row.action,
            "outcome": row.outcome,
            "actor": row.actor,
            "host": row.host,
            "study_instance_uid": row.study_uid,
            "detail": row.detail,
        }
        for row in rows
    ]
    return json({"items": items, "next_before": rows[-1].id if len(rows) == limit else None})
