"""Orders: what HIS and RIS say of a study, before or after its images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from triage.store.accounts import Principal, Role
from triage.store.audits import AuditEvent, AuditOutcome
from triage.web.access import host_of, needs, web_of
from triage.web.answers import json
from triage.web.shapes import CHANGED, PROBLEMS, OrderText
from triage.worklist import orders
from triage.worklist.orders import OrderRequest, Source

router = APIRouter(prefix="/api/v1", tags=["orders"], responses=PROBLEMS)


@router.post(
    "/orders",
    summary="Send an order",
    response_model=dict[str, Any],
    responses={**CHANGED, 201: {"description": "A new order.", "content": {"application/json": {}}}},
)
def receive(
    request: Request, order: OrderText, who: Annotated[Principal, Depends(needs(Role.RADIOLOGIST))]
) -> Response:
    """Keep an order and rank its study anew: STAT and urgent are a human's word and win over the images'.

    The order is known again by its accession number, else placer or filler number, else study UID; the same
    again changes nothing (200), a new one is 201. `cancelled` withdraws the study from the list. Without
    `urgency` it takes no earlier word away.
    """
    web = web_of(request)
    uids: Sequence[str] = [""]
    outcome = AuditOutcome.MINOR_FAILURE
    try:
        told = OrderRequest(source=Source.REST, **order.model_dump())
        uids = [told.study_uid]
        with web.parts.db.write() as session:
            done = orders.receive(session, told, web.parts.clock(), who.name)
        uids, outcome = done.studies or uids, AuditOutcome.SUCCESS
    finally:
        event, host = AuditEvent.ORDER_RECORD, host_of(request.scope)
        for uid in uids:
            web.trail.record(event, "U", who.name, host, study_uid=uid, outcome=outcome, detail="order")
    answer = {
        "created": done.created,
        "studies": done.studies,
        "other_patient": done.other_patient,
        "waiting_for_images": done.waiting_for_images,
    }
    return json(answer, status=201 if done.created else 200)


@router.get("/orders", summary="Orders without images", response_model=dict[str, Any])
def without_images(
    request: Request,
    who: Annotated[Principal, Depends(needs(Role.VIEWER))],
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Response:
    """Give the orders for which no image has come, newest first."""
    web = web_of(request)
    with web.parts.db.read() as session:
        items = orders.without_images(session, limit)
    web.trail.accessed(AuditEvent.QUERY, who.name, host_of(request.scope), detail="orders without images")
    return json({"items": items})
