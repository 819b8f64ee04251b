"""Files of received objects: a DICOM file whose data set is, byte for byte, what was sent (PS3.10 7.1).

A file is written under a temporary name inside the spool's own file system and published under its final one,
so nobody ever sees a part of one. Its name is a hash: nothing that a sender says becomes a path.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import itertools
import logging
import os
import secrets
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from triage import IMPLEMENTATION_CLASS_UID, __version__
from triage.receive.parse import Claim
from triage.receive.verdict import Refused, Status

log = logging.getLogger(__name__)

_INCOMING = "incoming"
_SUFFIX = ".dcm"
_MEGABYTE = 1 << 20
_GLANCE = 0.05  # seconds for which a look at the free space holds
_HEADER = 1 << 14  # bytes; most headers are smaller
_SYNC_FILE_RANGE_WRITE = 2
_start_writing = ctypes.CDLL(None).sync_file_range
_start_writing.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


class Spool:
    """The folder of received files; refuses new ones while less than `low_water_bytes` are free."""

    def __init__(
        self, folder: Path, low_water_bytes: int = 0, max_object_bytes: int = 512 * _MEGABYTE
    ) -> None:
        """Make the folders, so that publishing a file later syncs one folder only."""
        self.folder = folder
        self.low_water_bytes = low_water_bytes
        self.max_object_bytes = max_object_bytes
        self._incoming = folder / _INCOMING
        self._incoming.mkdir(parents=True, exist_ok=True)
        for number in range(256):
            (folder / f"{number:02x}").mkdir(exist_ok=True)
        sync_folder(folder)
        self._free, self._free_until = 0, 0.0
        self._prefix, self._numbers = secrets.token_hex(8), itertools.count()
        self._folders: dict[str, int] = {}
        #: Files that are open, in whatever stage.
        self.being_written: set[SpoolFile] = set()
        # Held as long as this process lives: see `alone`.
        self._lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Give whether no other process writes into this spool, and keep it so meanwhile."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            # A failed upgrade may have dropped the shared lock.
            fcntl.flock(self._lock, fcntl.LOCK_SH)
            yield False
            return
        try:
            yield True
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_SH)

    def close(self) -> None:
        """Let another process have the spool to itself."""
        os.close(self._lock)
        for descriptor in self._folders.values():
            os.close(descriptor)
        self._folders.clear()

    def sync_names(self, relative: str) -> None:
        """Make the name of a published file durable."""
        name = relative[:2]
        descriptor = self._folders.get(name)
        if descriptor is None:
            opened = os.open(self.folder / name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            # Kept open: to open a folder for each object costs as much as to sync it.
            descriptor = self._folders.setdefault(name, opened)
            if descriptor != opened:
                os.close(opened)
        os.fsync(descriptor)

    def free_bytes(self) -> int:
        """Return how many bytes the file system had for us a moment ago: a full disk also says so itself."""
        now = time.monotonic()
        if now >= self._free_until:
            found = os.statvfs(self.folder)
            self._free, self._free_until = found.f_bavail * found.f_frsize, now + _GLANCE
        return self._free

    def has_room(self) -> bool:
        """Return whether new objects are taken."""
        return self.free_bytes() > self.low_water_bytes

    def open(self, claim: Claim, sender: str, max_bytes: int = 0) -> SpoolFile:
        """Return a new file to write a data set into; it never raises, but keeps why it can't be stored."""
        return SpoolFile(self, claim, sender, min(max_bytes or self.max_object_bytes, self.max_object_bytes))

    def path(self, relative: str) -> Path:
        """Return where a published file lies."""
        return self.folder / relative

    def published(self) -> Iterator[str]:
        """Yield the relative path of every published file."""
        for entry in sorted(self.folder.iterdir()):
            if entry.name != _INCOMING and entry.is_dir():
                for file in entry.glob("*" + _SUFFIX):
                    yield f"{entry.name}/{file.name}"

    def holds(self, relative: str) -> bool:
        """Return whether a published file is there."""
        return self.path(relative).is_file()

    def retire(self, relative: str) -> Path:
        """Take a published file its name, and return the one that it has until it is deleted."""
        leaving = self.new_temporary()
        with suppress(FileNotFoundError):
            self.path(relative).rename(leaving)
        return leaving

    def remove(self, relative: str) -> None:
        """Delete a published file; one that is gone already is no error."""
        self.path(relative).unlink(missing_ok=True)

    def sweep(self) -> int:
        """Delete every temporary file of an earlier run; returns how many there were."""
        found = 0
        for file in self._incoming.iterdir():
            file.unlink(missing_ok=True)
            found += 1
        return found

    def new_temporary(self) -> Path:
        """Return a name that no file has yet."""
        return self._incoming / f"{self._prefix}-{next(self._numbers)}"


