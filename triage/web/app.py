"""The web application, put together: `build_app(parts)`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.routing import APIRoute

from triage import __version__
from triage.web import problems
from triage.web.access import Gate, Needs
from triage.web.context import Web
from triage.web.describe import describer
from triage.web.headers import SafeHeaders
from triage.web.live import Live
from triage.web.parts import Check, Parts
from triage.web.routes import ALL
from triage.web.throttle import Throttle
from triage.web.trail import Trail

__all__ = ["Check", "Parts", "build_app"]


def build_app(parts: Parts) -> FastAPI:
    """Return the application; its lifespan starts and stops the live stream and the audit trail."""
    web = Web(
        parts=parts,
        trail=Trail(parts.db, parts.clock),
        live=Live(parts.db, parts.clock),
        throttle=Throttle(),
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        web.trail.start()
        await web.live.start()
        yield
        await web.live.stop()
        web.trail.stop()

    app = FastAPI(
        title="triage",
        version=__version__,
        lifespan=lifespan,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.web = web
    app.openapi = describer(app)  # type: ignore[method-assign]
    problems.install(app)
    for router in ALL:
        # The routes themselves, not a router within: `app.routes` is what the checks below walk through.
        app.router.routes.extend(router.routes)
    _check_roles(app)
    app.add_middleware(Gate, web=web)
    app.add_middleware(SafeHeaders)
    return app


def role_of(route: APIRoute) -> Needs | None:
    """Return what a route asks of its caller; None for one that is open to strangers."""
    for dependency in route.dependant.dependencies:
        if isinstance(dependency.call, Needs):
            return dependency.call
    return None


def _check_roles(app: FastAPI) -> None:
    # A route without a word about who may use it is a mistake that must not start.
    for route in app.routes:
        if not isinstance(route, APIRoute):
            msg = f"The route {route!r} is of a kind that has no roles."
            raise TypeError(msg)
        if role_of(route) is None and "open" not in (route.tags or ()):
            msg = f"The route {route.path} does not say whom it serves."
            raise RuntimeError(msg)
