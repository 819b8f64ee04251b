"""The policy in force, and its change; the models that are here."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Request
from starlette.responses import Response

from triage.domain.policy import Policy
from triage.store import policies
from triage.store.accounts import Principal, Role
from triage.store.audits import AuditEvent
from triage.web.access import host_of, needs, web_of
from triage.web.answers import expect_match, json
from triage.web.routes.actions import IfMatch
from triage.web.shapes import CHANGED, PROBLEMS
from triage.worklist import policy_change

router = APIRouter(prefix="/api/v1", tags=["policy"], responses=PROBLEMS)

Viewer = Annotated[Principal, Depends(needs(Role.VIEWER))]
Administrator = Annotated[Principal, Depends(needs(Role.ADMINISTRATOR))]


def _shown(policy: Policy) -> dict[str, Any]:
    return {"version": policy.version, "digest": policy.digest, "policy": policy.to_mapping()}


@router.get("/policy", summary="The policy in force", response_model=dict[str, Any])
def policy(request: Request, _who: Viewer) -> Response:
    """Give the policy that orders the list; its digest is the ETag."""
    with web_of(request).parts.db.read() as session:
        policy = policies.active(session)
    return json(_shown(policy), etag=policy.digest)


@router.put("/policy", summary="Switch the policy", response_model=dict[str, Any], responses=CHANGED)
def switch(
    request: Request,
    who: Administrator,
    content: Annotated[
        dict[str, Any], Body(examples=[{"name": "winter", "minutes": {"viral_pneumonia": 180}}])
    ],
    if_match: IfMatch = None,
    dry_run: Annotated[bool, Query(description="Only say what would move.")] = False,
) -> Response:
    """Put a policy in force and rank every unread study anew, in one transaction; absent keys are defaults.

    With `dry_run` nothing changes and the answer lists what would move.
    """
    web = web_of(request)
    policy = Policy.from_mapping(content)
    if dry_run:
        with web.parts.db.read() as session:
            moves = policy_change.compare(session, policy, web.parts.clock())
        moved = [
            {"study_instance_uid": m.study_uid, "before": m.before, "after": m.after, "reasons": m.reasons}
            for m in moves
            if m.before != m.after
        ]
        return json({**_shown(policy), "moves": moved})
    with web.parts.db.write() as session:
        expect_match(if_match, policies.active(session).digest)
        policy_change.switch(session, policy, web.parts.clock(), who.name)
    detail = f"policy {policy.version}"
    web.trail.record(AuditEvent.PROCEDURE_RECORD, "U", who.name, host_of(request.scope), detail=detail)
    return json(_shown(policy), etag=policy.digest)


@router.get("/models", summary="The model that judges", response_model=dict[str, Any])
def models(request: Request, _who: Viewer) -> Response:
    """Give the model with which this process judges films, with its digest; none where it judges none."""
    return json({"models": list(web_of(request).parts.models())})
