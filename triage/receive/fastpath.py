"""The fast road below pynetdicom's public surface: everything of that kind is in this module.

As it comes, pynetdicom copies each byte of an object about six times and wakes two threads of every
association a thousand times a second. Here the thread that owns the socket writes the fragments of a C-STORE
straight into the spool and answers by itself; whatever else comes over the association (negotiation, C-ECHO,
N-SET, release, abort) goes through pynetdicom's own code. Both threads wait for events instead of polling.

`available` says whether this pynetdicom is one that this module was written for; if not, the listener uses
the ordinary path. The same protocol tests run over both.
"""

from __future__ import annotations

import logging
import os
import queue
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Protocol

from pynetdicom import evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu import A_ABORT_RQ
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from triage.receive import wire
from triage.receive.parse import Claim
from triage.receive.spool import SpoolFile
from triage.receive.verdict import Status, Verdict

log = logging.getLogger(__name__)

_SMALL = 1 << 16  # bytes read at once where a header is expected
_LARGE = 1 << 18  # bytes read at once inside a fragment
_MAX_PDU = (1 << 20) + 64  # what we announce, and room for a sloppy count
_MAX_COMMAND = 1 << 16
_MAX_OTHER = 16 << 20  # data set of a message that is no C-STORE
#: A sender that is slower than this over a whole object is cut off.
_SLOWEST = 1024  # bytes a second
_large_buffers: deque[bytearray] = deque(maxlen=32)


def available() -> bool:
    """Return whether the installed pynetdicom is one whose inside is known here."""
    return version("pynetdicom").startswith("3.0.") and hasattr(os, "eventfd")


def _failed(error: Exception) -> None:
    log.error(
        "an association is aborted", extra={"event": "association_failed", "error": type(error).__name__}
    )


class Hooks(Protocol):
    """What the listener does with an object, and with a connection that never became an association."""

    def begin(self, assoc: Any, claim: Claim) -> SpoolFile:
        """Return the file into which the object goes."""

    def finish(self, assoc: Any, file: SpoolFile) -> Verdict:
        """Return the answer for an object that is all there; never raises."""

    def abandon(self, assoc: Any, file: SpoolFile) -> None:
        """Forget an object whose sender went away."""

    def turned_away(self, host: str, status: str, sentence: str) -> None:
        """Note a connection that was closed before it could ask for an association."""


class _ClosedError(Exception):
    """The peer closed the connection, or took too long."""


class _Announcing(queue.Queue[Any]):
    """A queue that tells somebody about each new item."""

    def __init__(self, announce: Callable[[], None]) -> None:
        super().__init__()
        self._announce = announce

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._announce()


class _Transfer:
    """A C-STORE whose data set is on its way."""

    def __init__(self, context_id: int, request: wire.StoreRequest, file: SpoolFile) -> None:
        self.context_id = context_id
        self.request = request
        self.file = file
        self.since = time.monotonic()


