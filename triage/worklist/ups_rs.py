"""UPS-RS (PS3.18 11): search, retrieve and change of state as plain functions; the web room mounts them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.dataset import Dataset
from sqlalchemy.orm import Session

from triage.errors import RefusedOnce
from triage.worklist import ups

MAX_LIMIT = 1000

#: HTTP status of a DIMSE status (PS3.18 11.7.3); every other refusal is a 409.
_HTTP = {0xC307: 404, 0xC301: 400, 0x0115: 400}
_WARNINGS = {0xB304, 0xB306}


@dataclass(frozen=True)
class Answer:
    """What goes back: `body` is DICOM JSON (PS3.18 F) or None, `headers` carry what the standard asks for."""

    status: int
    body: Any = None
    headers: tuple[tuple[str, str], ...] = ()


def search(session: Session, query: Sequence[tuple[str, str]]) -> Answer:
    """Answer `GET /workitems?{match}&includefield&offset&limit`: in reading order, 204 without a match."""
    keys = Dataset()
    limit, offset = MAX_LIMIT, 0
    for name, value in query:
        if name in ("limit", "offset"):
            if not (value.isascii() and value.isdigit() and len(value) < 8):
                return _refused(400, f"{name} must be a whole number.")
            limit, offset = (min(int(value), MAX_LIMIT), offset) if name == "limit" else (limit, int(value))
        elif name != "includefield" and not _add(keys, name, value):
            return _refused(400, "A parameter is no DICOM attribute; use a keyword or 8 hexadecimal digits.")
    found = ups.search(session, keys, limit, offset, whole=True) if limit else []
    items = [item.to_json_dict() for item in found]
    return Answer(200, items) if items else Answer(204)


def retrieve(session: Session, uid: str) -> Answer:
    """Answer `GET /workitems/{uid}`."""
    try:
        return Answer(200, [ups.retrieve(session, uid).to_json_dict()])
    except ups.UpsError as error:
        return _error(error)


def change_state(session: Session, uid: str, body: bytes, actor: str, now: datetime) -> Answer:
    """Answer `PUT /workitems/{uid}/state` with DICOM JSON that holds state and Transaction UID."""
    try:
        raw = json.loads(body)
        [one] = raw if isinstance(raw, list) else [raw]
        change = Dataset.from_json(one)
        _ = change.get("TransactionUID"), change.get("ProcedureStepState")
    except Exception:  # noqa: BLE001 - a foreign body fails in the parser in as many ways as it has keys
        return _refused(400, "The body must be DICOM JSON with 00081195 and 00741000.")
    try:
        ups.change_state(session, uid, change, actor, now)
    except ups.UpsError as error:
        return _error(error)
    except RefusedOnce as error:
        return _refused(409, str(error))
    return Answer(200)


def request_cancel(session: Session, uid: str) -> Answer:
    """Answer `POST /workitems/{uid}/cancelrequest`: declined, since what is on the list is read."""
    try:
        ups.retrieve(session, uid)
    except ups.UpsError as error:
        return _error(error)
    return _refused(409, "A study on the list is read; cancel its order instead.")


def _add(keys: Dataset, name: str, value: str) -> bool:
    """Add a match parameter; a path into a sequence (`0040A370.00080050`) counts by its last part."""
    last = name.rsplit(".", maxsplit=1)[-1]
    keyword = keyword_for_tag(last) if len(last) == 8 and _hexadecimal(last) else last
    if not keyword or tag_for_keyword(keyword) is None or len(value) > 1024:
        return False
    try:
        setattr(keys, keyword, value.replace(",", "\\") if keyword.endswith("UID") else value)
    except (ValueError, TypeError, AttributeError):
        return False
    return True


def _hexadecimal(text: str) -> bool:
    return all(letter in "0123456789abcdefABCDEF" for letter in text)


def _error(error: ups.UpsError) -> Answer:
    if error.status in _WARNINGS:
        return Answer(200, None, (("Warning", f'299 triage: "{error}"'),))
    return _refused(_HTTP.get(error.status, 409), str(error))


def _refused(status: int, sentence: str) -> Answer:
    return Answer(status, None, (("Warning", f'299 triage: "{sentence}"'),))
