"""Films by HTTP: STOW-RS (PS3.18 10.5), handed to the receiving room as the bytes come."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from triage.store.accounts import Principal, Role
from triage.store.audits import AuditEvent, AuditOutcome
from triage.web.access import host_of, needs, web_of
from triage.web.problems import WebError, problem
from triage.web.shapes import PROBLEMS

router = APIRouter(prefix="/dicom-web", tags=["DICOMweb"])

_JSON, _XML = "application/dicom+json", "application/dicom+xml"
_PARTS = {"schema": {"type": "string", "format": "binary"}}
_ANSWER: dict[str, Any] = {_JSON: {"schema": {"type": "object"}}}
_KEPT: dict[int | str, dict[str, Any]] = {200: {"description": "All were kept.", "content": _ANSWER}}


class DicomJson(Response):
    """Says in the description what comes."""

    media_type = _JSON


@router.post(
    "/studies",
    summary="Send films (STOW-RS)",
    response_class=DicomJson,
    responses={
        **PROBLEMS,
        **_KEPT,
        202: {"description": "Some were kept; the body says which.", "content": _ANSWER},
        400: {**PROBLEMS[401], "description": "The body is not what its content type says."},
        409: {"description": "None was kept; the body says why.", "content": _ANSWER},
        415: {**PROBLEMS[401], "description": "Not multipart/related with DICOM parts."},
        501: {**PROBLEMS[401], "description": "This process does not receive."},
        503: {"description": "No room now; try again.", "content": _ANSWER},
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                'multipart/related; type="application/dicom"': {
                    "schema": {"type": "string", "format": "binary"}
                }
            },
        }
    },
)
async def store(request: Request, who: Annotated[Principal, Depends(needs(Role.RADIOLOGIST))]) -> Response:
    """Keep each DICOM part of the body durably before the next is read; the answer names those refused."""
    web = web_of(request)
    host = host_of(request.scope)
    if web.parts.stow is None:
        sentence = "This process does not receive films; send them to one with the role 'receive'."
        raise WebError("not-served", sentence)
    try:
        incoming = web.parts.stow(request.headers.get("content-type", ""), who.name, host)
    except ValueError as error:
        return problem(415, detail=str(error))
    try:
        async for chunk in request.stream():
            await run_in_threadpool(incoming.feed, chunk)
        answer = await run_in_threadpool(incoming.finish)
    except ClientDisconnect:
        incoming.abort()
        return problem(400, detail="The connection ended before the body did.")
    except BaseException:
        incoming.abort()
        raise
    failed = AuditOutcome.SUCCESS if answer.status == 200 else AuditOutcome.MINOR_FAILURE
    web.trail.record(AuditEvent.INSTANCES_TRANSFERRED, "C", who.name, host, outcome=failed, detail="STOW")
    if answer.status == 400:
        return problem(400, detail=" ".join(answer.sentences))
    if _XML in request.headers.get("accept", ""):
        return Response(answer.xml(), answer.status, media_type=_XML)
    return DicomJson(orjson.dumps(answer.document()), answer.status)
