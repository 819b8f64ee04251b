"""The description of the API (OpenAPI 3.1): what FastAPI derives, and what only we know."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from triage import RESEARCH_USE, __version__
from triage.web.access import COOKIE, OPEN_PATHS
from triage.web.shapes import ProblemDocument

_SCHEMES = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "Made by `triage token create NAME --role ROLE`.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": "Of a browser; changes also need its X-CSRF-Token.",
    },
}


def describer(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """Return the function that gives the description; it is made once."""

    @cache
    def describe() -> dict[str, Any]:
        said = get_openapi(
            title="triage",
            version=__version__,
            summary="A worklist triager for chest radiographs.",
            description=RESEARCH_USE,
            routes=app.routes,
        )
        components = said.setdefault("components", {})
        components["securitySchemes"] = _SCHEMES
        components.setdefault("schemas", {})["ProblemDocument"] = ProblemDocument.model_json_schema()
        said["security"] = [{name: []} for name in _SCHEMES]
        for path, operations in said["paths"].items():
            _ask_for_etags(operations)
            if path in OPEN_PATHS:
                for operation in operations.values():
                    operation["security"] = []
        return said

    return describe


def _ask_for_etags(operations: dict[str, Any]) -> None:
    # Absent it is answered with 428 and not, as FastAPI answers what it knows to be needed, with 422.
    for operation in operations.values():
        for parameter in operation.get("parameters", ()):
            if parameter["name"] == "if-match":
                parameter["required"] = True
