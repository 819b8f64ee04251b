"""The upper layer of an association: waits for events, and streams C-STORE from the socket to the spool."""

from __future__ import annotations

import logging
import os
import queue
import select
import ssl
import threading
import time
from collections import deque
from typing import Any

from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import StateMachine
from pynetdicom.pdu import A_ABORT_RQ
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.timer import Timer

from triage.receive import contexts, wire
from triage.receive.fastpath.parts import Hooks, Line, failed
from triage.receive.parse import Claim
from triage.receive.spool import SpoolFile
from triage.receive.verdict import Status, Verdict

log = logging.getLogger(__name__)

_SMALL = 1 << 16  # bytes read at once where a header is expected
_LARGE = 1 << 19  # bytes read at once inside a fragment
_MAX_PDU = (1 << 20) + 64  # what we announce, and room for a sloppy count
_MAX_COMMAND = 1 << 16
_MAX_OTHER = 16 << 20  # data set of a message that is no C-STORE
#: A sender that is slower than this over a whole object is cut off.
_SLOWEST = 1024  # bytes a second
_large_buffers: deque[bytearray] = deque(maxlen=32)


class _ClosedError(Exception):
    """The peer closed the connection, or took too long."""


class _Transfer:
    """A C-STORE whose data set is on its way."""

    def __init__(self, context_id: int, request: wire.StoreRequest, file: SpoolFile) -> None:
        self.context_id = context_id
        self.request = request
        self.file = file
        self.since = time.monotonic()


