"""The few bytes of DIMSE and the upper layer that the fast path handles itself (PS3.7 9.3, PS3.8 9.3)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

PDU_HEAD = struct.Struct(">BBL")
PDV_HEAD = struct.Struct(">LBB")
P_DATA_TF = 4

C_STORE_RQ, C_STORE_RSP = 0x0001, 0x8001
NO_DATA_SET = 0x0101

_GROUP_LENGTH, _CLASS, _FIELD = 0x00000000, 0x00000002, 0x00000100
_MESSAGE, _RESPONDED, _DATA_SET = 0x00000110, 0x00000120, 0x00000800
_STATUS, _COMMENT, _INSTANCE = 0x00000900, 0x00000902, 0x00001000
_COMMENT_LENGTH = 64


class WireError(Exception):
    """Bytes that break the protocol."""


@dataclass(frozen=True)
class StoreRequest:
    """What a C-STORE-RQ says (PS3.7 9.3.1.1)."""

    sop_class_uid: str
    sop_instance_uid: str
    message_id: int
    has_data_set: bool


def read_command(raw: bytes) -> dict[int, bytes]:
    """Return the elements of a command set: always implicit little endian (PS3.7 6.3.1).

    Raises:
        WireError: the lengths do not fit.
    """
    found: dict[int, bytes] = {}
    at = 0
    while at < len(raw):
        if at + 8 > len(raw):
            msg = "A command element is cut short."
            raise WireError(msg)
        group, element, length = struct.unpack_from("<HHL", raw, at)
        at += 8
        if group or at + length > len(raw):
            msg = "The command set holds something that is no command element."
            raise WireError(msg)
        found[element] = raw[at : at + length]
        at += length
    return found


def _short(found: dict[int, bytes], element: int) -> int:
    value = found.get(element & 0xFFFF, b"")
    if len(value) != 2:
        msg = "A number of the command set is absent or has the wrong size."
        raise WireError(msg)
    return int(struct.unpack("<H", value)[0])


def store_request(raw: bytes) -> StoreRequest | None:
    """Return the C-STORE request that a command set is, or None for any other message.

    Raises:
        WireError: it is no command set.
    """
    found = read_command(raw)
    if _short(found, _FIELD) != C_STORE_RQ:
        return None
    return StoreRequest(
        _text(found.get(_CLASS & 0xFFFF, b"")),
        _text(found.get(_INSTANCE & 0xFFFF, b"")),
        _short(found, _MESSAGE),
        _short(found, _DATA_SET) != NO_DATA_SET,
    )


def _text(value: bytes) -> str:
    return value.decode("latin-1").rstrip("\0 ")


def _element(tag: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHL", 0, tag, len(value)) + value


def store_response(request: StoreRequest, status: int, comment: str) -> bytes:
    """Return the command set of the C-STORE-RSP (PS3.7 9.3.1.2)."""
    body = (
        _element(_CLASS, request.sop_class_uid.encode("latin-1"))
        + _element(_FIELD, struct.pack("<H", C_STORE_RSP))
        + _element(_RESPONDED, struct.pack("<H", request.message_id))
        + _element(_DATA_SET, struct.pack("<H", NO_DATA_SET))
        + _element(_STATUS, struct.pack("<H", status))
    )
    if comment:
        text = comment.encode("ascii", "replace")[:_COMMENT_LENGTH]
        body += _element(_COMMENT, text + b" " * (len(text) % 2))
    body += _element(_INSTANCE, request.sop_instance_uid.encode("latin-1"))
    return _element(_GROUP_LENGTH, struct.pack("<L", len(body))) + body


def command_pdus(context_id: int, command: bytes, max_pdu: int) -> bytes:
    """Return a command set as P-DATA-TF PDUs that the peer can take; 0 means that it takes any size."""
    step = max(max_pdu - 6, 64) if max_pdu else len(command)
    parts = [command[at : at + step] for at in range(0, len(command), step)]
    pdus = []
    for number, part in enumerate(parts):
        control = 3 if number == len(parts) - 1 else 1
        pdus.append(
            PDU_HEAD.pack(P_DATA_TF, 0, len(part) + 6)
            + PDV_HEAD.pack(len(part) + 2, context_id, control)
            + part
        )
    return b"".join(pdus)
