"""Every error as a problem document (RFC 9457) that says what happened and what to do."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from triage.errors import TriageError

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
_PREFIX = "urn:triage:problem:"

#: HTTP status of each stable error code; any other expected error is the caller's (400).
STATUS_OF_CODE: Mapping[str, int] = {
    "unknown-study": 404,
    "illegal-transition": 409,
    "conflict": 409,
    "stale": 412,
    "precondition-required": 428,
    "policy": 422,
    "no-preview": 404,
    "no-heat-map": 404,
    "unknown-result": 404,
    "bad-order": 422,
    "not-served": 501,
    "overloaded": 503,
}

_TITLES: Mapping[int, tuple[str, str, str]] = {
    400: ("bad-request", "The request can't be understood", "Compare it with /openapi.json."),
    401: (
        "not-logged-in",
        "Nobody is logged in",
        "Log in at /login, or send 'Authorization: Bearer <token>'.",
    ),
    403: ("forbidden", "Not allowed", "Ask an administrator for a role that includes this."),
    404: ("not-found", "Nothing is here", "The addresses are listed in /openapi.json."),
    405: ("method-not-allowed", "This address does not take that method", "See the Allow header."),
    409: ("conflict", "Somebody else was first", "Read it again and decide anew."),
    412: ("stale", "It changed since it was read", "Read it again and send the new ETag in If-Match."),
    413: ("too-large", "The request is too large", "Send less at once."),
    415: ("unsupported-media-type", "The body is of a kind that is not taken", "Send application/json."),
    422: ("invalid", "A value can't be used", "The errors name each value and what is wrong with it."),
    428: (
        "precondition-required",
        "A change needs If-Match",
        "Send the ETag that you decided on in If-Match, or * for whatever is there.",
    ),
    429: ("throttled", "Too many attempts", "Wait as long as Retry-After says."),
    500: ("internal", "An error of ours", "It is in the log; try again, then tell the administrator."),
    501: ("not-served", "This installation does not serve that", "Ask the administrator."),
    503: ("overloaded", "Something that is needed is not there now", "Try again in a moment."),
}


class WebError(TriageError):
    """An expected error of the web; `code` chooses status and type."""

    def __init__(self, code: str, sentence: str) -> None:
        """Keep a code of `STATUS_OF_CODE` and one sentence without patient data."""
        super().__init__(sentence)
        self.code = code


def problem(
    status: int,
    *,
    code: str = "",
    detail: str = "",
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Response:
    """Return a problem document; it repeats neither the address nor any value of the request."""
    default_code, title, advice = _TITLES.get(status, _TITLES[500 if status >= 500 else 400])
    body = {
        "type": _PREFIX + (code or default_code),
        "title": title,
        "status": status,
        "detail": detail or advice,
        **more,
    }
    return Response(orjson.dumps(body), status, dict(headers or {}), media_type=MEDIA_TYPE)


def _expected(_request: Request, error: Exception) -> Response:
    assert isinstance(error, TriageError)
    return problem(STATUS_OF_CODE.get(error.code, 400), code=error.code, detail=str(error))


def _http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, headers=error.headers)


def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # The values themselves stay out: they may be a patient's.
    errors = [
        {"place": "/".join(str(part) for part in item["loc"]), "sentence": item["msg"]}
        for item in error.errors()
    ]
    return problem(422, errors=errors)


def _unexpected(_request: Request, error: Exception) -> Response:
    log.error(
        "A request failed for a reason that nobody expected.",
        extra={"event": "web_failed", "error_type": type(error).__name__},
        exc_info=error,
    )
    return problem(500)


def install(app: FastAPI) -> None:
    """Make every error of the application a problem document."""
    app.add_exception_handler(TriageError, _expected)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _unexpected)