class _FastDul(DULServiceProvider):
    """The upper layer of one association: owns the socket, waits for events, streams C-STORE itself."""

    def __init__(self, assoc: FastAssociation, hooks: Hooks) -> None:
        super().__init__(assoc)
        self._hooks = hooks
        self.activity = threading.Event()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._wake_lock = threading.Lock()
        self.to_provider_queue = _Announcing(self.wake)
        self.to_user_queue = _Announcing(self.activity.set)
        self._small = memoryview(bytearray(_SMALL))
        self._start = self._end = 0
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
        """End the thread if the connection is closed; return whether it ended."""
        if self.state_machine.current_state != "Sta1":
            return False
        self.kill_dul()
        if threading.current_thread() is not self:
            self.join()
        return True

    def run_reactor(self) -> None:
        """Handle events until killed; as pynetdicom's, but waiting instead of polling."""
        self._idle_timer.start()
        self.assoc._dul_ready.set()
        try:
            while not self._kill_thread and self._turn():
                pass
        finally:
            self._abandon()
            with self._wake_lock:
                os.close(self._wake)
                self._wake = -1
            self.activity.set()

    def _turn(self) -> bool:
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
        except (
            Exception
        ) as error:  # the top of the thread: whatever a peer sent, it ends this association only
            name = type(error).__name__
            log.error("an association is aborted", extra={"event": "association_failed", "error": name})
            self._give_up()
            return False
        return True

    def _give_up(self) -> None:
        abort = A_ABORT_RQ()
        abort.source, abort.reason_diagnostic = 2, 0
        if self.socket is not None and self.socket.socket is not None:
            self.socket.send(abort.encode())
        self.assoc.is_aborted, self.assoc.is_established = True, False
        self.assoc._kill = True
        self._kill_thread = True
        # Whoever waits for a request that can't come any more must not wait for its time-out.
        self.to_user_queue.put(None)
        self._connection_lost()

    def _connection_lost(self) -> None:
        sock = self.socket.socket if self.socket is not None else None
        if sock is not None:
            sock.close()

    def _wait(self) -> None:
        """Sleep until the socket, a queue or the ARTIM timer has something to say."""
        if self._start < self._end or not self.to_provider_queue.empty():
            return
        watched: list[Any] = [self._wake]
        sock = self.socket.socket if self.socket is not None else None
        if sock is not None:
            if isinstance(sock, ssl.SSLSocket) and sock.pending():
                return
            watched.append(sock)
        limit = None
        timer = self.artim_timer
        if timer.timeout is not None and timer._start_time is not None and timer._end_time is None:
            limit = max(timer.remaining, 0.0) + 0.01
        try:
            poller = select.poll()
            for each in watched:
                poller.register(each, select.POLLIN)
            poller.poll(None if limit is None else limit * 1000)
            os.eventfd_read(self._wake)
        except BlockingIOError:
            pass
        except (OSError, ValueError):
            # The socket was closed under us: say so once, as pynetdicom's own select does.
            self.event_queue.put("Evt17")

    def _is_transport_event(self) -> bool:
        if self._start < self._end and self.state_machine.current_state != "Sta13":
            self._read_pdu_data()
            return True
        return super()._is_transport_event()

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
        if context is None:
            msg = "The presentation context was not accepted."
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
        primitive.presentation_data_value_list = [(context_id, bytes([control]) + piece)]
        self.assoc.dimse.receive_primitive(primitive)

    def _abandon(self) -> None:
        transfer, self._transfer = self._transfer, None
        if transfer is not None:
            self._hooks.abandon(self.assoc, transfer.file)


class _Socket(AssociationSocket):
    """A socket that may have any file number: select() knows none beyond 1,023."""

    @property
    def ready(self) -> bool:
        """Return whether there is something to read, or an end to be noticed."""
        if self.socket is None or not self._is_connected:
            return False
        if isinstance(self.socket, ssl.SSLSocket) and self.socket.pending():
            return True
        try:
            poller = select.poll()
            poller.register(self.socket, select.POLLIN)
            return bool(poller.poll(0))
        except (OSError, ValueError):
            self.event_queue.put("Evt17")
            return False


class FastAssociation(Association):
    """An acceptor whose two threads sleep while nothing happens."""

    dul: _FastDul

    def __init__(self, server: FastServer) -> None:
        """Prepare one association of `server`."""
        self._seat = server
        super().__init__(server.ae, MODE_ACCEPTOR)
        self._server = server
        self.dul = _FastDul(self, server.hooks)
        self.dimse.msg_queue = _Announcing(self.dul.activity.set)
        # The timers belong to the new upper layer.
        self.acse_timeout, self.dimse_timeout = server.ae.acse_timeout, server.ae.dimse_timeout
        self.network_timeout = server.ae.network_timeout

    def kill(self) -> None:
        """End both threads."""
        self._kill = True
        self.dul.activity.set()
        self.dul.wake()
        super().kill()

    def run_reactor(self) -> None:
        """Serve until the end, then give the seat back."""
        try:
            super().run_reactor()
        except Exception as error:  # noqa: BLE001 - the top of the thread: a request that breaks negotiation
            _failed(error)
            self.cut()
            self.kill()
        finally:
            self._seat.left(self)

    def _run_reactor(self) -> None:
        while not self._kill:
            self.dul.activity.clear()
            context_id, message = self.dimse.get_msg(block=False)
            if message is not None and context_id is not None:
                self._serve_request(message, context_id)
                continue
            if self._ended():
                self.kill()
                return
            timer = self.dul._idle_timer
            limit = None if timer.timeout is None else max(timer.remaining, 0.0) + 0.01
            self.dul.activity.wait(limit)

    def _ended(self) -> bool:
        """Return whether the association is over; as in pynetdicom's own loop."""
        if self.is_established and self.acse.is_release_requested():
            self.acse.send_release(is_response=True)
            self.is_released, self.is_established = True, False
            evt.trigger(self, evt.EVT_RELEASED, {})
            return True
        if self.acse.is_aborted():
            self.dul.receive_pdu(wait=False)
            self.is_aborted, self.is_established = True, False
            evt.trigger(self, evt.EVT_ABORTED, {})
            return True
        if not self.dul.is_alive():
            return True
        if self.dul.idle_timer_expired():
            log.info("an idle association is aborted", extra={"event": "association_idle"})
            self.abort()
            return True
        return False

    def cut(self) -> None:
        """Close the connection under the association, whatever it is doing."""
        wrapped = self.dul.socket
        sock = wrapped.socket if wrapped is not None else None
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return


