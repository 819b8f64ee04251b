"""The list as it stood, and how it did."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from triage.store.accounts import Principal, Role
from triage.store.audits import AuditEvent
from triage.web.access import host_of, needs, web_of
from triage.web.answers import json
from triage.web.shapes import PROBLEMS
from triage.worklist import history
from triage.worklist.statistics import statistics

router = APIRouter(prefix="/api/v1", tags=["history"], responses=PROBLEMS)

Viewer = Annotated[Principal, Depends(needs(Role.VIEWER))]


@router.get(
    "/history",
    summary="The list as it stood at a minute",
    response_model=dict[str, Any],
    responses={400: {**PROBLEMS[401], "description": "The time can't be read."}},
)
def at(
    request: Request,
    who: Viewer,
    at: Annotated[str, Query(max_length=64, description="RFC 3339 time.", examples=["2026-03-01T12:00:00Z"])],
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Response:
    """Give the rows that readers saw at a time, in the order of then, with the model and policy of then."""
    web = web_of(request)
    with web.parts.db.read() as session:
        shown = history.at(session, history.moment_of(at), limit)
    web.trail.accessed(AuditEvent.QUERY, who.name, host_of(request.scope), detail="history")
    return json(shown)


@router.get("/statistics", summary="Waits by class, flags, agreement", response_model=dict[str, Any])
def figures(
    request: Request, _who: Viewer, days: Annotated[float, Query(gt=0, le=366, allow_inf_nan=False)] = 7
) -> Response:
    """Give how long each class waited, beside first-in-first-out; how often the model flagged; who agreed."""
    web = web_of(request)
    with web.parts.db.read() as session:
        return json(statistics(session, web.parts.clock(), days))
