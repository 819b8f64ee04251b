"""Accepting connections and serving associations; nothing polls, nothing blocks the accepting thread."""

from __future__ import annotations

import copy
import logging
import select
import socket
import ssl
import threading
import time
from typing import Any

from pynetdicom import evt
from pynetdicom._globals import MODE_ACCEPTOR, MODE_REQUESTOR
from pynetdicom.acse import ACSE
from pynetdicom.association import Association, ServiceUser
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.pdu import A_ASSOCIATE_AC
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.transport import (
    AddressInformation,
    AssociationSocket,
    RequestHandler,
    ThreadedAssociationServer,
)

from triage.receive.fastpath.crew import Crew
from triage.receive.fastpath.parts import Hooks, Line, Memory, Negotiated, failed
from triage.receive.fastpath.upper import FastDul

log = logging.getLogger(__name__)


#: An association of ours has no second thread to wait for.
_SET = threading.Event()
_SET.set()


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
    """An acceptor with one thread, which sleeps while nothing happens.

    pynetdicom has two, and wakes one by the other four times for each association.
    """

    dul: FastDul

    def __init__(self, server: FastServer) -> None:
        # Not pynetdicom's own: it makes an upper layer that we replace, and threads and locks with it.
        self._over = threading.Lock()
        self._over.acquire()
        self._seat = server
        self._server, self._ae, self.mode = server, server.ae, MODE_ACCEPTOR
        self.requestor, self.acceptor = ServiceUser(self, MODE_REQUESTOR), ServiceUser(self, MODE_ACCEPTOR)
        self.is_established = self.is_rejected = self.is_aborted = self.is_released = False
        self._sent_abort = self._sent_release = self._kill = self._is_paused = False
        self._accepted_cx, self._rejected_cx = {}, []
        self._reactor_checkpoint = _SET
        self._handlers = dict(server.bound)
        self._asked = self._settled = False
        self._request = b""
        self.acse, self.dul, self.dimse = ACSE(self), FastDul(self, server.hooks), DIMSEServiceProvider(self)
        self.dimse.msg_queue = Line()  # type: ignore[assignment]
        self.acse_timeout, self.dimse_timeout = server.ae.acse_timeout, server.ae.dimse_timeout
        self.network_timeout, self.network_timeout_response = server.ae.network_timeout, "A-ABORT"
        acceptor, ae = self.acceptor, server.ae
        acceptor.maximum_length = ae.maximum_pdu_size
        acceptor.ae_title = server.ae_title
        acceptor.address_info = server.local
        acceptor.implementation_version_name = ae.implementation_version_name
        # Contexts are shared: nothing in the negotiation writes to the acceptor's own.
        acceptor.supported_contexts = list(server.contexts)

    def start(self) -> None:
        """Serve the association on a thread of the server's."""
        self._seat.crew.give(self.run_reactor)

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end of the association."""
        if self._over.acquire(timeout=-1 if timeout is None else timeout):
            self._over.release()

    def kill(self) -> None:
        """End soon: as soon as what is to be sent is sent, and the connection is closed."""
        self._kill = True
        self.is_established = False
        self._is_paused = True
        self.dul.wake()

    def abort(self, block: bool = True) -> None:
        """Send an A-ABORT, and end; never blocks."""
        super().abort(block=False)
        self.kill()

    def run_reactor(self) -> None:
        """Serve until the end, then give the seat back."""
        self.dul.begin()
        try:
            while not self.dul.over and self.dul.turn():
                if self.dul.news:
                    self._look()
                elif not self._settled and self.is_established:
                    # The peer has its answer and prepares its first object.
                    self._settled = True
                    self._remember()
                    self._seat.make_next()
        except Exception as error:  # noqa: BLE001 - the top of the thread: a request that breaks negotiation
            failed(error)
            self.dul.give_up()
        finally:
            self.dul.end()
            if self._asked and not self.is_released:
                # Once more does no harm; whoever counts associations must hear of every end.
                evt.trigger(self, evt.EVT_ABORTED, {})
            self._hang_up()
            self._seat.left(self)
            self._over.release()

    def _hang_up(self) -> None:
        wrapped = self.dul.socket
        if wrapped is not None and wrapped.socket is not None:
            self._seat.shutdown_request(wrapped.socket)

    def _look(self) -> None:
        """Do what the service user has to, as pynetdicom's own loop does."""
        if not self._asked:
            self._negotiate()
            return
        while not self._kill:
            context_id, message = self.dimse.get_msg(block=False)
            if message is None or context_id is None:
                break
            self._serve_request(message, context_id)
        if not self._kill and self._ended():
            self.kill()

    def _negotiate(self) -> None:
        request = self.dul.receive_pdu(wait=False)
        if not isinstance(request, A_ASSOCIATE):
            return
        self._asked = True
        self.requestor.primitive = request
        evt.trigger(self, evt.EVT_REQUESTED, {})
        if not self.is_aborted and not self.is_rejected:
            self.acse.negotiate_association()

    def asked(self, request: bytes) -> bool:
        """Answer an A-ASSOCIATE-RQ that was answered before; returns False where it is a new one.

        Whether this peer is let in is asked all the same. What an answer costs is the agreement on contexts:
        senders that open an association for each object ask for the same ones each time.
        """
        known = self._seat.memory.recall(request)
        if known is None:
            self._request = request
            return False
        self.dul.artim_timer.stop()
        self.dul.state_machine.transition("Sta3")
        self._asked = True
        self.requestor.primitive = known.request
        evt.trigger(self, evt.EVT_REQUESTED, {})
        if not self.is_aborted and not self.is_rejected and self.dul.socket is not None:
            self.requestor.ae_title = known.request.calling_ae_title
            self._accepted_cx, self._rejected_cx = known.accepted, known.rejected
            self.dul.socket.send(known.answer)
            self.dul.state_machine.transition("Sta6")
            self.is_established = True
        return True

    def _remember(self) -> None:
        request, answer = self.requestor.primitive, self.acceptor.primitive
        if self._request and request is not None and answer is not None:
            sent = A_ASSOCIATE_AC(answer).encode()
            agreed = Negotiated(request, self._accepted_cx, self._rejected_cx, sent)
            self._seat.memory.keep(self._request, agreed)
        self._request = b""

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


