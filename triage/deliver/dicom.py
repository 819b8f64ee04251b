"""The C-STORE sender: one kept association to a peer, and a deadline that holds for each object."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from errno import ENOENT
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NoReturn

from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.dsutils import encode, split_dataset

from triage.deliver.association import Association, Context, connect
from triage.errors import PeerUnreachable, TriageError

VERIFICATION = "1.2.840.10008.1.1"
CONNECT_SECONDS = 5.0
#: How long a peer may take for negotiation and for its answer, the transfer not counted.
PATIENCE_SECONDS = 45.0
RELEASE_SECONDS = 5.0
#: A kept association is released when it was not used for so long.
IDLE_SECONDS = 5.0
#: The slowest line that we still wait for; sets how long a large object may take.
SLOWEST_BYTES_PER_SECOND = 250_000
#: Context ids are the odd numbers of one byte (PS3.8 9.3.2.2).
MAX_CONTEXTS = 128
_NATIVE = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))


class ContextRefused(TriageError):
    """The peer takes no object of that SOP class in a transfer syntax that we can send."""

    code = "context-refused"


class Interrupted(PeerUnreachable):
    """An object was begun on an association that stood, but no answer to it came: it may be to blame."""


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
    #: The address of ours to call from; empty for whichever leads there.
    source: str = ""

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
    #: Where the data set begins, behind the meta information.
    offset: int

    @classmethod
    def read(cls, path: Path) -> StoredObject:
        """Return what a file's meta information says.

        Raises:
            NotSendable: the file is missing, or is no such file.
            OSError: it can't be read now.
        """
        try:
            meta, offset = split_dataset(path)
            return cls(
                path,
                str(meta.MediaStorageSOPClassUID),
                str(meta.MediaStorageSOPInstanceUID),
                str(meta.TransferSyntaxUID),
                path.stat().st_size,
                offset,
            )
        except FileNotFoundError as error:
            msg = f"The file can't be read ({error.strerror})."
            raise NotSendable(msg) from error
        except Exception as error:
            if is_passing(error):
                raise
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


class Sender:
    """Sends objects to one peer, in order, over an association that is kept for a burst.

    Threads take turns; an object never takes longer than the patience and its transfer time.
    """

    def __init__(
        self,
        peer: DicomDestination,
        *,
        idle_seconds: float = IDLE_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """Connect to nothing yet."""
        self.peer = peer
        self._idle = idle_seconds
        self._patience = patience_seconds
        self._association: Association | None = None
        self._proposed: list[Context] = []
        self._planned: list[Context] = []
        self._turn = threading.Condition()
        self._used_at = 0.0
        self._is_closed = False

    def plan(self, objects: Iterable[StoredObject]) -> None:
        """Propose what all of these need with the next association, instead of opening one for each class."""
        self._planned = list(dict.fromkeys(context for one in objects for context in one.contexts))

    def send(self, item: StoredObject) -> int:
        """Send one object and return the peer's status.

        Raises:
            PeerUnreachable: no connection, no association.
            Interrupted: the object was begun, and the peer ended the association or did not answer in time.
            ContextRefused: the peer takes no such object.
            NotSendable: the file is missing or broken.
            OSError: the file can't be read now.
        """
        seconds = self._patience + item.size / SLOWEST_BYTES_PER_SECOND

        def store(association: Association, deadline: float) -> int:
            usable = [context for context in item.contexts if context in association.accepted]
            if not usable:
                raise ContextRefused(_refusal(self.peer, item.contexts))
            with _content(item, usable[0][1]) as data:
                try:
                    return association.store(usable[0], item.sop_instance_uid, data, deadline)
                except PeerUnreachable as error:
                    raise Interrupted(str(error)) from error

        return self._use(item.contexts, store, seconds)

    def echo(self) -> int:
        """Ask the peer for a sign of life and return its status; raises `PeerUnreachable`."""
        contexts = [(VERIFICATION, native) for native in _NATIVE]

        def ask(association: Association, deadline: float) -> int:
            usable = [context for context in contexts if context in association.accepted]
            if not usable:
                raise ContextRefused(_refusal(self.peer, contexts))
            return association.echo(usable[0], deadline)

        return self._use(contexts, ask, self._patience)

    def release(self) -> None:
        """End the association after the send that is going on; the next send opens another."""
        with self._turn:
            self._end(time.monotonic() + RELEASE_SECONDS)

    def close(self, deadline: float) -> None:
        """Send nothing more; a send that is going on, or a peer that is silent, is cut off at `deadline`.

        `deadline` is of `time.monotonic`. A send that begins later raises `PeerUnreachable`.
        """
        if not self._turn.acquire(timeout=max(deadline - time.monotonic(), 0)):
            self._is_closed = True
            association = self._association
            if association is not None:
                association.cut()
            return
        try:
            self._is_closed = True
            self._end(deadline)
        finally:
            self._turn.release()

    def _end(self, deadline: float) -> None:
        """Release what is open, in the caller's turn."""
        if self._association is not None:
            self._association.release(deadline)
            self._association = None
        self._turn.notify_all()

    def _use(self, contexts: list[Context], work: Callable[[Association, float], int], seconds: float) -> int:
        with self._turn:
            deadline = time.monotonic() + seconds
            association, is_fresh = self._open(contexts, deadline)
            try:
                return work(association, deadline)
            except PeerUnreachable:
                # A kept association may have been closed by the peer meanwhile: that is no failure yet.
                if is_fresh or time.monotonic() >= deadline:
                    raise
                association, _ = self._open(contexts, deadline)
                return work(association, deadline)
            finally:
                self._used_at = time.monotonic()

    def _open(self, wanted: list[Context], deadline: float) -> tuple[Association, bool]:
        """Return an association on which all of `wanted` was proposed, and whether it is a new one."""
        kept = self._association
        if kept is not None and kept.is_alive():
            if set(wanted) <= set(self._proposed):
                return kept, False
            kept.release(time.monotonic() + RELEASE_SECONDS)
        self._association = None
        if self._is_closed:
            self._refuse_closed()
        self._proposed = list(dict.fromkeys([*wanted, *self._planned, *self._proposed]))[:MAX_CONTEXTS]
        peer = self.peer
        association = connect((peer.host, peer.port), peer.ae_title, CONNECT_SECONDS, peer.source)
        # Known before a word is said on it, so that whoever stops us can cut it.
        self._association = association
        if self._is_closed:
            association.close()
            self._refuse_closed()
        association.negotiate((self.peer.calling_ae, self.peer.ae_title), self._proposed, deadline)
        name = f"idle-{self.peer.ae_title}"
        threading.Thread(target=self._release_when_idle, args=(association,), name=name, daemon=True).start()
        return association, True

    def _refuse_closed(self) -> NoReturn:
        msg = f"{self.peer} is sent nothing more: the service was stopped."
        raise PeerUnreachable(msg)

    def _release_when_idle(self, association: Association) -> None:
        """Wait until the association was not used for a while, then release it; one thread for each."""
        with self._turn:
            while self._association is association:
                left = self._used_at + self._idle - time.monotonic()
                if left <= 0:
                    association.release(time.monotonic() + RELEASE_SECONDS)
                    self._association = None
                else:
                    self._turn.wait(left)


