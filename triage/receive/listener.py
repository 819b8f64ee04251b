"""The DICOM listener: C-STORE and C-ECHO, with every refusal visible."""

from __future__ import annotations

import itertools
import logging
import ssl
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, _config, evt
from pynetdicom.events import Event
from pynetdicom.transport import ThreadedAssociationServer

from triage.errors import ConfigurationError
from triage.receive import contexts
from triage.receive.admission import Admission, PeerRule, Rejection
from triage.receive.completion import Completion
from triage.receive.intake import Intake, Sender
from triage.receive.parse import Claim
from triage.receive.text import clean
from triage.receive.verdict import Status, Verdict

log = logging.getLogger(__name__)

# pynetdicom's own handlers print what passes by, identifiers and all.
_config.LOG_HANDLER_LEVEL = "none"
_config.LOG_REQUEST_IDENTIFIERS = False
_config.LOG_RESPONSE_IDENTIFIERS = False

#: What we announce; a sender uses what it can (dcmtk 128 KiB).
MAX_PDU = 1 << 20
_COMMENT = 64  # characters of Error Comment (0000,0902)


@dataclass(frozen=True)
class TlsFiles:
    """Certificates of a TLS port (PS3.15 B.9); with `client_authorities` a client must show one too."""

    certificate: Path
    key: Path
    client_authorities: Path | None = None
    #: Port of a second listener; 0 means that the one port speaks TLS only.
    port: int = 0

    def context(self) -> ssl.SSLContext:
        """Return the server side of TLS 1.2 or newer, or raise `ConfigurationError`."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            made.load_cert_chain(self.certificate, self.key)
            if self.client_authorities is not None:
                made.load_verify_locations(self.client_authorities)
                made.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ssl.SSLError) as error:
            msg = f"The certificates of the DICOM listener can't be used: {error}."
            raise ConfigurationError(msg) from None
        return made


@dataclass(frozen=True)
class ListenerConfig:
    """Where and how to listen; port 0 takes a free one."""

    ae_title: str = "TRIAGE"
    host: str = "127.0.0.1"
    port: int = 11112
    max_associations: int = 100
    max_object_bytes: int = 512 << 20
    check_called_ae: bool = False
    #: An association without any traffic for this long is aborted.
    network_timeout: float = 120.0
    #: A connection must ask for an association, and finish a TLS handshake, within this time.
    acse_timeout: float = 30.0
    #: An object that is being sent must go on within this time.
    dimse_timeout: float = 60.0
    tls: TlsFiles | None = None
    peers: tuple[PeerRule, ...] = ()


@dataclass(frozen=True)
class _Admitted:
    sender: Sender
    rule: PeerRule


class Listener:
    """Receives objects over DICOM associations and answers each as the intake says."""

    def __init__(self, config: ListenerConfig, intake: Intake, completion: Completion | None = None) -> None:
        """Bind nothing yet."""
        self._config = config
        self._intake = intake
        self._completion = completion
        self._admission = Admission(
            config.ae_title, config.check_called_ae, config.max_associations, config.peers
        )
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._open: dict[Any, _Admitted] = {}
        self._ae = AE(config.ae_title)
        self._servers: list[ThreadedAssociationServer] = []

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that the listener is bound to."""
        if not self._servers:
            return self._config.host, self._config.port
        host, port = self._servers[0].server_address[:2]
        return str(host), int(port)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Every host and port, the TLS one last."""
        return [(str(s.server_address[0]), int(s.server_address[1])) for s in self._servers]

    @property
    def open_associations(self) -> int:
        """How many associations are open."""
        return len(self._open)

    def start(self) -> None:
        """Bind and begin to accept.

        Raises:
            ConfigurationError: the port is in use, the address is not ours, or the certificates are unusable.
        """
        config = self._config
        ae = self._ae
        ae.supported_contexts = contexts.supported()
        ae.maximum_pdu_size = MAX_PDU
        ae.maximum_associations = config.max_associations + 50  # ours decides; theirs must never say it first
        ae.acse_timeout, ae.dimse_timeout = config.acse_timeout, config.dimse_timeout
        ae.network_timeout = config.network_timeout
        tls = config.tls.context() if config.tls else None
        if config.tls is None or config.tls.port:
            self._listen(config.port, None)
        if config.tls is not None:
            self._listen(config.tls.port or config.port, tls)

    def _listen(self, port: int, tls: ssl.SSLContext | None) -> None:
        handlers = [
            (evt.EVT_CONN_OPEN, self._connected),
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_C_ECHO, lambda _event: 0x0000),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_RELEASED, lambda event: self._closed(event, released=True)),
            (evt.EVT_ABORTED, lambda event: self._closed(event, released=False)),
            (evt.EVT_CONN_CLOSE, lambda event: self._closed(event, released=False)),
        ]
        try:
            server = self._ae.start_server(
                (self._config.host, port), block=False, ssl_context=tls, evt_handlers=handlers
            )
        except OSError as error:
            msg = (
                f"The DICOM listener can't use {self._config.host}:{port}: {error.strerror or error}; "
                "choose another listener.host or listener.port."
            )
            raise ConfigurationError(msg) from None
        assert server is not None
        self._servers.append(server)
        log.info(
            "DICOM listener is up",
            extra={"event": "listening", "host": self._config.host, "port": server.server_address[1]},
        )

    def stop(self) -> None:
        """Accept nothing more and end what is open; everything acknowledged stays received."""
        self._ae.shutdown()
        self._servers.clear()

    def _connected(self, event: Event) -> None:
        # The answer to a C-STORE is one small segment: it must not wait for an acknowledgement (RFC 896).
        sock = event.assoc.dul.socket.socket
        if sock is not None:
            sock.setsockopt(6, 1, 1)

    def _requested(self, event: Event) -> None:
        """Decide about an association before it is negotiated."""
        assoc = event.assoc
        request = assoc.requestor.primitive
        calling, called = clean(request.calling_ae_title, 16), clean(request.called_ae_title, 16)
        sender = Sender(calling, assoc.requestor.address, association=next(self._numbers))
        with self._lock:
            decided = self._admission.decide(
                calling=calling,
                called=called,
                host=sender.host,
                tls=isinstance(assoc.dul.socket.socket, ssl.SSLSocket),
                others=len(self._open),
                room=self._intake.spool.has_room(),
            )
            if isinstance(decided, PeerRule):
                self._open[assoc] = _Admitted(sender, decided)
        if isinstance(decided, Rejection):
            self._intake.refusals.note(sender, "association", decided.status, decided.sentence)
            assoc.acse.send_reject(decided.result, decided.source, decided.reason)
            return
        if self._completion is not None:
            self._completion.opened(sender)
        self._offer_unknown(assoc, request)

    @staticmethod
    def _offer_unknown(assoc: Any, request: Any) -> None:
        """Offer classes that nobody here knows, so that an auto-route does not fail for one odd object."""

    def _closed(self, event: Event, *, released: bool) -> None:
        with self._lock:
            admitted = self._open.pop(event.assoc, None)
        if admitted is not None and self._completion is not None:
            self._completion.closed(admitted.sender, released=released)

    def _store(self, event: Event) -> Dataset:
        """Answer a C-STORE whose data set pynetdicom gathered in memory."""
        request = event.request
        claim = Claim(
            str(request.AffectedSOPClassUID),
            str(request.AffectedSOPInstanceUID),
            str(event.context.transfer_syntax),
        )
        admitted = self._open.get(event.assoc)
        if admitted is None:
            return _response(Verdict(Status.LATER, "The association is closing."))
        limit = admitted.rule.max_object_bytes or self._config.max_object_bytes
        file = self._intake.open(claim, admitted.sender, limit)
        data = request.DataSet
        if data is not None:
            file.write(data.getbuffer())
        return _response(self._intake.accept(file, admitted.sender))


def _response(verdict: Verdict) -> Dataset:
    answer = Dataset()
    answer.Status = int(verdict.status)
    if verdict.sentence:
        answer.ErrorComment = verdict.sentence[:_COMMENT]
    return answer


def with_port(config: ListenerConfig, port: int) -> ListenerConfig:
    """Return the same listener on another port."""
    return replace(config, port=port)
