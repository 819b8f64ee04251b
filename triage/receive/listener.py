"""The DICOM listener: C-STORE, C-ECHO, MPPS and IAN, with every refusal visible."""

from __future__ import annotations

import itertools
import logging
import socket
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import config as pydicom_config
from pydicom.dataset import Dataset
from pynetdicom import AE, _config, evt
from pynetdicom.events import Event
from pynetdicom.transport import AssociationServer

from triage.errors import ConfigurationError
from triage.receive import contexts, fastpath
from triage.receive.admission import Admission, PeerRule, RateLimit, Rejection
from triage.receive.completion import Completion
from triage.receive.intake import Intake, Sender
from triage.receive.notices import Notices
from triage.receive.parse import IMPLICIT_LE, Claim
from triage.receive.spool import SpoolFile
from triage.receive.text import clean
from triage.receive.verdict import Status, Verdict

log = logging.getLogger(__name__)

# pynetdicom's own handlers print what passes by, identifiers and all.
_config.LOG_HANDLER_LEVEL = "none"
_config.LOG_REQUEST_IDENTIFIERS = False
_config.LOG_RESPONSE_IDENTIFIERS = False
# pydicom's warnings quote the values that it finds odd; what matters of them is checked here.
pydicom_config.settings.reading_validation_mode = pydicom_config.IGNORE
# Its errors quote the bytes that it could not read, which may be a patient; ours say what matters.
for _name in ("dul", "utils", "association", "acse", "dimse", "service_class", "pdu", "transport"):
    logging.getLogger(f"pynetdicom.{_name}").setLevel(logging.CRITICAL)

