"""Nothing but `/healthz` and the login itself is served to strangers, and every route says whom it serves.

`Gate` runs before any route: it finds out who asks, by bearer token or session cookie, and turns everybody
else away, so that a route that forgot to ask is closed and not open. `needs(role)` is each route's own word.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http.cookies import CookieError, SimpleCookie
from secrets import compare_digest
from urllib.parse import quote, urlsplit

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from triage.store import accounts
from triage.store.accounts import Principal, Role
from triage.store.audits import AuditEvent, AuditOutcome
from triage.web.context import Web
from triage.web.problems import problem

COOKIE = "triage_session"
OPEN_PATHS = frozenset({"/healthz", "/login", "/static/triage.css", "/static/icon.svg"})
ONE_TIME = "/login/once/"
#: Only DICOM objects are larger; they come by STOW.
MOST_BYTES = 1_000_000
STOW_PATH = "/dicom-web/studies"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Needs:
    """The role that a route asks for; the tests read it from the application."""

    def __init__(self, role: Role) -> None:
        self.role = role

    async def __call__(self, request: Request) -> Principal:
        """Return who asks, or refuse."""
        who: Principal = request.state.principal
        if not who.role.allows(self.role):
            web_of(request).trail.record(
                AuditEvent.SECURITY_ALERT,
                "E",
                who.name,
                host_of(request.scope),
                outcome=AuditOutcome.MINOR_FAILURE,
                detail=f"role {who.role} where {self.role} is needed",
            )
            raise HTTPException(403)
        return who


def needs(role: Role) -> Callable[[Request], Awaitable[Principal]]:
    """Return the dependency that lets `role` and those above it in."""
    return Needs(role)


def web_of(request: Request) -> Web:
    """Return the application's own things."""
    web: Web = request.app.state.web
    return web


def host_of(scope: Scope) -> str:
    """Return the address that a request came from."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def cookie_of(headers: Headers) -> str:
    """Return the session's secret, or an empty text."""
    try:
        jar = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    return jar[COOKIE].value if COOKIE in jar else ""


class Gate:
    """The middleware that knows everybody who comes in."""

    def __init__(self, app: ASGIApp, web: Web) -> None:
        self._app = app
        self._web = web

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through to its route, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = await self._turned_away(scope)
        if answer is not None:
            await answer(scope, receive, send)
            return
        if not scope["path"].startswith(STOW_PATH):
            receive = _bounded(receive)
        await self._app(scope, receive, send)

    async def _turned_away(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        path: str = scope["path"]
        if _too_large(headers) and not path.startswith(STOW_PATH):
            return problem(413)
        if scope["method"] not in _SAFE and _from_elsewhere(headers):
            return self._refused(scope, "a form of another site")
        if path in OPEN_PATHS or path.startswith(ONE_TIME):
            return None
        token = _bearer(headers)
        kind, secret = ("token", token) if token else ("session", cookie_of(headers))
        who = await run_in_threadpool(self._find, kind, secret) if secret else None
        if who is None:
            if secret:
                self._alert(scope, "an unknown, expired or revoked credential")
            return _login_first(scope, headers)
        if who.csrf and scope["method"] not in _SAFE:
            given = headers.get("x-csrf-token", "")
            if not compare_digest(given.encode(), who.csrf.encode()):
                return self._refused(scope, "no valid X-CSRF-Token")
        scope.setdefault("state", {})["principal"] = who
        return None

    def _find(self, kind: str, secret: str) -> Principal | None:
        parts = self._web.parts
        with parts.db.read() as session:
            return accounts.principal(session, kind, secret, parts.clock())

    def _refused(self, scope: Scope, why: str) -> Response:
        self._alert(scope, why)
        detail = "The request did not come from this site's own page; reload the page and try again."
        return problem(403, code="csrf", detail=detail)

    def _alert(self, scope: Scope, why: str) -> None:
        self._web.trail.alerted(host_of(scope), why)


def _bearer(headers: Headers) -> str:
    scheme, _, secret = headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def _from_elsewhere(headers: Headers) -> bool:
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host", "")


def _too_large(headers: Headers) -> bool:
    length = headers.get("content-length", "0")
    return not length.isdigit() or int(length) > MOST_BYTES


def _bounded(receive: Receive) -> Receive:
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MOST_BYTES:
            raise HTTPException(413)
        return message

    return counted


def _login_first(scope: Scope, headers: Headers) -> Response:
    wants_page = scope["method"] == "GET" and "text/html" in headers.get("accept", "")
    if wants_page and not scope["path"].startswith(("/api/", "/dicom-web/")):
        there = "" if scope["path"] == "/" else f"?next={quote(scope['path'])}"
        return RedirectResponse(f"/login{there}", 303)
    return problem(401, headers={"WWW-Authenticate": 'Bearer realm="triage"'})
