"""The live stream."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response, StreamingResponse

from triage.store.accounts import Principal, Role
from triage.web.access import needs, web_of
from triage.web.shapes import PROBLEMS

router = APIRouter(prefix="/api/v1", tags=["worklist"])


@router.get(
    "/events",
    summary="Server-sent events",
    responses={**PROBLEMS, 200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
    response_class=StreamingResponse,
)
async def events(request: Request, _who: Annotated[Principal, Depends(needs(Role.VIEWER))]) -> Response:
    """Tell of each change with an event `list`, and every two seconds of being alive with a `beat`.

    The data of both is `{"version", "healthy", "at"}`; patient data is fetched, never pushed.
    """
    return StreamingResponse(
        web_of(request).live.stream(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )
