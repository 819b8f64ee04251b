"""A DICOM sender that costs nearly nothing and obeys only as far as it is told to."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

VERIFICATION = "1.2.840.10008.1.1"
EXPLICIT_LE = "1.2.840.10008.1.2.1"


class Rejected(Exception):
    """The association was rejected: result, source, reason."""


class Aborted(Exception):
    """The peer aborted or closed the connection."""


@dataclass(frozen=True)
class Object:
    """One object as it goes over the wire."""

    sop_class: str
    sop_instance: str
    syntax: str
    data: bytes


def read_part10(path: Path) -> Object:
    """Return what a DICOM file would send, without a look at its data set."""
    raw = path.read_bytes()
    if raw[128:132] != b"DICM":
        msg = f"{path} has no preamble."
        raise ValueError(msg)
    at, meta = 132, {}
    while at + 8 <= len(raw):
        group, element, vr, length = struct.unpack_from("<HH2sH", raw, at)
        if group != 2:
            break
        head = 8
        if vr in (b"OB", b"UN", b"UT"):
            length, head = struct.unpack_from("<L", raw, at + 8)[0], 12
        meta[element] = raw[at + head : at + head + length].decode("latin-1").rstrip("\0 ")
        at += head + length
    return Object(meta.get(2, ""), meta.get(3, ""), meta.get(0x10, ""), raw[at:])


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(value)) + value


def _element(tag: int, value: bytes) -> bytes:
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value


def _uid(value: str) -> bytes:
    raw = value.encode("latin-1")
    return raw + b"\0" * (len(raw) % 2)


def associate_request(
    calling: bytes, called: bytes, contexts: Iterable[tuple[str, str]], max_pdu: int
) -> bytes:
    """Return an A-ASSOCIATE-RQ PDU that offers one context for each (class, syntax)."""
    body = struct.pack(">HH", 1, 0) + called.ljust(16)[:16] + calling.ljust(16)[:16] + b"\0" * 32
    body += _item(0x10, b"1.2.840.10008.3.1.1.1")
    for number, (abstract, syntax) in enumerate(contexts):
        sub = _item(0x30, abstract.encode("latin-1")) + _item(0x40, syntax.encode("latin-1"))
        body += _item(0x20, struct.pack(">BBBB", 2 * number + 1, 0, 0, 0) + sub)
    user = _item(0x51, struct.pack(">L", max_pdu)) + _item(0x52, b"1.2.3.4")
    return struct.pack(">BBL", 1, 0, len(body) + len(_item(0x50, user))) + body + _item(0x50, user)


def store_command(sop_class: str, sop_instance: str, message: int) -> bytes:
    """Return the command set of a C-STORE-RQ."""
    elements = (
        _element(0x00000002, _uid(sop_class))
        + _element(0x00000100, struct.pack("<H", 1))
        + _element(0x00000110, struct.pack("<H", message))
        + _element(0x00000700, struct.pack("<H", 0))
        + _element(0x00000800, struct.pack("<H", 1))
        + _element(0x00001000, _uid(sop_instance))
    )
    return _element(0x00000000, struct.pack("<L", len(elements))) + elements


def pdata(context: int, control: int, piece: bytes) -> bytes:
    """Return one P-DATA-TF PDU with one fragment."""
    return struct.pack(">BBLLBB", 4, 0, len(piece) + 6, len(piece) + 2, context, control) + piece


class RawPeer:
    """One association, opened by hand."""

    def __init__(
        self,
        address: tuple[str, int],
        contexts: Iterable[tuple[str, str]],
        *,
        calling: bytes = b"RAWPEER",
        called: bytes = b"TRIAGE",
        max_pdu: int = 16384,
        timeout: float = 30.0,
        sock: socket.socket | None = None,
    ) -> None:
        """Connect and negotiate.

        Raises:
            Rejected: with (result, source, reason).
        """
        self.sock = sock or socket.create_connection(address, timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.contexts = list(dict.fromkeys(contexts))
        self.message = 0
        try:
            self.peer_max, self.accepted = self._ask(
                associate_request(calling, called, self.contexts, max_pdu)
            )
        except BaseException:
            self.sock.close()
            raise

    def _ask(self, request: bytes) -> tuple[int, set[int]]:
        self.sock.sendall(request)
        kind, body = self.read_pdu()
        if kind == 3:
            raise Rejected(tuple(body[1:4]))
        if kind != 2:
            raise Aborted(kind)
        return self._accepted(body)

    def _accepted(self, body: bytes) -> tuple[int, set[int]]:
        at, accepted, peer_max = 68, set(), 16384
        while at + 4 <= len(body):
            kind, _, length = struct.unpack_from(">BBH", body, at)
            if kind == 0x21 and body[at + 6] == 0:
                accepted.add(body[at + 4])
            if kind == 0x50:
                peer_max = struct.unpack_from(">L", body, at + 8)[0]
            at += 4 + length
        return peer_max or 1 << 20, accepted

    def _read(self, count: int) -> bytes:
        got = bytearray()
        while len(got) < count:
            piece = self.sock.recv(count - len(got))
            if not piece:
                raise Aborted(-1)
            got += piece
        return bytes(got)

    def read_pdu(self) -> tuple[int, bytes]:
        """Return the type and body of the next PDU."""
        kind, _, length = struct.unpack(">BBL", self._read(6))
        return kind, self._read(length)

    def context_of(self, sop_class: str, syntax: str) -> int | None:
        """Return the accepted context of a class and syntax, or None."""
        number = 2 * self.contexts.index((sop_class, syntax)) + 1
        return number if number in self.accepted else None

    def send_object(self, item: Object, piece: int = 0) -> None:
        """Send one C-STORE request without waiting for the answer."""
        context = self.context_of(item.sop_class, item.syntax)
        if context is None:
            raise Rejected("context")
        self.message = self.message % 60000 + 1
        self.sock.sendall(pdata(context, 3, store_command(item.sop_class, item.sop_instance, self.message)))
        self.send_data(context, item.data, piece)

    def send_data(self, context: int, data: bytes, piece: int = 0) -> None:
        """Send a data set in fragments of `piece` bytes, the last one marked."""
        step = piece or min(self.peer_max, 1 << 20) - 6
        view = memoryview(data)
        last = max((len(data) - 1) // step * step, 0)
        for at in range(0, max(len(data), 1), step):
            part = view[at : at + step]
            head = struct.pack(">BBLLBB", 4, 0, len(part) + 6, len(part) + 2, context, 2 if at == last else 0)
            if len(part) < 8192:
                self.sock.sendall(head + bytes(part))
            else:  # large parts are not copied
                self.sock.sendall(head)
                self.sock.sendall(part)

    def answer(self) -> tuple[int, str]:
        """Return status and error comment of the next response.

        Raises:
            Aborted: the peer aborts or closes instead of answering.
        """
        kind, body = self.read_pdu()
        if kind != 4:
            raise Aborted(kind)
        at, found = 6, {}
        while at + 8 <= len(body):
            group, element, length = struct.unpack_from("<HHL", body, at)
            found[group << 16 | element] = body[at + 8 : at + 8 + length]
            at += 8 + length
        return struct.unpack("<H", found[0x00000900])[0], found.get(0x00000902, b"").decode("latin-1").strip()

    def store(self, item: Object) -> tuple[int, str]:
        """Send one object and return the answer."""
        self.send_object(item)
        return self.answer()

    def release(self) -> None:
        """Release in order."""
        self.sock.sendall(struct.pack(">BBLL", 5, 0, 4, 0))
        self.read_pdu()
        self.sock.close()

    def abort(self) -> None:
        """Abort without a word."""
        self.sock.sendall(struct.pack(">BBLBBBB", 7, 0, 4, 0, 0, 0, 0))
        self.sock.close()


def send(address: tuple[str, int], item: Object) -> tuple[int, str]:
    """Send one object over an association of its own and return the answer."""
    peer = RawPeer(address, [(item.sop_class, item.syntax)])
    answer = peer.store(item)
    peer.release()
    return answer
