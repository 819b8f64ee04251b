"""The page's views of history and statistics."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from triage.store.accounts import Principal, Role
from triage.store.audits import AuditEvent
from triage.web.access import host_of, needs, web_of
from triage.web.pages import render
from triage.worklist import history
from triage.worklist.history import BadTime
from triage.worklist.statistics import statistics

router = APIRouter(include_in_schema=False)

Viewer = Annotated[Principal, Depends(needs(Role.VIEWER))]


@router.get("/history")
def history_page(request: Request, who: Viewer, at: Annotated[str, Query(max_length=64)] = "") -> Response:
    """Show the list as it stood."""
    web = web_of(request)
    mistake = ""
    try:
        moment = history.moment_of(at) if at else web.parts.clock()
    except BadTime as error:
        moment, mistake = web.parts.clock(), str(error)
    with web.parts.db.read() as session:
        shown = history.at(session, moment, 100)
    web.trail.accessed(AuditEvent.QUERY, who.name, host_of(request.scope), detail="history")
    return render(request, "history.html", shown=shown, moment=moment, mistake=mistake)


@router.get("/statistics")
def statistics_page(
    request: Request, _who: Viewer, days: Annotated[float, Query(gt=0, le=366, allow_inf_nan=False)] = 7
) -> Response:
    """Show how long each class waited, how often the model flagged, and who agreed."""
    web = web_of(request)
    with web.parts.db.read() as session:
        figures = statistics(session, web.parts.clock(), days)
    return render(request, "statistics.html", figures=figures, days=days)