#: What we announce; a sender uses what it can (dcmtk 128 KiB).
MAX_PDU = 1 << 20
#: Connections beyond the allowed associations that live long enough to be told why they are rejected.
_SPARE_SEATS = 32
_POLL = 0.1  # seconds until the accepting thread notices that it is to stop
_ENDING = 10.0  # seconds for an association to finish the object that it has all of
_NOBODYS = "1.2.840.10008.0"
_NOT_SUPPORTED = 0x0122  # SOP class not supported (PS3.7 C.5.6)
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
        except OSError as error:
            given = (self.certificate, self.key, self.client_authorities)
            missing = [str(path) for path in given if path is not None and not path.is_file()]
            why = f"{missing[0]} is no file" if missing else str(error)
            msg = f"The certificates of the DICOM listener can't be used: {why}."
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
    """Receives objects over DICOM associations and answers each as the intake says.

    It uses the fast path where this pynetdicom is known, else pynetdicom as it comes; both end in the same
    four steps: `begin`, the bytes, `finish`, or `abandon`.
    """

    def __init__(
        self,
        config: ListenerConfig,
        intake: Intake,
        completion: Completion | None = None,
        *,
        fast: bool | None = None,
    ) -> None:
        """Bind nothing yet; `fast` chooses the path by hand, for tests."""
        self._config = config
        self._intake = intake
        self._completion = completion
        self._notices = Notices(completion)
        self._fast = fastpath.available() if fast is None else fast
        self._admission = Admission(
            config.ae_title, config.check_called_ae, config.max_associations, config.peers
        )
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._open: dict[Any, _Admitted] = {}
        self._rates: dict[PeerRule, RateLimit] = {}
        self._ae = AE(config.ae_title)
        self._servers: list[AssociationServer] = []

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that the listener is bound to; before the start, what is configured."""
        return self.addresses[0] if self._servers else (self._config.host, self._config.port)

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
        tls = config.tls.context() if config.tls else None
        ae = self._ae
        # Each association is offered what it asks for (see `_offer`): nothing is copied for the others.
        ae.supported_contexts = [contexts.offer(contexts.VERIFICATION)]
        ae.maximum_pdu_size = MAX_PDU
        ae.maximum_associations = config.max_associations + _SPARE_SEATS  # ours decides, see `_requested`
        ae.acse_timeout, ae.dimse_timeout = config.acse_timeout, config.dimse_timeout
        ae.network_timeout = config.network_timeout
        if config.tls is None or config.tls.port:
            self._listen(config.port, None)
        if config.tls is not None:
            self._listen(config.tls.port or config.port, tls)

    def _listen(self, port: int, tls: ssl.SSLContext | None) -> None:
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, _no_delay),
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_C_ECHO, lambda _event: 0x0000),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_N_CREATE, self._notices.created),
            (evt.EVT_N_SET, self._notices.changed),
            (evt.EVT_RELEASED, lambda event: self._closed(event.assoc, released=True)),
            (evt.EVT_ABORTED, lambda event: self._closed(event.assoc, released=False)),
            (evt.EVT_CONN_CLOSE, lambda event: self._closed(event.assoc, released=False)),
        ]
        address = (self._config.host, port)
        try:
            if self._fast:
                server: AssociationServer = self._ae.make_server(
                    address,
                    ssl_context=tls,
                    evt_handlers=handlers,
                    server_class=fastpath.FastServer,
                    hooks=self,
                    max_connections=self._config.max_associations + _SPARE_SEATS,
                )
                self._ae._servers.append(server)  # type: ignore[arg-type]
                threading.Thread(
                    target=server.serve_forever, args=(_POLL,), name="listener", daemon=True
                ).start()
            else:
                made = self._ae.start_server(address, block=False, ssl_context=tls, evt_handlers=handlers)
                assert made is not None
                server = made
        except OSError as error:
            msg = (
                f"The DICOM listener can't use {self._config.host}:{port}: {error.strerror or error}; "
                "choose another listener.host or listener.port."
            )
            raise ConfigurationError(msg) from None
        self._servers.append(server)
        log.info(
            "DICOM listener is up",
            extra={"event": "listening", "host": self._config.host, "port": server.server_address[1]},
        )

    def stop(self) -> None:
        """Accept nothing more and end what is open; everything acknowledged stays received."""
        ending = []
        for server in self._servers:
            server.shutdown()
            ending += list(getattr(server, "live", ()))
        for assoc in ending:
            assoc.cut()
        for assoc in ending:
            assoc.join(_ENDING)
        self._ae.shutdown()
        self._servers.clear()

    # Associations

    def _requested(self, event: Event) -> None:
        """Decide about an association before it is negotiated."""
        assoc: Any = event.assoc
        request = assoc.requestor.primitive
        calling, called = clean(request.calling_ae_title, 16), clean(request.called_ae_title, 16)
        sender = Sender(calling, assoc.requestor.address, association=next(self._numbers))
        asked = request.presentation_context_definition_list
        with self._lock:
            decided = self._admission.decide(
                calling=calling,
                called=called,
                host=sender.host,
                tls=isinstance(assoc.dul.socket.socket, ssl.SSLSocket),
                only_echo=bool(asked) and all(one.abstract_syntax == contexts.VERIFICATION for one in asked),
                others=len(self._open),
                room=self._intake.spool.has_room(),
            )
            if isinstance(decided, PeerRule):
                self._open[assoc] = _Admitted(sender, decided)
        if isinstance(decided, Rejection):
            self._intake.refusals.note(sender, "association", decided.status, decided.sentence)
            assoc.acse.send_reject(decided.result, decided.source, decided.reason)
            assoc.kill()
            return
        if self._completion is not None:
            self._completion.opened(sender)
        self._offer(assoc, asked, sender)

    def _offer(self, assoc: Any, requested: list[Any], sender: Sender) -> None:
        """Offer exactly the classes that were asked for, as far as we keep them."""
        offers = {}
        for context in requested:
            if not context.transfer_syntax or context.abstract_syntax is None:
                # Nothing legible was proposed; pynetdicom would stumble, so let it be a class of nobody's.
                context.abstract_syntax = _NOBODYS
                context.transfer_syntax = [IMPLICIT_LE]
            name = str(context.abstract_syntax)
            if contexts.is_kept(name, unknown_too=self._fast):
                offers[name] = contexts.offer(name)
            else:
                sentence = f"A presentation context was refused: {clean(name, 64)} is nothing to store here."
                self._intake.refusals.note(sender, "association", "context", sentence)
        assoc.acceptor.supported_contexts = list(offers.values())

    def _closed(self, assoc: Any, *, released: bool) -> None:
        with self._lock:
            admitted = self._open.pop(assoc, None)
        if admitted is not None and self._completion is not None:
            self._completion.closed(admitted.sender, released=released)

    # Objects

    def begin(self, assoc: Any, claim: Claim) -> SpoolFile:
        """Return the file for an object that an association is about to send."""
        admitted = self._open.get(assoc)
        sender = admitted.sender if admitted else Sender("", "")
        limit = (admitted.rule.max_object_bytes if admitted else 0) or self._config.max_object_bytes
        if admitted and admitted.rule.max_rate:
            self._rate(admitted.rule).wait()
        if self._completion is not None:
            self._completion.busy(sender, busy=True)
        return self._intake.open(claim, sender, limit)

    def _rate(self, rule: PeerRule) -> RateLimit:
        with self._lock:
            return self._rates.setdefault(rule, RateLimit(rule.max_rate))

    def finish(self, assoc: Any, file: SpoolFile) -> Verdict:
        """Return the answer for an object that is all there; never raises."""
        admitted = self._open.get(assoc)
        sender = admitted.sender if admitted else Sender("", "")
        try:
            return self._intake.accept(file, sender)
        except Exception:  # the top of a request: the sender must get a status of ours, and keep its object
            log.exception("an object could not be taken", extra={"event": "store_failed"})
            file.discard()
            return Verdict(Status.LATER, "The object could not be taken just now; send again later.")
        finally:
            if self._completion is not None:
                self._completion.busy(sender, busy=False)

    def abandon(self, assoc: Any, file: SpoolFile) -> None:
        """Forget an object whose sender went away before its end."""
        file.discard()
        admitted = self._open.get(assoc)
        sender = admitted.sender if admitted else Sender("", "")
        sentence = (
            f"The association ended in the middle of an object after {file.received} bytes; it was not kept."
        )
        self._intake.refusals.note(sender, "c-store", "aborted", sentence)
        if self._completion is not None:
            self._completion.busy(sender, busy=False)

    def turned_away(self, host: str, status: str, sentence: str) -> None:
        """Note a connection that never became an association."""
        self._intake.refusals.note(Sender("", host), "association", status, sentence)

    def _store(self, event: Event) -> Dataset | int:
        """Answer a C-STORE whose data set pynetdicom gathered in memory: the ordinary path."""
        if event.context.abstract_syntax == contexts.VERIFICATION:
            return _NOT_SUPPORTED
        request: Any = event.request
        claim = Claim(
            str(request.AffectedSOPClassUID or ""),
            str(request.AffectedSOPInstanceUID or ""),
            str(event.context.transfer_syntax),
        )
        file = self.begin(event.assoc, claim)
        if request.DataSet is not None:
            file.write(request.DataSet.getbuffer())
        verdict = self.finish(event.assoc, file)
        answer = Dataset()
        answer.Status = int(verdict.status)
        if verdict.sentence:
            answer.ErrorComment = verdict.sentence[:_COMMENT]
        return answer


def _no_delay(event: Event) -> None:
    # The answer to a C-STORE is one small segment: it must not wait for an acknowledgement (RFC 896).
    wrapped = event.assoc.dul.socket
    if wrapped is not None and wrapped.socket is not None:
        wrapped.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
