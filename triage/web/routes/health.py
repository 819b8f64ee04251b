"""Is it alive, is it ready, how is it doing, what does it offer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
from fastapi import APIRouter, Depends, Request
from starlette.responses import PlainTextResponse, Response

from triage.store.accounts import Role
from triage.web.access import needs, web_of
from triage.web.answers import json
from triage.web.shapes import PROBLEMS

router = APIRouter()


@router.get("/healthz", tags=["open"], summary="The process answers")
async def healthz() -> Response:
    """Answer without a look at anything else: the one address that needs no login."""
    return json({"status": "ok"})


_UNREADY: dict[int | str, dict[str, Any]] = {503: {"description": "Something that is needed is missing."}}
_TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}


@router.get(
    "/readyz",
    tags=["service"],
    summary="Everything that it needs is there",
    response_model=dict[str, Any],
    responses={**PROBLEMS, **_UNREADY},
    dependencies=[Depends(needs(Role.VIEWER))],
)
def readyz(request: Request) -> Response:
    """Run every check at once; 503 when one fails, with a sentence on what to do for each."""
    # Peers that do not answer are waited for side by side, so that the answer takes as long as the slowest.
    with ThreadPoolExecutor(max_workers=32, thread_name_prefix="readyz") as several:
        results = list(several.map(lambda check: check(), web_of(request).parts.checks))
    ready = all(ok for _, ok, _ in results)
    checks = [{"name": name, "ok": ok, "sentence": sentence} for name, ok, sentence in results]
    return json({"ready": ready, "checks": checks}, status=200 if ready else 503)


@router.get(
    "/metrics",
    tags=["service"],
    summary="Metrics for Prometheus",
    response_class=PlainTextResponse,
    responses={**PROBLEMS, **_TEXT},
    dependencies=[Depends(needs(Role.VIEWER))],
)
def metrics(request: Request) -> Response:
    """Give every metric in Prometheus' text form; none names a patient."""
    text = web_of(request).parts.metrics()
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get(
    "/openapi.json",
    tags=["service"],
    summary="This description",
    response_model=dict[str, Any],
    responses=PROBLEMS,
    dependencies=[Depends(needs(Role.VIEWER))],
)
def openapi(request: Request) -> Response:
    """Describe every address of the API (OpenAPI 3.1)."""
    return Response(orjson.dumps(request.app.openapi()), media_type="application/json")