class _Handler(RequestHandler):
    """Makes the association of one connection, without a copy of every context that we support."""

    server: FastServer

    def _create_association(self) -> FastAssociation:
        assoc = FastAssociation(self.server)
        assoc.name = f"AcceptorThread@{self.client_address[0]}"
        assoc.set_socket(_Socket(assoc, client_socket=self.request))
        acceptor = assoc.acceptor
        acceptor.maximum_length = self.ae.maximum_pdu_size
        acceptor.ae_title = self.server.ae_title
        acceptor.address_info = self.local
        acceptor.implementation_class_uid = self.ae.implementation_class_uid
        acceptor.implementation_version_name = self.ae.implementation_version_name
        # Contexts are shared: nothing in the negotiation writes to the acceptor's own.
        acceptor.supported_contexts = list(self.server.contexts)
        assoc.requestor.address_info = self.remote
        for event, bound in self.server._handlers.items():
            if event.is_intervention:
                assoc.bind(event, *bound)
            else:
                for handler, arguments in bound:  # type: ignore[misc]
                    assoc.bind(event, handler, arguments)
        self.server.seated(assoc)
        return assoc


class FastServer(ThreadedAssociationServer):
    """Accepts connections; a TLS handshake is done on a thread of its own, with a deadline."""

    request_queue_size = 128

    def __init__(  # noqa: PLR0917 - the signature that `AE.make_server` calls
        self,
        ae: Any,
        address: Any,
        ae_title: str,
        contexts: Any,
        ssl_context: ssl.SSLContext | None = None,
        evt_handlers: Any = None,
        *,
        hooks: Hooks,
        max_connections: int,
    ) -> None:
        """Bind and listen; see `AE.make_server`."""
        self.hooks = hooks
        self._max_connections = max_connections
        self._seats = threading.Lock()
        self._shaking = 0
        self.live: set[FastAssociation] = set()
        super().__init__(ae, address, ae_title, contexts, ssl_context, evt_handlers, _Handler)

    def seated(self, assoc: FastAssociation) -> None:
        """Note an association that was made."""
        with self._seats:
            self.live.add(assoc)

    def left(self, assoc: FastAssociation) -> None:
        """Note an association that is over."""
        with self._seats:
            self.live.discard(assoc)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept, and nothing else: whatever may block belongs to another thread."""
        assert self.socket is not None
        client, address = self.socket.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        client.settimeout(self.ae.dimse_timeout)
        return client, address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give a connection its association, or close it where too many are open."""
        with self._seats:
            full = len(self.live) + self._shaking >= self._max_connections
            if not full and self.ssl_context:
                self._shaking += 1
        if full:
            sentence = f"{self._max_connections} connections are open already; this one was closed."
            self.hooks.turned_away(str(client_address[0]), "closed", sentence)
            self.shutdown_request(request)
        elif self.ssl_context:
            threading.Thread(
                target=self._shake, args=(request, client_address), name="tls-handshake", daemon=True
            ).start()
        else:
            self.process_request_thread(request, client_address)

    def _shake(self, request: socket.socket, client_address: Any) -> None:
        try:
            wrapped = self._handshake(request)
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or type(error).__name__
            sentence = (
                f"The TLS handshake failed ({reason}); check certificates and that the peer speaks TLS."
            )
            self.hooks.turned_away(str(client_address[0]), "tls", sentence)
            request.close()
            return
        finally:
            with self._seats:
                self._shaking -= 1
        wrapped.settimeout(self.ae.dimse_timeout)
        self.process_request_thread(wrapped, client_address)

    def _handshake(self, request: socket.socket) -> ssl.SSLSocket:
        """Return the secured connection; raises OSError when the deadline passes or the peer can't."""
        assert self.ssl_context is not None
        end = time.monotonic() + (self.ae.acse_timeout or 30.0)
        request.setblocking(False)
        wrapped = self.ssl_context.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        while True:
            try:
                wrapped.do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as want:
                poller = select.poll()
                write = isinstance(want, ssl.SSLWantWriteError)
                poller.register(wrapped, select.POLLOUT if write else select.POLLIN)
                left = end - time.monotonic()
                if left <= 0 or not poller.poll(left * 1000):
                    wrapped.close()
                    msg = "timed out"
                    raise TimeoutError(msg) from None
                continue
            wrapped.setblocking(True)
            return wrapped

    def service_actions(self) -> None:
        """Collect no garbage on the accepting thread: Python's own collector finds the cycles."""
