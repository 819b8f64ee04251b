"""One study: what is known, why it stands where it stands, and its film."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from triage.domain.finding import Finding
from triage.store import assessments, instances, studies
from triage.store.accounts import Principal, Role
from triage.store.audits import AuditEvent
from triage.store.tables import Instance
from triage.web.access import host_of, needs, web_of
from triage.web.answers import json
from triage.web.problems import WebError
from triage.web.shapes import NOT_FOUND, PROBLEMS, UID_PATTERN, Study, Why
from triage.worklist import listing

router = APIRouter(prefix="/api/v1/studies", tags=["studies"], responses={**PROBLEMS, **NOT_FOUND})

Uid = Annotated[str, Path(pattern=UID_PATTERN, description="Study Instance UID (0020,000D).")]
Viewer = Annotated[Principal, Depends(needs(Role.VIEWER))]


@router.get("/{uid}", summary="Everything about a study", response_model=Study)
def study(request: Request, uid: Uid, who: Viewer) -> Response:
    """Give a study's place, films, results, orders and history; the ETag is the revision of its place."""
    web = web_of(request)
    with web.parts.db.read() as session:
        shown = listing.study(session, uid, web.parts.clock())
    web.trail.accessed(AuditEvent.PATIENT_RECORD, who.name, host_of(request.scope), study_uid=uid)
    return json(shown, etag=str(shown["revision"]) if "revision" in shown else "")


@router.get("/{uid}/why", summary="Why it stands where it stands", response_model=Why)
def why(request: Request, uid: Uid, who: Viewer) -> Response:
    """Give the terms of a study's place; the used ones add up to the advance exactly."""
    web = web_of(request)
    with web.parts.db.read() as session:
        shown = listing.why(session, uid, web.parts.clock())
    web.trail.accessed(
        AuditEvent.PATIENT_RECORD, who.name, host_of(request.scope), study_uid=uid, detail="why"
    )
    return json(shown)


class PngResponse(Response):
    """Says in the description that no JSON comes."""

    media_type = "image/png"


class _Kept:
    """The newest previews, so that a step through the list does not decode a film twice."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._pictures: OrderedDict[str, bytes] = OrderedDict()

    def get(self, key: str) -> bytes | None:
        with self._lock:
            if key in self._pictures:
                self._pictures.move_to_end(key)
            return self._pictures.get(key)

    def put(self, key: str, picture: bytes) -> None:
        with self._lock:
            self._pictures[key] = picture
            while len(self._pictures) > self._most:
                self._pictures.popitem(last=False)


_previews = _Kept(48)
_heat_maps = _Kept(24)


def _film(session: Session, uid: str, sop_instance_uid: str | None) -> Instance:
    """Return the film to show: the one asked for, else the one that decided, else the first judged one."""
    row = studies.by_uid(session, uid)
    held = [film for film in instances.of_study(session, row.id) if film.path]
    _, deciding = assessments.evaluation(session, row)
    wanted = sop_instance_uid or (deciding.sop_instance_uid if deciding else None)
    films = [film for film in held if wanted is None or film.sop_instance_uid == wanted]
    if wanted is None:
        films.sort(key=lambda film: film.unjudged is not None)
    if not films:
        sentence = "This study has no film here any more; open it in the site's viewer."
        raise WebError("no-preview", sentence)
    return films[0]


@router.get(
    "/{uid}/preview.png",
    summary="A small picture of the film, not for diagnosis",
    response_class=PngResponse,
    responses={200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}},
)
def preview(
    request: Request,
    uid: Uid,
    who: Viewer,
    instance: Annotated[
        str | None, Query(pattern=UID_PATTERN, description="SOP Instance UID of a film.")
    ] = None,
) -> Response:
    """Give the film that decided the study's place (or the one asked for) as an 8-bit grey PNG."""
    web = web_of(request)
    if web.parts.preview is None:
        sentence = "This process has no films at hand; open the study in the site's viewer."
        raise WebError("no-preview", sentence)
    with web.parts.db.read() as session:
        film = _film(session, uid, instance)
    picture = _previews.get(film.digest)
    if picture is None:
        picture = web.parts.preview(film.path)
        _previews.put(film.digest, picture)
    web.trail.accessed(
        AuditEvent.INSTANCES_ACCESSED, who.name, host_of(request.scope), study_uid=uid, detail="preview"
    )
    return Response(picture, media_type="image/png", headers={"Cache-Control": "private, max-age=300"})


#: In each form of an answer that shows a heat map: it is no localisation of a disease.
RESEARCH = "research: what moved the number, no localisation of a disease"


@router.get(
    "/{uid}/heatmap.png",
    summary="Where the network looked for a finding; research only",
    response_class=PngResponse,
    responses={200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}},
)
def heat_map(
    request: Request,
    uid: Uid,
    who: Viewer,
    finding: Annotated[Finding, Query(description="The finding to explain.")],
    instance: Annotated[
        str | None, Query(pattern=UID_PATTERN, description="SOP Instance UID of a film.")
    ] = None,
) -> Response:
    """Give the film with what moved a finding's probability over it (GradCAM++), made on demand."""
    web = web_of(request)
    if web.parts.heat_map is None:
        sentence = "This process judges no films, so it can't explain one; ask the one that does."
        raise WebError("no-heat-map", sentence)
    with web.parts.db.read() as session:
        film = _film(session, uid, instance)
    key = f"{film.digest}/{finding}"
    picture = _heat_maps.get(key)
    if picture is None:
        picture = web.parts.heat_map(film.path, finding.value)
        _heat_maps.put(key, picture)
    web.trail.accessed(
        AuditEvent.INSTANCES_ACCESSED, who.name, host_of(request.scope), study_uid=uid, detail="heat map"
    )
    headers = {"Cache-Control": "private, max-age=300", "Content-Description": RESEARCH}
    return Response(picture, media_type="image/png", headers=headers)
