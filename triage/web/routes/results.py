"""Dead letters: what a destination did not take, and another try for it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from starlette.responses import Response

from triage.store.accounts import Principal, Role
from triage.store.audits import AuditEvent, AuditOutcome
from triage.store.tables import Result, Study
from triage.store.types import to_micros
from triage.web.access import host_of, needs, web_of
from triage.web.answers import expect_match, json
from triage.web.problems import WebError
from triage.web.routes.actions import IfMatch
from triage.web.shapes import CHANGED, NOT_FOUND, PROBLEMS

router = APIRouter(prefix="/api/v1/results", tags=["service"])


def etag_of(result: Result) -> str:
    """Return what changes with each step of a result."""
    return f"{result.id}-{result.state.value}-{to_micros(result.changed_at)}"


def shown(result: Result, study_uid: str) -> dict[str, Any]:
    """Return a result as lists of problems show it."""
    return {
        "id": result.id,
        "study_instance_uid": study_uid,
        "kind": result.kind,
        "destination": result.destination,
        "state": result.state.value,
        "attempts": result.attempts,
        "sentence": result.last_error,
        "at": result.changed_at,
        "etag": etag_of(result),
    }


@router.post(
    "/{number}/retry",
    summary="Send a dead letter again",
    response_model=dict[str, Any],
    responses={
        **PROBLEMS,
        **NOT_FOUND,
        **CHANGED,
        501: {**PROBLEMS[401], "description": "Nothing is delivered here."},
    },
)
def retry(
    request: Request,
    number: Annotated[int, Path(ge=1, le=2**62, description="Number of the result in /api/v1/problems.")],
    who: Annotated[Principal, Depends(needs(Role.RADIOLOGIST))],
    if_match: IfMatch = None,
) -> Response:
    """Put a result that no longer tries by itself on its way again, with all its tries before it."""
    web = web_of(request)
    again, now, host = web.parts.retry, web.parts.clock(), host_of(request.scope)
    if again is None:
        sentence = "This installation delivers nothing; configure a destination."
        raise WebError("not-served", sentence)
    uid = ""
    outcome = AuditOutcome.MINOR_FAILURE
    try:
        with web.parts.db.write() as session:
            result = session.get(Result, number)
            if result is None:
                sentence = "There is no such result; read /api/v1/problems again."
                raise WebError("unknown-result", sentence)
            uid = session.get_one(Study, result.study_id).study_uid
            expect_match(if_match, etag_of(result))
            again(session, result, now)
            answer = shown(result, uid)
        outcome = AuditOutcome.SUCCESS
    finally:
        web.trail.record(
            AuditEvent.PROCEDURE_RECORD, "U", who.name, host, study_uid=uid, outcome=outcome, detail="retry"
        )
    return json(answer, etag=answer["etag"])