class FastDul(DULServiceProvider):
    """The upper layer of one association: owns the socket, waits for events, streams C-STORE itself.

    It has no thread of its own: its association turns it, and does the user's side between two turns.
    """

    def __init__(self, assoc: Any, hooks: Hooks) -> None:
        # Not pynetdicom's own: it makes a thread, and queues with three locks each.
        self._assoc = self._owner = assoc
        self.socket = None
        self._idle_timer, self.artim_timer = Timer(60), Timer(30)
        self._kill_thread = False
        self.event_queue: Any = Line()
        self.to_user_queue: Any = Line()
        self._recv_pdu: Any = Line()
        self.state_machine = StateMachine(self)
        self._hooks = hooks
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._wake_lock = threading.Lock()
        self.to_provider_queue: Any = Line(self.wake)
        self._small = memoryview(bytearray(_SMALL))
        self._start = self._end = 0
        #: Whether the socket was found to have something, or an end, that was not looked at yet.
        self._readable = False
        #: Whether a timer ran out while nothing came.
        self._waited_out = False
        self._command = b""
        self._other = 0
        self._transfer: _Transfer | None = None

    # Waiting

    def wake(self) -> None:
        """Let the thread look at its queues."""
        with self._wake_lock:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def kill_dul(self) -> None:
        """End the thread soon."""
        self._kill_thread = True
        self.wake()

    def stop_dul(self) -> bool:
        """Return whether the connection is closed; the association's own thread ends then."""
        return bool(self.state_machine.current_state == "Sta1")

    @property
    def over(self) -> bool:
        """Whether nothing can come or go any more."""
        return self._kill_thread or (self.stop_dul() and self.event_queue.empty())

    @property
    def news(self) -> bool:
        """Whether there is something for the user's side: a primitive, a message, or too long a silence."""
        return bool(self.to_user_queue.queue or self.assoc.dimse.msg_queue.queue or self._waited_out)

    def begin(self) -> None:
        """Be ready for the first turn."""
        self._idle_timer.start()

    def end(self) -> None:
        """Forget what was on its way, and close what is open."""
        self._abandon()
        with self._wake_lock:
            os.close(self._wake)
            self._wake = -1

    def turn(self) -> bool:
        """Wait for the next event and handle it; returns whether the association goes on."""
        try:
            if self.artim_timer.expired:
                self.event_queue.put("Evt18")
            if not self._process_recv_primitive() and self._is_transport_event():
                self._idle_timer.restart()
            try:
                event = self.event_queue.get(block=False)
            except queue.Empty:
                self._wait()
                return True
            self.state_machine.do_action(event)
        except Exception as error:  # noqa: BLE001 - the top of the thread: it ends this association only
            failed(error)
            self.give_up()
            return False
        return True

    def give_up(self) -> None:
        """End the association for a reason of ours."""
        abort = A_ABORT_RQ()
        abort.source, abort.reason_diagnostic = 2, 0
        if self.socket is not None and self.socket.socket is not None:
            self.socket.send(abort.encode())
        self.assoc.is_aborted, self.assoc.is_established = True, False
        self.assoc._kill = True
        self._kill_thread = True
        self._connection_lost()

    def _connection_lost(self) -> None:
        sock = self.socket.socket if self.socket is not None else None
        if sock is not None:
            sock.close()

    def _wait(self) -> None:
        """Sleep until the socket, a queue or a timer has something to say."""
        if self._start < self._end or not self.to_provider_queue.empty():
            return
        if not self.assoc._kill and not (self.to_user_queue.empty() and self.assoc.dimse.msg_queue.empty()):
            return
        poller = select.poll()
        sock = self.socket.socket if self.socket is not None else None
        limits = [
            max(timer.remaining, 0.0) + 0.01
            for timer in (self.artim_timer, self._idle_timer)
            if timer.timeout is not None and timer._start_time is not None and timer._end_time is None
        ]
        try:
            if sock is not None:
                if isinstance(sock, ssl.SSLSocket) and sock.pending():
                    self._readable = True
                    return
                poller.register(sock, select.POLLIN)
            poller.register(self._wake, select.POLLIN)
            found = poller.poll(min(limits) * 1000 if limits else None)
            self._waited_out = not found
            for descriptor, _ in found:
                if descriptor == self._wake:
                    os.eventfd_read(self._wake)
                else:
                    self._readable = True
        except (OSError, ValueError):
            # The socket was closed under us: say so once, as pynetdicom's own select does.
            self.event_queue.put("Evt17")

    def _is_transport_event(self) -> bool:
        if self.state_machine.current_state == "Sta13":
            return super()._is_transport_event()
        if self._start == self._end and not self._readable:
            return False
        self._readable = False
        self._read_pdu_data()
        return True

    # Reading

    def _fill(self, needed: int, deadline: float) -> None:
        """Have at least `needed` bytes in the small buffer."""
        if self._start + needed > _SMALL or self._start == self._end:
            left = self._end - self._start
            self._small[:left] = bytes(self._small[self._start : self._end])
            self._start, self._end = 0, left
        while self._end - self._start < needed:
            self._end += self._receive(self._small[self._end :], deadline)

    def _receive(self, into: memoryview, deadline: float) -> int:
        sock = self.socket.socket if self.socket is not None else None
        if sock is None or time.monotonic() > deadline:
            raise _ClosedError
        try:
            count = sock.recv_into(into)
        except OSError:
            raise _ClosedError from None
        if not count:
            raise _ClosedError
        return count

    def _take(self, count: int, deadline: float) -> bytes:
        """Return the next `count` bytes, which were checked to be few enough."""
        got = bytearray()
        while len(got) < count:
            if self._start == self._end:
                self._fill(1, deadline)
            part = self._small[self._start : min(self._end, self._start + count - len(got))]
            got += part
            self._start += len(part)
        return bytes(got)

    def _read_pdu_data(self) -> None:
        """Read one PDU: fragments of a C-STORE go to its file, everything else to pynetdicom."""
        deadline = time.monotonic() + (self.assoc.dimse_timeout or 60.0)
        try:
            kind, _, length = wire.PDU_HEAD.unpack(self._take(6, deadline))
            if kind == wire.P_DATA_TF and self.state_machine.current_state == "Sta6":
                self._fragments(length, deadline)
            else:
                self._ordinary(kind, length, deadline)
        except _ClosedError:
            self._abandon()
            self.event_queue.put("Evt17")
        except wire.WireError as error:
            self._broken(str(error), error)
            self._abandon()
            self.event_queue.put("Evt19")

    def _broken(self, sentence: str, error: Exception) -> None:
        # pynetdicom's own texts quote what came, which may be a patient: only the type goes to the log.
        log.info("the protocol was broken", extra={"event": "bad_pdu", "error": type(error).__name__})
        host = self.assoc.requestor.address_info
        self._hooks.turned_away(
            host.address if host else "", "aborted", f"{sentence} The association was aborted."
        )

    def _ordinary(self, kind: int, length: int, deadline: float) -> None:
        if not 1 <= kind <= 7 or length > _MAX_PDU:
            msg = "No such PDU, or one that is too long."
            raise wire.WireError(msg)
        body = self._take(length, deadline)
        if kind in (5, 7):
            self._abandon()
        if kind == 1 and self.state_machine.current_state == "Sta2" and self._owner.asked(body):
            return
        try:
            pdu, event = self._decode_pdu(bytearray(wire.PDU_HEAD.pack(kind, 0, length) + body))
        except Exception as error:  # noqa: BLE001 - whatever pynetdicom's decoder stumbles over
            self._broken("A PDU can't be decoded.", error)
            self.event_queue.put("Evt19")
            return
        self.event_queue.put(event)
        self._recv_pdu.put(pdu)

    def _fragments(self, left: int, deadline: float) -> None:
        """Walk the presentation data values of one P-DATA-TF (PS3.8 9.3.5)."""
        if left > _MAX_PDU:
            msg = "The PDU is longer than what was agreed."
            raise wire.WireError(msg)
        while left:
            if left < 6:
                msg = "A presentation data value is cut short."
                raise wire.WireError(msg)
            size, context_id, control = wire.PDV_HEAD.unpack(self._take(6, deadline))
            left -= size + 4
            if size < 2 or left < 0:
                msg = "A presentation data value is longer than its PDU."
                raise wire.WireError(msg)
            if control & 1:
                self._command_fragment(context_id, control, self._take_few(size - 2, deadline))
            elif self._transfer is not None:
                self._data_fragment(self._transfer, context_id, control, size - 2, deadline)
            else:
                self._other_fragment(context_id, control, self._take_few(size - 2, deadline))

    def _take_few(self, count: int, deadline: float) -> bytes:
        self._other += count
        if self._other > _MAX_OTHER:
            msg = "The message is too long."
            raise wire.WireError(msg)
        return self._take(count, deadline)

    def _command_fragment(self, context_id: int, control: int, piece: bytes) -> None:
        self._command += piece
        if self._transfer is not None or len(self._command) > _MAX_COMMAND:
            msg = "A command where none may be."
            raise wire.WireError(msg)
        if not control & 2:
            return
        command, self._command = self._command, b""
        self._other = 0
        request = wire.store_request(command)
        context = self.assoc._accepted_cx.get(context_id)
        if request is None:
            self._hand_over(context_id, 3, command)
            return
        if context is None or context.abstract_syntax == contexts.VERIFICATION:
            msg = "The presentation context was not accepted for objects."
            raise wire.WireError(msg)
        claim = Claim(request.sop_class_uid, request.sop_instance_uid, str(context.transfer_syntax[0]))
        self._transfer = _Transfer(context_id, request, self._hooks.begin(self.assoc, claim))
        if not request.has_data_set:
            self._answer(self._transfer)

    def _data_fragment(
        self, transfer: _Transfer, context_id: int, control: int, left: int, deadline: float
    ) -> None:
        if context_id != transfer.context_id:
            msg = "A fragment of another presentation context."
            raise wire.WireError(msg)
        write = transfer.file.write
        if self._start < self._end:
            count = min(left, self._end - self._start)
            write(self._small[self._start : self._start + count])
            self._start += count
            left -= count
        if left:
            self._stream(transfer, left)
        if control & 2:
            self._answer(transfer)
        elif not self._fast_enough(transfer):
            raise _ClosedError

    def _stream(self, transfer: _Transfer, left: int) -> None:
        """Read the rest of a fragment into the file; what follows it stays in the socket."""
        buffer = _large_buffers.pop() if _large_buffers else bytearray(_LARGE)
        view = memoryview(buffer)
        try:
            while left:
                limit = time.monotonic() + (self.assoc.dimse_timeout or 60.0)
                count = self._receive(view[: min(left, _LARGE)], limit)
                transfer.file.write(view[:count])
                left -= count
                self._idle_timer.restart()
                if not self._fast_enough(transfer):
                    raise _ClosedError
        finally:
            _large_buffers.append(buffer)

    def _fast_enough(self, transfer: _Transfer) -> bool:
        took = time.monotonic() - transfer.since
        grace = self.assoc.dimse_timeout or 60.0
        return took < grace or transfer.file.received > _SLOWEST * (took - grace)

    def _answer(self, transfer: _Transfer) -> None:
        self._transfer = None
        if not transfer.request.has_data_set:
            transfer.file.discard()
            verdict = Verdict(Status.UNREADABLE, "The request comes without a data set.")
        else:
            verdict = self._hooks.finish(self.assoc, transfer.file)
        command = wire.store_response(transfer.request, verdict.status, verdict.sentence)
        peer_max = int(self.assoc.requestor.maximum_length or 0)
        sock = self.socket.socket if self.socket is not None else None
        try:
            if sock is not None:
                sock.sendall(wire.command_pdus(transfer.context_id, command, peer_max))
        except OSError:
            # The object is kept all the same; its sender will ask again and be told so.
            raise _ClosedError from None
        self._idle_timer.restart()

    def _other_fragment(self, context_id: int, control: int, piece: bytes) -> None:
        self._hand_over(context_id, control, piece)
        if control & 2:
            self._other = 0

    def _hand_over(self, context_id: int, control: int, piece: bytes) -> None:
        """Give a fragment of any other message to pynetdicom, as its own DT-2 would."""
        primitive = P_DATA()
        primitive.presentation_data_value_list = [[context_id, bytes([control]) + piece]]  # type: ignore[list-item]
        self.assoc.dimse.receive_primitive(primitive)

    def _abandon(self) -> None:
        transfer, self._transfer = self._transfer, None
        if transfer is not None:
            self._hooks.abandon(self.assoc, transfer.file)
