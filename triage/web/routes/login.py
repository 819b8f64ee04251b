"""Coming in and going out: password, one-time address, logout."""

from __future__ import annotations

import threading
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from starlette.responses import RedirectResponse, Response

from triage.store import accounts
from triage.store.accounts import Principal, Role
from triage.store.audits import AuditEvent, AuditOutcome
from triage.web.access import COOKIE, host_of, needs, web_of
from triage.web.pages import render
from triage.web.problems import problem

router = APIRouter(include_in_schema=False)

#: argon2 takes 64 MiB and a core for each check: strangers must not take more than two of them.
_CHECKS = threading.BoundedSemaphore(2)


def _safe_next(there: str) -> str:
    # Only an address of our own: "//other.site" and "https:" would lead the reader away.
    local = there.startswith("/") and not there.startswith(("//", "/\\", "/login"))
    return there if local and there.isascii() and there.isprintable() else "/"


def _entered(request: Request, name: str, role: Role, there: str) -> Response:
    web = web_of(request)
    with web.parts.db.write() as session:
        secret = accounts.create_session(session, name, role, web.parts.clock())
    web.trail.record(AuditEvent.USER_AUTHENTICATION, "E", name, host_of(request.scope), detail="login")
    answer = RedirectResponse(_safe_next(there), 303)
    answer.set_cookie(
        COOKIE,
        secret,
        max_age=int(accounts.SESSION_LASTS.total_seconds()),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return answer


@router.get("/login", tags=["open"])
def login_page(request: Request, next: str = "/") -> Response:  # noqa: A002 - the name in the address
    """Show the form."""
    return render(request, "login.html", there=_safe_next(next), failed=False)


@router.post("/login", tags=["open"])
def login(
    request: Request,
    name: Annotated[str, Form(max_length=80)] = "",
    password: Annotated[str, Form(max_length=300)] = "",
    there: Annotated[str, Form(max_length=300)] = "/",
) -> Response:
    """Open a session for the right name and password; slower and slower for wrong ones."""
    web = web_of(request)
    now, host = web.parts.clock(), host_of(request.scope)
    wait = web.throttle.wait(name, host, now)
    if wait:
        return problem(
            429,
            detail=f"Too many failed logins; try again in {wait} seconds.",
            headers={"Retry-After": str(wait)},
        )
    with web.parts.db.read() as session:
        account = accounts.by_name(session, name)
    with _CHECKS:
        fits = accounts.password_fits(account, password)
    if account is None or not fits:
        web.throttle.failed(name, host, now)
        web.trail.record(
            AuditEvent.USER_AUTHENTICATION,
            "E",
            account.name if account else "",
            host,
            outcome=AuditOutcome.MINOR_FAILURE,
            detail="login refused",
        )
        return render(request, "login.html", status=401, there=_safe_next(there), failed=True)
    web.throttle.succeeded(name, host)
    return _entered(request, account.name, Role(account.role), there)


@router.get("/login/once/{secret}", tags=["open"])
def login_once(request: Request, secret: str) -> Response:
    """Open a session for a one-time address, which is then spent."""
    web = web_of(request)
    now, host = web.parts.clock(), host_of(request.scope)
    wait = web.throttle.wait("", host, now)
    if wait:
        return problem(429, headers={"Retry-After": str(wait)})
    with web.parts.db.write() as session:
        who = accounts.redeem_login(session, secret, now)
    if who is None:
        web.throttle.failed("", host, now)
        web.trail.record(
            AuditEvent.USER_AUTHENTICATION,
            "E",
            "",
            host,
            outcome=AuditOutcome.MINOR_FAILURE,
            detail="one-time login refused",
        )
        return render(request, "login.html", status=401, there="/", failed=True, spent=True)
    return _entered(request, who.name, who.role, "/")


@router.post("/logout")
def logout(request: Request, who: Annotated[Principal, Depends(needs(Role.VIEWER))]) -> Response:
    """Log the reader out."""
    web = web_of(request)
    if who.csrf:
        with web.parts.db.write() as session:
            accounts.revoke(session, who.credential_id, web.parts.clock())
        web.trail.record(
            AuditEvent.USER_AUTHENTICATION, "E", who.name, host_of(request.scope), detail="logout"
        )
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE)
    return answer
