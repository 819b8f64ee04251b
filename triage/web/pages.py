"""Templates: every text is escaped, every page carries the sentence on research use."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import Response

from triage import RESEARCH_USE
from triage.store.accounts import Principal, Role
from triage.web import words
from triage.web.access import web_of
from triage.worklist.actions import MAX_TEXT


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).resolve().parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        research_use=RESEARCH_USE,
        max_text=MAX_TEXT,
        words=words,
        finding_labels=words.FINDING_LABELS,
        outcome_labels=words.OUTCOME_LABELS,
        state_signs=words.STATE_SIGNS,
    )
    return environment


def render(request: Request, name: str, *, status: int = 200, **values: Any) -> Response:
    """Return a page; the templates know who reads, and what time it is by our clock."""
    parts = web_of(request).parts
    who: Principal | None = getattr(request.state, "principal", None)
    text = (
        _environment()
        .get_template(name)
        .render(
            site=parts.site,
            viewer_url=parts.viewer_url,
            who=who,
            may_read=who is not None and who.role.allows(Role.RADIOLOGIST),
            explains=parts.heat_map is not None,
            now=parts.clock(),
            path=request.url.path,
            spent=values.pop("spent", False),
            **values,
        )
    )
    return Response(text, status, media_type="text/html; charset=utf-8")
