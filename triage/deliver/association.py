"""One association as requestor, on one socket, in the caller's thread, with a deadline for every step.

pynetdicom's own requestor needs 95 ms for a small object (two stalls between Nagle's algorithm and the
peer's delayed acknowledgement), polls with two threads as long as an association is open, and hangs for ever
on a peer that stops reading (pynetdicom 1004). A C-STORE needs none of its threads: a request is written, an
answer is read. What is negotiated is encoded and decoded by pynetdicom (PS3.8 9.3, PS3.7 6.3).
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import BytesIO
from typing import BinaryIO, NoReturn

from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode, encode
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ, A_RELEASE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import build_context

from triage import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from triage.errors import PeerUnreachable

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
#: What we are ready to read: answers are small.
MAX_PDU = 16_384
#: What we write at most, also to a peer that takes any length.
MAX_FRAGMENT = 131_072
#: No answer to a C-STORE or C-ECHO is larger.
MAX_ANSWER = 1 << 20
_ACCEPTED, _REJECTED, _DATA, _RELEASE_RQ, _RELEASE_RP, _ABORT = 0x02, 0x03, 0x04, 0x05, 0x06, 0x07
_NO_DATA_SET, _HAS_DATA_SET = 0x0101, 0x0001

Context = tuple[str, str]


class Association:
    """An association that was accepted; not for several threads at once.

    Every method that takes `deadline` (of `time.monotonic`) raises `PeerUnreachable` when it has passed, or
    when the peer closes, aborts or answers nonsense; the connection is closed then.
    """

    def __init__(self, address: str, connection: socket.socket) -> None:
        """Use `connect`, then `negotiate`."""
        self._address = address
        self._socket = connection
        self._message = 0
        self._fragment = MAX_PDU
        self._ids: dict[Context, int] = {}
        self.is_open = True

    @property
    def accepted(self) -> frozenset[Context]:
        """The contexts (SOP class, transfer syntax) that the peer takes."""
        return frozenset(self._ids)

    def is_alive(self) -> bool:
        """Return whether an idle association can still be used: a word from the peer means its end."""
        if not self.is_open:
            return False
        # Not select: it knows no descriptor from 1024 on.
        waiting = select.poll()
        waiting.register(self._socket, select.POLLIN)
        has_ended = bool(waiting.poll(0))
        if has_ended:
            self.close()
        return not has_ended

    def negotiate(self, titles: tuple[str, str], contexts: Sequence[Context], deadline: float) -> None:
        """Ask for an association as (calling, called); `accepted` says what came of each context."""
        self._send(_request(titles, contexts), deadline)
        kind, body = self._read(deadline)
        if kind == _REJECTED:
            self._fail(f"rejected the association{_reason(body)}")
        if kind != _ACCEPTED:
            self._fail("did not accept the association")
        try:
            accepted = A_ASSOCIATE_AC()
            accepted.decode(body)
            primitive = accepted.to_primitive()
        except Exception as error:  # noqa: BLE001 - pynetdicom raises anything for a garbled PDU
            self._fail(f"accepted in a way that can't be read ({type(error).__name__})")
        most = int(primitive.maximum_length_received or MAX_FRAGMENT)
        self._fragment = max(128, min(most, MAX_FRAGMENT) - 6) & ~1
        by_id = {2 * number + 1: context for number, context in enumerate(contexts)}
        self._ids = {
            by_id[answer.context_id]: answer.context_id
            for answer in primitive.presentation_context_definition_results_list
            if answer.result == 0 and answer.context_id in by_id
        }

    def store(self, context: Context, sop_instance_uid: str, data: BinaryIO, deadline: float) -> int:
        """Send what is left to read of `data` as one data set; return the peer's status (PS3.4 B.2).

        Raises:
            OSError: `data` can't be read; the connection is closed.
        """
        command = self._command(0x0001, context[0], _HAS_DATA_SET)
        command.Priority = 0
        command.AffectedSOPInstanceUID = sop_instance_uid
        number = self._ids[context]
        pending = bytearray(_pdu(number, 0x03, _encoded(command)))
        try:
            for fragment, is_last in _fragments(data, self._fragment):
                pending += _pdu(number, 0x02 if is_last else 0x00, fragment)
                # A small object leaves in one piece; a large one as it is read.
                if is_last or len(pending) >= MAX_FRAGMENT:
                    self._send(pending, deadline)
                    pending.clear()
        except OSError:
            # The peer waits for the rest of this object: nothing else can be said to it.
            self.close()
            raise
        return self._answer(deadline)

    def echo(self, context: Context, deadline: float) -> int:
        """Ask for a sign of life and return the status (PS3.4 A.4)."""
        command = self._command(0x0030, context[0], _NO_DATA_SET)
        self._send(_pdu(self._ids[context], 0x03, _encoded(command)), deadline)
        return self._answer(deadline)

    def release(self, deadline: float) -> None:
        """End the association politely (PS3.8 7.2); a peer that does not answer is left."""
        if not self.is_open:
            return
        try:
            self._send(A_RELEASE_RQ().encode(), deadline)
            while self._read(deadline)[0] not in (_RELEASE_RP, _RELEASE_RQ):
                pass
        except PeerUnreachable:
            pass
        finally:
            self.close()

    def cut(self) -> None:
        """Let what another thread does on this association fail at once."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection at once."""
        self.is_open = False
        self._socket.close()

    def _command(self, field: int, sop_class_uid: str, data_set: int) -> Dataset:
        self._message = self._message % 65_535 + 1
        command = Dataset()
        command.AffectedSOPClassUID = sop_class_uid
        command.CommandField = field
        command.MessageID = self._message
        command.CommandDataSetType = data_set
        return command

    def _answer(self, deadline: float) -> int:
        """Return the status of the answer to the newest message."""
        received = bytearray()
        while True:
            kind, body = self._read(deadline)
            if kind == _ABORT:
                self._fail("aborted the association")
            if kind != _DATA:
                self._fail("ended the association instead of answering")
            for control, fragment in _values(body[6:]):
                if control & 0x01:
                    received += fragment
                if control & 0x03 == 0x03:
                    return self._status(bytes(received))
            if len(received) > MAX_ANSWER:
                self._fail("gave an answer without end")

    def _status(self, received: bytes) -> int:
        try:
            command = decode(BytesIO(received), True, True)
            status, to = int(command.Status), int(command.MessageIDBeingRespondedTo)
        except Exception:  # noqa: BLE001 - a garbled command raises anything
            self._fail("gave an answer that can't be read")
        if to != self._message:
            self._fail("answered another message")
        return status

    def _send(self, content: bytes | bytearray, deadline: float) -> None:
        try:
            self._socket.settimeout(self._left(deadline))
            self._socket.sendall(content)
            self._acknowledge_at_once()
        except TimeoutError:
            self._fail("did not take the data in time")
        except OSError as error:
            self._fail(f"broke the connection ({error.strerror or error})")

    def _read(self, deadline: float) -> tuple[int, bytes]:
        """Return kind and whole bytes of the next PDU."""
        head = self._read_exactly(6, deadline)
        length = int.from_bytes(head[2:6], "big")
        if length > MAX_ANSWER:
            self._fail("gave an answer without end")
        body = self._read_exactly(length, deadline)
        self._acknowledge_at_once()
        return head[0], head + body

    def _read_exactly(self, count: int, deadline: float) -> bytes:
        received = bytearray()
        while len(received) < count:
            try:
                self._socket.settimeout(self._left(deadline))
                piece = self._socket.recv(count - len(received))
            except TimeoutError:
                self._fail("did not answer in time")
            except OSError as error:
                self._fail(f"broke the connection ({error.strerror or error})")
            if not piece:
                self._fail("closed the connection")
            received += piece
        return bytes(received)

    def _acknowledge_at_once(self) -> None:
        # It does not stick: the kernel forgets it after a while (tcp(7)).
        if hasattr(socket, "TCP_QUICKACK"):
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _left(self, deadline: float) -> float:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def _fail(self, what: str) -> NoReturn:
        self.close()
        msg = f"{self._address} {what}."
        raise PeerUnreachable(msg)


