"""C-STORE SCU: one kept association to a peer, without Nagle's stalls, and with a deadline that holds.

pynetdicom as it comes needs 95 ms for a small object: two stalls of 40 ms between Nagle's algorithm here
and the peer's delayed acknowledgement. Two socket options take them away. A peer that freezes in the middle
of a message can block pynetdicom for ever (pynetdicom 1004), so each object is sent by a thread that can be
abandoned.
"""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.presentation import build_context

from triage.errors import PeerUnreachable, TriageError

# A path is sent as the bytes that the file holds, never decoded and encoded again.
_config.STORE_SEND_CHUNKED_DATASET = True

VERIFICATION = "1.2.840.10008.1.1"
CONNECT_SECONDS = 5.0
NEGOTIATE_SECONDS = 10.0
ANSWER_SECONDS = 30.0
#: A kept association costs two polling threads, so it is released soon after a burst.
IDLE_SECONDS = 5.0
#: The slowest line that we still wait for; sets how long a large object may take.
SLOWEST_BYTES_PER_SECOND = 250_000
MAX_CONTEXTS = 128
_ATTENTIVE_SECONDS = 0.0001
_NATIVE = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))

Context = tuple[str, str]


class ContextRefused(TriageError):
    """The peer takes no object of that SOP class in a transfer syntax that we can send."""

    code = "context-refused"


class NotSendable(TriageError):
    """A file that can't be sent: it is missing, or is not a DICOM file with meta information."""

    code = "not-sendable"


@dataclass(frozen=True)
class DicomDestination:
    """Where to send, under which name people know it, and by which AE title we call."""

    name: str
    ae_title: str
    host: str
    port: int
    calling_ae: str

    def __str__(self) -> str:
        return f"{self.ae_title}@{self.host}:{self.port}"


@dataclass(frozen=True)
class StoredObject:
    """A DICOM file that is to be sent as it is."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    size: int

    @classmethod
    def read(cls, path: Path) -> StoredObject:
        """Return what a file's meta information says; raises `NotSendable`."""
        try:
            meta = read_file_meta_info(path)
            return cls(
                path,
                str(meta.MediaStorageSOPClassUID),
                str(meta.MediaStorageSOPInstanceUID),
                str(meta.TransferSyntaxUID),
                path.stat().st_size,
            )
        except OSError as error:
            msg = f"The file can't be read ({error.strerror})."
            raise NotSendable(msg) from error
        except Exception as error:
            msg = "The file is not a DICOM file with meta information (PS3.10 7.1)."
            raise NotSendable(msg) from error

    @property
    def contexts(self) -> list[Context]:
        """What has to be proposed: the stored syntax, and for a native one the other native one."""
        stored = [(self.sop_class_uid, self.transfer_syntax_uid)]
        if self.transfer_syntax_uid in _NATIVE:
            stored += [
                (self.sop_class_uid, native) for native in _NATIVE if native != self.transfer_syntax_uid
            ]
        return stored


class _Line:
    """One association and what was proposed on it; used by one thread at a time."""

    def __init__(self, peer: DicomDestination, idle: float) -> None:
        self.association: Association | None = None
        self.socket: socket.socket | None = None
        self.cut_off = False
        self._peer = peer
        self._proposed: list[Context] = []
        self._ae = AE(peer.calling_ae)
        self._ae.connection_timeout = CONNECT_SECONDS
        self._ae.acse_timeout = NEGOTIATE_SECONDS
        self._ae.dimse_timeout = ANSWER_SECONDS
        self._ae.network_timeout = idle

    @property
    def is_open(self) -> bool:
        return self.association is not None and self.association.is_established

    def open(self, wanted: Iterable[Context], welcome: Iterable[Context] = ()) -> Association:
        """Return an association on which all of `wanted` was proposed, and as much of `welcome` as fits.

        Raises:
            PeerUnreachable: there is none, for the reason that the sentence says.
            ContextRefused: the peer accepted nothing of what was proposed.
        """
        wanted = list(wanted)
        if self.is_open and self.association is not None and set(wanted) <= set(self._proposed):
            return self.association
        self.release()
        self._proposed = list(dict.fromkeys([*wanted, *welcome, *self._proposed]))[:MAX_CONTEXTS]
        self.socket = None
        association = self._ae.associate(
            self._peer.host,
            self._peer.port,
            contexts=[build_context(sop_class, syntax) for sop_class, syntax in self._proposed],
            ae_title=self._peer.ae_title,
            evt_handlers=[(evt.EVT_CONN_OPEN, self._connected), (evt.EVT_DATA_SENT, self._sent)],
        )
        if association.rejected_contexts and not association.accepted_contexts:
            raise ContextRefused(_refusal(self._peer, self._proposed))
        if not association.is_established:
            raise PeerUnreachable(_why(association, self._peer, connected=self.socket is not None))
        association.network_timeout_response = "A-RELEASE"
        self.association = association
        return association

    def _connected(self, event: evt.Event) -> None:
        transport = event.assoc.dul.socket
        self.socket = transport.socket if transport is not None else None
        if self.socket is None or self.cut_off:
            return
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            limit = int(ANSWER_SECONDS * 1000)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit)

    def _sent(self, _event: evt.Event) -> None:
        # It does not stick: the kernel forgets it after the next acknowledgement (tcp(7)).
        if self.socket is not None and hasattr(socket, "TCP_QUICKACK"):
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def release(self) -> None:
        """Release the association politely, if there is one."""
        association, self.association = self.association, None
        if association is not None and association.is_established:
            association.release()

    def cut(self) -> None:
        """Close the connection under whoever hangs on it."""
        self.cut_off = True
        if self.socket is not None:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)


