"""The list over REST."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from triage.store.accounts import Principal, Role
from triage.store.audits import AuditEvent
from triage.web.access import host_of, needs, web_of
from triage.web.answers import json
from triage.web.shapes import PROBLEMS, WorklistPage
from triage.worklist import listing
from triage.worklist.listing import Status

router = APIRouter(prefix="/api/v1", tags=["worklist"])


@router.get(
    "/worklist",
    summary="The list in reading order",
    response_model=WorklistPage,
    responses={**PROBLEMS, 400: {**PROBLEMS[401], "description": "The cursor is not one of ours."}},
)
def worklist(
    request: Request,
    who: Annotated[Principal, Depends(needs(Role.VIEWER))],
    status: Status = Status.WAITING,
    limit: Annotated[int, Query(ge=1, le=listing.MAX_LIMIT)] = 50,
    cursor: Annotated[str | None, Query(max_length=1000)] = None,
) -> Response:
    """Give a page of the list: `waiting` in reading order, every other status newest first."""
    web = web_of(request)
    with web.parts.db.read() as session:
        page = listing.page(session, web.parts.clock(), status=status, limit=limit, cursor=cursor)
    web.trail.accessed(AuditEvent.QUERY, who.name, host_of(request.scope), detail=f"worklist {status}")
    return json(page)
