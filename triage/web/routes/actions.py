"""What a reader does to an entry; each is one guarded change in the database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import Response

from triage.errors import TriageError
from triage.store.accounts import Principal, Role
from triage.store.audits import AuditEvent, AuditOutcome
from triage.store.tables import Entry
from triage.web.access import host_of, needs, web_of
from triage.web.answers import json, needed
from triage.web.problems import WebError
from triage.web.routes.studies import Uid
from triage.web.shapes import CHANGED, NOT_FOUND, PROBLEMS, FeedbackText, Item, NoteText, Shift
from triage.worklist import actions, listing

router = APIRouter(prefix="/api/v1/studies", tags=["reading"], responses={**PROBLEMS, **NOT_FOUND, **CHANGED})

Reader = Annotated[Principal, Depends(needs(Role.RADIOLOGIST))]
IfMatch = Annotated[
    str | None,
    Header(
        description="The ETag that the decision was based on; `*` for whatever is there. Needed (428).",
        max_length=200,
        examples=["*"],
    ),
]


def revision_of(if_match: str | None) -> int | None:
    """Return the revision that `If-Match` names; None when any will do (`*`).

    Raises:
        WebError: there is none (428), or it names something that is no revision of ours (412).
    """
    if needed(if_match) == "*":
        return None
    text = needed(if_match).removeprefix("W/").strip('"')
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        sentence = "If-Match names no revision of this study; read it again and send its ETag."
        raise WebError("stale", sentence)
    return int(text)


def _expect(session: Session, uid: str, revision: int | None) -> None:
    if revision is None:
        return
    present = session.scalar(select(Entry.revision).where(Entry.study_uid == uid))
    if present is not None and present != revision:
        sentence = "The study changed since you read it; read it again and send the new ETag in If-Match."
        raise WebError("stale", sentence)


def _do(
    request: Request,
    who: Principal,
    uid: str,
    if_match: str | None,
    action: Callable[..., None],
    **more: Any,
) -> Response:
    web = web_of(request)
    now, host = web.parts.clock(), host_of(request.scope)
    verb = request.url.path.rsplit("/", 1)[-1]
    event = AuditEvent.PROCEDURE_RECORD
    try:
        with web.parts.db.write() as session:
            _expect(session, uid, revision_of(if_match))
            action(session, uid, who.name, now, **more)
            item = listing.study(session, uid, now)
    except TriageError:
        failed = AuditOutcome.MINOR_FAILURE
        web.trail.record(event, "U", who.name, host, study_uid=uid, outcome=failed, detail=verb)
        raise
    web.trail.record(event, "U", who.name, host, study_uid=uid, detail=verb)
    return json(item, etag=str(item["revision"]))


@router.post("/{uid}/claim", summary="Claim", response_model=Item)
def claim(request: Request, uid: Uid, who: Reader, if_match: IfMatch = None) -> Response:
    """Take a waiting study; of two readers at once exactly one gets it, the other a 409."""
    return _do(request, who, uid, if_match, actions.claim)


@router.post("/{uid}/release", summary="Release", response_model=Item)
def release(request: Request, uid: Uid, who: Reader, if_match: IfMatch = None) -> Response:
    """Give a claimed study back to the list, in its old place; an administrator may break another's claim."""
    return _do(request, who, uid, if_match, actions.release, anyone=who.role is Role.ADMINISTRATOR)


@router.post("/{uid}/complete", summary="Complete", response_model=Item)
def complete(request: Request, uid: Uid, who: Reader, if_match: IfMatch = None) -> Response:
    """Mark a claimed study as read."""
    return _do(request, who, uid, if_match, actions.complete)


@router.post("/{uid}/pin", summary="Pin ahead", response_model=Item)
def pin(request: Request, uid: Uid, who: Reader, shift: Shift, if_match: IfMatch = None) -> Response:
    """Move a study ahead by so many minutes, with a reason that everybody sees."""
    more = {"minutes": shift.minutes, "reason": shift.reason}
    return _do(request, who, uid, if_match, actions.pin, **more)


@router.post("/{uid}/lower", summary="Lower", response_model=Item)
def lower(request: Request, uid: Uid, who: Reader, shift: Shift, if_match: IfMatch = None) -> Response:
    """Move a study back by so many minutes, never behind its arrival, with a reason."""
    more = {"minutes": -shift.minutes, "reason": shift.reason}
    return _do(request, who, uid, if_match, actions.pin, **more)


@router.post("/{uid}/note", summary="Write a note", response_model=Item)
def note(request: Request, uid: Uid, who: Reader, body: NoteText, if_match: IfMatch = None) -> Response:
    """Leave a free text with the study."""
    return _do(request, who, uid, if_match, actions.note, text=body.text)


@router.post("/{uid}/feedback", summary="Agree or disagree", response_model=Item)
def feedback(
    request: Request, uid: Uid, who: Reader, body: FeedbackText, if_match: IfMatch = None
) -> Response:
    """Keep the reader's word on one finding, with the model that was judged; it moves nothing."""
    more = {"finding": body.finding, "agrees": body.agrees, "comment": body.comment}
    return _do(request, who, uid, if_match, actions.feedback, **more)