def is_passing(error: Exception) -> bool:
    """Return whether the system could not read a file now; what a file's own bytes cause has no `errno`."""
    return isinstance(error, OSError) and error.errno not in (None, ENOENT)


def _content(item: StoredObject, syntax: str) -> BinaryIO:
    """Return the data set as bytes in a transfer syntax: the file's own, or the other native one.

    Raises:
        NotSendable: the file is missing, or does not convert.
        OSError: it can't be read now.
    """
    try:
        if syntax == item.transfer_syntax_uid:
            file = item.path.open("rb")
            file.seek(item.offset)
            return file
        converted = encode(dcmread(item.path), syntax == _NATIVE[1], True)
    except Exception as error:
        if is_passing(error):
            raise
        msg = f"The file can't be read or converted ({type(error).__name__})."
        raise NotSendable(msg) from error
    if converted is None:
        msg = "The file can't be converted to a transfer syntax that the peer takes."
        raise NotSendable(msg)
    return BytesIO(converted)


def _refusal(peer: DicomDestination, contexts: list[Context]) -> str:
    classes = ", ".join(dict.fromkeys(sop_class for sop_class, _ in contexts))
    syntaxes = ", ".join(dict.fromkeys(syntax for _, syntax in contexts))
    return f"{peer} takes no object of SOP class {classes} in transfer syntax {syntaxes}."