def connect(address: tuple[str, int], title: str, seconds: float, source: str = "") -> Association:
    """Connect to the peer of that title, from the address `source` if it is given; nothing is negotiated yet.

    Raises:
        PeerUnreachable: no connection.
    """
    name = f"{title}@{address[0]}:{address[1]}"
    try:
        connection = socket.create_connection(address, seconds, (source, 0) if source else None)
    except OSError as error:
        why = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        msg = f"{name} can't be reached: {why}."
        raise PeerUnreachable(msg) from error
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return Association(name, connection)


def _request(titles: tuple[str, str], contexts: Sequence[Context]) -> bytes:
    """Return an A-ASSOCIATE-RQ; each context proposes one transfer syntax, so that the peer can't choose."""
    asked = A_ASSOCIATE()
    asked.application_context_name = APPLICATION_CONTEXT
    asked.calling_ae_title, asked.called_ae_title = titles
    proposed = [build_context(sop_class, syntax) for sop_class, syntax in contexts]
    for number, context in enumerate(proposed):
        context.context_id = 2 * number + 1
    asked.presentation_context_definition_list = proposed
    length, uid, version = (
        MaximumLengthNotification(),
        ImplementationClassUIDNotification(),
        ImplementationVersionNameNotification(),
    )
    length.maximum_length_received = MAX_PDU
    uid.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    asked.user_information = [length, uid, version]
    request = A_ASSOCIATE_RQ()
    request.from_primitive(asked)
    return request.encode()


def _reason(body: bytes) -> str:
    """Return result and reason of an A-ASSOCIATE-RJ in words, or nothing when they can't be read."""
    try:
        answer = A_ASSOCIATE_RJ()
        answer.decode(body)
        return f" ({answer.result_str}: {answer.reason_str})"
    except Exception:  # noqa: BLE001 - a garbled reason is no reason, whatever pynetdicom raises for it
        return ""


def _encoded(command: Dataset) -> bytes:
    """Return a command set in Implicit VR Little Endian with its group length (PS3.7 6.3.1)."""
    elements = encode(command, True, True) or b""
    return struct.pack("<HHII", 0x0000, 0x0000, 4, len(elements)) + elements


def _pdu(context_id: int, control: int, fragment: bytes) -> bytes:
    """Return a P-DATA-TF with one value (PS3.8 9.3.5)."""
    return (
        struct.pack(">BBIIBB", _DATA, 0, len(fragment) + 6, len(fragment) + 2, context_id, control) + fragment
    )


def _fragments(data: BinaryIO, most: int) -> Iterator[tuple[bytes, bool]]:
    """Yield the pieces of a data set, each with whether it is the last."""
    piece = data.read(most)
    while True:
        following = data.read(most)
        yield piece, not following
        if not following:
            return
        piece = following


def _values(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield control byte and content of each value in a P-DATA-TF."""
    at = 0
    while at + 6 <= len(body):
        length = int.from_bytes(body[at : at + 4], "big")
        yield body[at + 5], body[at + 6 : at + 4 + length]
        at += 4 + max(length, 2)