def published_name(claim: Claim, digest: str) -> str:
    """Return the path below the spool of a data set with this digest: the name vouches for the bytes."""
    said = f"{claim.sop_instance_uid}\0{claim.transfer_syntax_uid}\0{digest}"
    name = hashlib.sha256(said.encode()).hexdigest()
    return f"{name[:2]}/{name}{_SUFFIX}"


class SpoolFile:
    """One object on its way to the disk: written in pieces, hashed while it passes, synced, published.

    `write` swallows what comes after the first failure, since the protocol must read on to its end before
    it may answer; `refusal` then says what to answer.
    """

    def __init__(self, spool: Spool, claim: Claim, sender: str, max_bytes: int) -> None:
        self._spool = spool
        self.claim = claim
        self.refusal: Refused | None = None
        self.size = 0
        #: Bytes that came, kept or not.
        self.received = 0
        #: The first bytes of the data set, so that its header need not be read back from the disk.
        self.begins = b""
        self._max_bytes = max_bytes
        self._hash = hashlib.sha256()
        self._temporary: Path | None = None
        self._head = b""
        self.descriptor = -1
        self.offset = 0
        try:
            self._begin(sender)
        except OSError as error:
            self._fail(error)

    def _begin(self, sender: str) -> None:
        if not self._spool.has_room():
            self.refusal = Refused(
                Status.LATER, "The disk is below its low-water mark; free some space, then send again."
            )
            return
        self._temporary = self._spool.new_temporary()
        self.descriptor = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        self._spool.being_written.add(self)
        # Written with the first piece: each call costs a turn of the interpreter's lock.
        self._head = file_meta(self.claim, sender)
        self.offset = len(self._head)

    def write(self, piece: memoryview) -> None:
        """Append bytes of the data set."""
        self.received += len(piece)
        if self.refusal is not None:
            return
        self.size += len(piece)
        if self.size > self._max_bytes:
            megabytes = self._max_bytes // _MEGABYTE
            self.refusal = Refused(
                Status.UNREADABLE, f"The object is larger than the {megabytes} MB allowed."
            )
            self._drop()
            return
        try:
            if self._head:
                self.begins = bytes(piece[:_HEADER])
                self._begin_with(piece)
            else:
                _write_all(self.descriptor, piece)
        except OSError as error:
            self._fail(error)
            return
        self._hash.update(piece)

    def _begin_with(self, piece: memoryview) -> None:
        head, self._head = self._head, b""
        done = os.writev(self.descriptor, (head, piece))
        if done < len(head):
            _write_all(self.descriptor, memoryview(head)[done:])
        _write_all(self.descriptor, piece[max(done - len(head), 0) :])

    def _fail(self, error: OSError) -> None:
        log.error("the spool can't be written", extra={"event": "spool_failed", "errno": error.errno})
        self.refusal = Refused(
            Status.LATER, f"The spool can't be written ({os.strerror(error.errno or 0)}); send again later."
        )
        self._drop()

    def hasten(self) -> None:
        """Let the disk begin with what is written, so that the sync waits less; promises nothing.

        Only for a file that has the disk to itself: among several the syncs already share their waiting.
        """
        if self.descriptor >= 0 and len(self._spool.being_written) == 1:
            _start_writing(self.descriptor, 0, 0, _SYNC_FILE_RANGE_WRITE)

    @property
    def digest(self) -> str:
        """SHA-256 of the data set as sent."""
        return self._hash.hexdigest()

    @property
    def relative(self) -> str:
        """The published path below the spool folder: a hash, never a sender's word."""
        return published_name(self.claim, self.digest)

    def publish(self) -> str:
        """Give the file its final name and return its path once both would outlive a power cut.

        Raises:
            Refused: the disk does not take it (0xA700); nothing is left behind.
        """
        if self.refusal is not None or self._temporary is None:
            self._drop()
            raise self.refusal or Refused(Status.LATER, "The object is gone already.")
        relative = self.relative
        target = self._spool.path(relative)
        try:
            # The name first, then the sync: one commit of the file system's journal serves both. A power cut
            # in between leaves a file whose name does not fit its bytes, which the next start removes.
            created = self._give_name(self._temporary, target)
            self._sync(relative, created=created)
        except OSError as error:
            self._fail(error)
            raise self.refusal or Refused(Status.LATER, "The spool can't be written.") from None
        self._close()
        return relative

    def _give_name(self, temporary: Path, target: Path) -> bool:
        """Return whether the file has its name now; else one with the same bytes had it, and is ours instead.

        Whoever sends the same object at the same time may have synced that one already: it must not give way
        to one that is not on the disk yet, so the name is given by a link, which replaces nothing.
        """
        created = True
        try:
            # Should the process die before the second name goes, the next start takes it away.
            os.link(temporary, target)
            temporary.unlink()
        except FileExistsError:
            created = not self._is_whole(target)
            if created:
                # Damaged on the disk. Another one may replace it at the same time, so ours is synced first.
                os.fsync(self.descriptor)
                temporary.rename(target)
            else:
                there = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
                ours, self.descriptor = self.descriptor, there
                os.close(ours)
                temporary.unlink()
        self._temporary = None
        return created

    def _sync(self, relative: str, *, created: bool) -> None:
        """Wait for the disk, on the thread that received the object: to wake another one costs more.

        Senders that come at once still share a commit of the file system's journal, each in its own call.
        """
        try:
            os.fsync(self.descriptor)
            self._spool.sync_names(relative)
        except OSError:
            # After a failed sync the kernel forgets what it could not write: the file is not to be trusted.
            if created:
                self._spool.remove(relative)
            raise

    def _is_whole(self, target: Path) -> bool:
        """Return whether a published file holds the very bytes that were received now."""
        with target.open("rb") as there:
            there.seek(self.offset)
            return hashlib.file_digest(there, "sha256").hexdigest() == self.digest

    def discard(self) -> None:
        """Forget the object: an abort in the middle, a duplicate or a refusal."""
        self._drop()

    def _drop(self) -> None:
        self._close()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
            self._temporary = None

    def _close(self) -> None:
        self._spool.being_written.discard(self)
        # Forgotten first: a number that is closed may be another thread's in the next moment.
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _write_all(descriptor: int, piece: memoryview) -> None:
    while piece:
        piece = piece[os.write(descriptor, piece) :]


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2) if vr in (b"UI", b"OB") else b" " * (len(value) % 2)
    if vr == b"OB":
        return struct.pack("<HH2sHL", 2, number, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", 2, number, vr, len(value)) + value


def file_meta(claim: Claim, sender: str) -> bytes:
    """Return preamble and File Meta Information of a file that we write (PS3.10 7.1)."""
    body = b"".join(
        (
            _element(1, b"OB", b"\0\1"),
            _element(2, b"UI", claim.sop_class_uid.encode("latin-1", "replace")[:64]),
            _element(3, b"UI", claim.sop_instance_uid.encode("latin-1", "replace")[:64]),
            _element(0x10, b"UI", claim.transfer_syntax_uid.encode("latin-1", "replace")[:64]),
            _element(0x12, b"UI", IMPLEMENTATION_CLASS_UID.encode()),
            _element(0x13, b"SH", f"TRIAGE_{__version__}".encode()[:16]),
            _element(0x16, b"AE", sender.encode("ascii", "replace")[:16]),
        )
    )
    return b"\0" * 128 + b"DICM" + struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(body)) + body
