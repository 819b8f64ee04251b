"""The API against its own description: whatever is sent, the answer is one that /openapi.json promises."""

from __future__ import annotations

from pathlib import Path

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests import reading_room
from tests.web_room import Room, open_room

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
#: The stream never ends, and multipart/related is no body that can be generated.
APART = {"/api/v1/events", "/dicom-web/studies"}
EXAMPLES = 4


def _try(room: Room, operation: schemathesis.APIOperation, mode: GenerationMode) -> None:
    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def answers(case: schemathesis.Case) -> None:
        case.call_and_validate(session=room.client, headers=room.bearer(), checks=CHECKS)

    answers()


def test_every_answer_is_a_promised_one(tmp_path: Path) -> None:
    with open_room(tmp_path) as room:
        reading_room.fill(room.db, room.clock(), 3)
        schema = schemathesis.openapi.from_asgi("/openapi.json", room.app, headers=room.bearer())
        tried = 0
        for found in schema.get_all_operations():
            operation = found.ok()
            if operation.path in APART:
                continue
            _try(room, operation, GenerationMode.POSITIVE)
            if operation.body or list(operation.iter_parameters()):
                _try(room, operation, GenerationMode.NEGATIVE)
            tried += 1
        assert tried > 15
