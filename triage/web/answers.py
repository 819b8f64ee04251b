"""Answers without ceremony: JSON as bytes, ETags as revisions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson
from starlette.responses import Response

from triage.web.problems import WebError

_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS


def json(value: Any, *, status: int = 200, etag: str = "") -> Response:
    """Return a JSON answer; times are RFC 3339 in UTC with a Z."""
    headers = {"ETag": f'"{etag}"'} if etag else {}
    return Response(orjson.dumps(value, option=_OPTIONS), status, headers, media_type="application/json")


def rfc3339(moment: datetime) -> str:
    """Return a UTC time as the API writes it."""
    return moment.isoformat().replace("+00:00", "Z")


def needed(if_match: str | None) -> str:
    """Return `If-Match` without the space around it.

    Raises:
        WebError: there is none: nobody changes what they have not looked at (428, RFC 6585).
    """
    if if_match is None or not if_match.strip():
        sentence = "A change needs If-Match: send the ETag that you decided on, or * for whatever is there."
        raise WebError("precondition-required", sentence)
    return if_match.strip()


def expect_match(given: str | None, etag: str) -> None:
    """Refuse a change that was decided on an older state than the present one.

    Raises:
        WebError: `If-Match` is absent (428) or names another ETag (412).
    """
    text = needed(given)
    if text == "*":
        return
    known = {part.strip().removeprefix("W/").strip('"') for part in text.split(",")}
    if etag not in known:
        sentence = "It changed since it was read; read it again and send the new ETag in If-Match."
        raise WebError("stale", sentence)