def _wait(sock: socket.socket, event: int, end: float) -> None:
    """Return when a socket is ready; closes it and raises TimeoutError at `end`."""
    poller = select.poll()
    poller.register(sock, event)
    left = end - time.monotonic()
    if left <= 0 or not poller.poll(left * 1000):
        sock.close()
        msg = "timed out"
        raise TimeoutError(msg) from None


class _Handler(RequestHandler):
    """Makes the association of one connection, without a copy of every context that we support."""

    server: FastServer

    @property
    def remote(self) -> AddressInformation:
        """The peer's address; it is a number already, and needs no look-up."""
        info = copy.copy(self.server.local)
        info._addr, info.port = str(self.client_address[0]), int(self.client_address[1])
        return info

    def _create_association(self) -> FastAssociation:
        assoc = self.server.next_association()
        assoc.set_socket(_Socket(assoc, client_socket=self.request))
        assoc.requestor.address_info = self.remote
        self.server.seated(assoc)
        return assoc


class FastServer(ThreadedAssociationServer):
    """Accepts connections; a TLS handshake is done on a thread of its own, with a deadline."""

    request_queue_size = 128

    def __init__(
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
        self._next: FastAssociation | None = None
        self.memory = Memory()
        self.crew = Crew()
        super().__init__(ae, address, ae_title, contexts, ssl_context, evt_handlers, _Handler)
        self.local = AddressInformation.from_tuple(self.server_address)
        template = Association(ae, MODE_ACCEPTOR)
        for event, bound in self._handlers.items():
            if event.is_intervention:
                template.bind(event, *bound)
            else:
                for handler, arguments in bound:  # type: ignore[misc]
                    template.bind(event, handler, arguments)
        #: The handlers of every association.
        self.bound = template._handlers

    def next_association(self) -> FastAssociation:
        """Return an association for a connection that has just come."""
        with self._seats:
            made, self._next = self._next, None
        return made or FastAssociation(self)

    def make_next(self) -> None:
        """Make the association of the next connection now, while no peer waits for it."""
        if self._next is not None:
            return
        made = FastAssociation(self)
        with self._seats:
            spare, self._next = self._next, made
        if spare is not None:
            spare.dul.end()

    def server_close(self) -> None:
        """Close the port, and what was made for a connection that never came."""
        super().server_close()
        self.crew.close()
        with self._seats:
            spare, self._next = self._next, None
        if spare is not None:
            spare.dul.end()

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
        if wrapped is None:
            request.close()
            return
        wrapped.settimeout(self.ae.dimse_timeout)
        self.process_request_thread(wrapped, client_address)

    def _handshake(self, request: socket.socket) -> ssl.SSLSocket | None:
        """Return the secured connection; raises OSError when the deadline passes or the peer can't.

        None is for a peer that left without a word: like `/readyz`, it only looked whether the port is open.
        """
        assert self.ssl_context is not None
        end = time.monotonic() + (self.ae.acse_timeout or 30.0)
        request.setblocking(False)
        _wait(request, select.POLLIN, end)
        if not request.recv(1, socket.MSG_PEEK):
            return None
        wrapped = self.ssl_context.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        while True:
            try:
                wrapped.do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as want:
                write = isinstance(want, ssl.SSLWantWriteError)
                _wait(wrapped, select.POLLOUT if write else select.POLLIN, end)
                continue
            wrapped.setblocking(True)
            return wrapped

    def service_actions(self) -> None:
        """Collect no garbage on the accepting thread: Python's own collector finds the cycles."""