class Sender:
    """Sends objects to one peer, in order, over an association that is kept for a burst.

    Not for several threads at once: whoever shares it holds a lock.
    """

    def __init__(
        self,
        peer: DicomDestination,
        *,
        idle_seconds: float = IDLE_SECONDS,
        patience_seconds: float = CONNECT_SECONDS + NEGOTIATE_SECONDS + ANSWER_SECONDS,
    ) -> None:
        """Connect to nothing yet; no object takes longer than `patience_seconds` plus its transfer time."""
        self.peer = peer
        self._idle = idle_seconds
        self._patience = patience_seconds
        self._line = self._new_line()
        self._planned: list[Context] = []

    def _new_line(self) -> _Line:
        return _Line(self.peer, self._idle)

    def plan(self, objects: Iterable[StoredObject]) -> None:
        """Propose what all of these need with the next association, instead of opening one for each class."""
        self._planned = list(dict.fromkeys(context for one in objects for context in one.contexts))

    def send(self, item: StoredObject) -> int:
        """Send one object and return the peer's status.

        Raises:
            PeerUnreachable: no connection, no association or no answer in time.
            ContextRefused: the peer takes no such object.
            NotSendable: the file is missing or broken.
        """
        seconds = self._patience + item.size / SLOWEST_BYTES_PER_SECOND
        return int(self._within(seconds, lambda line: self._store(line, item)))

    def echo(self) -> int:
        """Ask the peer for a sign of life and return its status; raises `PeerUnreachable`."""

        def ask(line: _Line) -> int:
            return self._status(line.open([(VERIFICATION, native) for native in _NATIVE]).send_c_echo())

        return int(self._within(self._patience, ask))

    def close(self) -> None:
        """Release the association; gives up on a peer that does not answer."""
        with suppress(PeerUnreachable):
            self._within(NEGOTIATE_SECONDS, lambda line: line.release())

    def _store(self, line: _Line, item: StoredObject) -> int:
        was_open = line.is_open
        try:
            return self._store_once(line, item)
        except PeerUnreachable:
            # A kept association may have been closed by the peer meanwhile: that is no failure yet.
            if not was_open or line.cut_off:
                raise
            return self._store_once(line, item)

    def _store_once(self, line: _Line, item: StoredObject) -> int:
        association = line.open(item.contexts, self._planned)
        accepted = {
            (str(one.abstract_syntax), str(one.transfer_syntax[0])) for one in association.accepted_contexts
        }
        usable = [one for one in item.contexts if one in accepted]
        if not usable:
            raise ContextRefused(_refusal(self.peer, item.contexts))
        stored = usable[0][1] == item.transfer_syntax_uid
        try:
            content: Any = item.path if stored else dcmread(item.path)
            with _attentive(association):
                return self._status(association.send_c_store(content))
        except RuntimeError as error:  # released or aborted by the peer since the look above
            msg = f"{self.peer} closed the association."
            raise PeerUnreachable(msg) from error
        except (OSError, ValueError, AttributeError, EOFError) as error:
            msg = f"The file can't be read or encoded ({type(error).__name__})."
            raise NotSendable(msg) from error

    def _status(self, answer: Any) -> int:
        if "Status" not in answer:
            msg = f"{self.peer} did not answer and the association is gone."
            raise PeerUnreachable(msg)
        return int(answer.Status)

    def _within(self, seconds: float, work: Callable[[_Line], Any]) -> Any:
        """Return what `work` gives, or abandon it: its connection is cut, its thread left to die."""
        line, answers = self._line, queue.SimpleQueue[tuple[bool, Any]]()

        def run() -> None:
            try:
                answers.put((True, work(line)))
            except BaseException as error:  # noqa: BLE001 - carried to the caller's thread
                answers.put((False, error))

        threading.Thread(target=run, name=f"send-{self.peer.ae_title}", daemon=True).start()
        try:
            good, value = answers.get(timeout=seconds)
        except queue.Empty:
            line.cut()
            self._line = self._new_line()
            msg = f"{self.peer} did not answer within {seconds:.0f} s; the connection was cut."
            raise PeerUnreachable(msg) from None
        if good:
            return value
        if isinstance(value, PeerUnreachable):
            self._line = self._new_line()
        raise value


@contextmanager
def _attentive(association: Association) -> Iterator[None]:
    """Let pynetdicom's protocol thread look for events ten times as often while an object is under way.

    It looks every millisecond, message by message; that is most of what a small object costs. An attribute
    that another version may not have, and then nothing changes but the time.
    """
    usual = getattr(association.dul, "_run_loop_delay", None)
    if usual is None:
        yield
        return
    association.dul._run_loop_delay = _ATTENTIVE_SECONDS
    try:
        yield
    finally:
        association.dul._run_loop_delay = usual


def _refusal(peer: DicomDestination, contexts: list[Context]) -> str:
    classes = ", ".join(dict.fromkeys(sop_class for sop_class, _ in contexts))
    syntaxes = ", ".join(dict.fromkeys(syntax for _, syntax in contexts))
    return f"{peer} takes no object of SOP class {classes} in transfer syntax {syntaxes}."


def _why(association: Association, peer: DicomDestination, *, connected: bool) -> str:
    """Return in one sentence why there is no association."""
    answer = association.acceptor.primitive
    if association.is_rejected and answer is not None:
        reason = answer.reason_str if answer.result is not None else "no reason given"
        return f"{peer} rejected the association ({answer.result_str}: {reason})."
    if connected:
        return f"{peer} accepted the connection but no association came about."
    return f"{peer} can't be reached: nobody accepts a connection there."
