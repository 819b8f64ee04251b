"""The reader's page: the list in its views, and one study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.responses import Response

from triage.domain.policy import Mode
from triage.store import policies
from triage.store.accounts import Principal, Role
from triage.store.audits import AuditEvent
from triage.store.entries import WAITING
from triage.store.tables import Entry
from triage.web.access import host_of, needs, web_of
from triage.web.pages import render
from triage.web.routes.studies import Uid
from triage.web.story import story
from triage.worklist import listing
from triage.worklist.listing import Status
from triage.worklist.search import search

router = APIRouter(include_in_schema=False)

Viewer = Annotated[Principal, Depends(needs(Role.VIEWER))]
Text = Annotated[str, Query(max_length=80)]
Cursor = Annotated[str | None, Query(max_length=1000)]

ROWS = 60


@dataclass(frozen=True)
class View:
    """One way to look at the list."""

    address: str
    heading: str
    explanation: str
    nothing: str
    status: Status


WAITING_VIEW = View(
    "/",
    "Waiting",
    "in reading order, most pressing first",
    "Nothing waits. New studies appear here by themselves.",
    Status.WAITING,
)
MINE = View("/mine", "Mine", "claimed by you", "You have claimed nothing.", Status.CLAIMED)
NOT_EVALUATED = View(
    "/not-evaluated",
    "Not evaluated",
    "no answer of the model: these need a human look, and are never sorted to the end",
    "Every study has an answer.",
    Status.NOT_EVALUATED,
)


def _content(
    request: Request, view: View, who: Principal, text: str, cursor: str | None
) -> Mapping[str, Any]:
    web = web_of(request)
    now = web.parts.clock()
    with web.parts.db.read() as session:
        policy = policies.active(session)
        after = None
        if text.strip():
            items = search(session, text, now, ROWS)
            total = len(items)
        elif view is MINE:
            items = _claimed(session, now, who)
            total = len(items)
        else:
            page = listing.page(session, now, status=view.status, limit=ROWS, cursor=cursor)
            items, after = page["items"], page["next_cursor"]
            total = _count(session) if view is WAITING_VIEW else len(items)
            if view is WAITING_VIEW and cursor is None:
                # What the reader holds stays in sight until it is done or given back.
                items = [*_claimed(session, now, who), *items]
    web.trail.accessed(
        AuditEvent.QUERY,
        who.name,
        host_of(request.scope),
        detail="search" if text else f"page {view.heading}",
    )
    return {
        "items": items,
        "total": total,
        "next_address": f"{view.address}?{urlencode({'cursor': after})}" if after else "",
        "max_advance": policy.max_advance,
        "freeze": policy.freeze if view is WAITING_VIEW and not text else 0,
        "policy": policy.version,
        "shadow": policy.mode is Mode.SHADOW,
    }


def _claimed(session: Session, now: datetime, who: Principal) -> list[dict[str, Any]]:
    claimed = listing.page(session, now, status=Status.CLAIMED, limit=listing.MAX_LIMIT)["items"]
    return [item for item in claimed if item["claimed_by"] == who.name]


def _count(session: Session) -> int:
    return session.scalar(select(func.count()).select_from(Entry).where(WAITING)) or 0


def _list(
    request: Request, view: View, who: Principal, text: str = "", cursor: str | None = None
) -> Response:
    content = _content(request, view, who, text, cursor)
    if request.headers.get("x-fragment") == "rows":
        return render(request, "fragment.html", **content)
    live = view.address
    query = {name: value for name, value in (("q", text), ("cursor", cursor)) if value}
    if query:
        live += f"?{urlencode(query)}"
    heading = "Search" if text else view.heading
    return render(
        request,
        "list.html",
        heading=heading,
        explanation="name, patient ID or accession number; unread first" if text else view.explanation,
        nothing="Nothing was found." if text else view.nothing,
        live_address=live,
        search=text,
        **content,
    )


@router.get("/")
def waiting(request: Request, who: Viewer, q: Text = "", cursor: Cursor = None) -> Response:
    """Show the list in reading order, or what a search finds."""
    return _list(request, WAITING_VIEW, who, q, cursor)


@router.get("/mine")
def mine(request: Request, who: Viewer) -> Response:
    """Show what the reader has claimed."""
    return _list(request, MINE, who)


@router.get("/not-evaluated")
def not_evaluated(request: Request, who: Viewer, cursor: Cursor = None) -> Response:
    """Show the studies without an answer."""
    return _list(request, NOT_EVALUATED, who, cursor=cursor)


@router.get("/studies/{uid}")
def study(request: Request, uid: Uid, who: Viewer) -> Response:
    """Show one study: film, findings, why, what happened."""
    web = web_of(request)
    now = web.parts.clock()
    with web.parts.db.read() as session:
        item = listing.study(session, uid, now)
        listed = item["status"] is not None
        why = listing.why(session, uid, now) if listed else {}
        most = policies.active(session).max_advance
    web.trail.accessed(
        AuditEvent.PATIENT_RECORD, who.name, host_of(request.scope), study_uid=uid, detail="page"
    )
    if not listed:
        return render(request, "unlisted.html", item=item)
    asked = request.headers.get("x-fragment")
    name = "panel_fragment.html" if asked in ("panel", "whole") else "study.html"
    whole = asked != "panel"
    return render(request, name, item=item, why=why, history=story(item), whole=whole, max_advance=most)
