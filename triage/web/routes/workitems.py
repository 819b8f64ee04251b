"""The list as UPS workitems over HTTP (UPS-RS, PS3.18 11), for standard reading clients."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Path, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from triage.store.accounts import Principal, Role
from triage.store.audits import AuditEvent, AuditOutcome
from triage.web.access import host_of, needs, web_of
from triage.web.problems import problem
from triage.web.routes.stow import DicomJson
from triage.web.shapes import NOT_FOUND, PROBLEMS, UID_PATTERN
from triage.worklist import ups, ups_rs
from triage.worklist.ups_rs import Answer

_BAD: dict[int | str, dict[str, Any]] = {
    400: {**PROBLEMS[401], "description": "A parameter or body is wrong."}
}
_REFUSED: dict[int | str, dict[str, Any]] = {
    409: {**PROBLEMS[401], "description": "The state has no such step, or another holds the lock."},
    413: {**PROBLEMS[401], "description": "The body is larger than a megabyte."},
}

_FOUND: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/dicom+json": {"schema": {"type": "array", "items": {"type": "object"}}}}}
}

router = APIRouter(prefix="/dicom-web/workitems", tags=["DICOMweb"], responses={**PROBLEMS, **_BAD})

Workitem = Annotated[str, Path(pattern=UID_PATTERN, description="SOP Instance UID of the workitem.")]
Viewer = Annotated[Principal, Depends(needs(Role.VIEWER))]
Reader = Annotated[Principal, Depends(needs(Role.RADIOLOGIST))]


def _shown(answer: Answer) -> Response:
    headers = dict(answer.headers)
    if answer.status >= 400:
        detail = headers.get("Warning", "").removeprefix('299 triage: "').removesuffix('"')
        return problem(answer.status, detail=detail, headers=headers)
    if answer.body is None:
        return Response(status_code=answer.status, headers=headers)
    return DicomJson(orjson.dumps(answer.body), answer.status, headers)


@router.get(
    "",
    summary="Search the list",
    response_class=DicomJson,
    responses={**_FOUND, 204: {"description": "Nothing matches."}},
)
def search(request: Request, who: Viewer) -> Response:
    """Give the workitems that match the query's attributes, in reading order; `limit` and `offset` page.

    Sorting by priority and start time gives exactly our order.
    """
    web = web_of(request)
    with web.parts.db.read() as session:
        answer = ups_rs.search(session, request.query_params.multi_items())
    web.trail.accessed(AuditEvent.QUERY, who.name, host_of(request.scope), detail="workitems")
    return _shown(answer)


@router.get(
    "/{workitem}", summary="One workitem", response_class=DicomJson, responses={**_FOUND, **NOT_FOUND}
)
def retrieve(request: Request, workitem: Workitem, who: Viewer) -> Response:
    """Give a workitem with its patient, study, priority and reason."""
    web = web_of(request)
    with web.parts.db.read() as session:
        answer = ups_rs.retrieve(session, workitem)
        uid = ups.study_of(session, workitem)
    web.trail.accessed(
        AuditEvent.PATIENT_RECORD, who.name, host_of(request.scope), study_uid=uid, detail="workitem"
    )
    return _shown(answer)


@router.put(
    "/{workitem}/state",
    summary="Claim or complete",
    response_class=DicomJson,
    responses={**NOT_FOUND, **_REFUSED},
    openapi_extra={
        "requestBody": {"content": {"application/dicom+json": {"schema": {"type": "array", "items": {}}}}}
    },
)
async def change_state(request: Request, workitem: Workitem, who: Reader) -> Response:
    """Change Procedure Step State: IN PROGRESS claims for a Transaction UID, COMPLETED needs the same one."""
    web = web_of(request)
    body = await request.body()

    def change() -> Answer:
        uid, outcome = "", AuditOutcome.MINOR_FAILURE
        try:
            with web.parts.db.write() as session:
                uid = ups.study_of(session, workitem)  # before the change: to cancel gives another workitem
                answer = ups_rs.change_state(session, workitem, body, who.name, web.parts.clock())
            if answer.status < 400:
                outcome = AuditOutcome.SUCCESS
        finally:
            event, host, detail = AuditEvent.PROCEDURE_RECORD, host_of(request.scope), "workitem state"
            web.trail.record(event, "U", who.name, host, study_uid=uid, outcome=outcome, detail=detail)
        return answer

    return _shown(await run_in_threadpool(change))


@router.post(
    "/{workitem}/cancelrequest",
    summary="Ask for cancellation",
    response_class=DicomJson,
    responses={**NOT_FOUND, **_REFUSED},
)
def request_cancel(request: Request, workitem: Workitem, _who: Reader) -> Response:
    """Decline: what is on the list is read; cancel its order instead."""
    with web_of(request).parts.db.read() as session:
        return _shown(ups_rs.request_cancel(session, workitem))
