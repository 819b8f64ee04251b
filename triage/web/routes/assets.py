"""The page's own files: a fixed set, read once."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Depends, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from triage.store.accounts import Role
from triage.web.access import needs

router = APIRouter(include_in_schema=False)

_FOLDER = Path(__file__).resolve().parent.parent / "static"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@cache
def _files() -> dict[str, tuple[bytes, str, str]]:
    found = {}
    for path in sorted(_FOLDER.iterdir()):
        if path.suffix in _TYPES:
            content = path.read_bytes()
            tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
            found[path.name] = (content, _TYPES[path.suffix], tag)
    return found


def _answer(request: Request, name: str) -> Response:
    if name not in _files():
        raise HTTPException(404)
    content, media_type, tag = _files()[name]
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media_type, headers=headers)


@router.get("/static/triage.css", tags=["open"])
async def style(request: Request) -> Response:
    """Give the style, which the login page needs too."""
    return _answer(request, "triage.css")


@router.get("/static/icon.svg", tags=["open"])
async def icon(request: Request) -> Response:
    """Give the icon of the tab."""
    return _answer(request, "icon.svg")


@router.get("/static/{name}", dependencies=[Depends(needs(Role.VIEWER))])
async def asset(request: Request, name: str) -> Response:
    """Give one of the page's scripts."""
    return _answer(request, name)
