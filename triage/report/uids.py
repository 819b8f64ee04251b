"""UIDs derived from what they name: the same inputs give the same UID, so a repeat is never a twin."""

from __future__ import annotations

import re
import uuid

_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
_SEPARATOR = "\x1f"

#: The coding scheme 99TRIAGE has one UID in the whole world.
_PRODUCT = uuid.uuid5(uuid.NAMESPACE_URL, "urn:triage:chest-radiograph-worklist")


def derive(namespace: uuid.UUID, *names: str) -> str:
    """Return `2.25.<decimal of a UUIDv5>` of the names joined by U+001F (PS3.5 B.2, RFC 9562 5.5)."""
    return f"2.25.{uuid.uuid5(namespace, _SEPARATOR.join(names)).int}"


def is_valid(uid: str) -> bool:
    """Return whether a text is a UID as PS3.5 9.1 wants it: 64 characters, no leading zeros."""
    return len(uid) <= 64 and _UID.fullmatch(uid) is not None


CODING_SCHEME_UID = derive(_PRODUCT, "coding scheme 99TRIAGE")
