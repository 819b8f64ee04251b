"""DICOM files (PS3.10) on their way in, from the web or a folder: read in pieces, constant memory."""

from __future__ import annotations

import struct
from typing import NamedTuple

from triage.receive.contexts import TRANSFER_SYNTAXES
from triage.receive.intake import Intake, Sender
from triage.receive.parse import Claim
from triage.receive.spool import SpoolFile
from triage.receive.text import clean
from triage.receive.verdict import Refused, Status, Verdict

_PREAMBLE = 132
#: File Meta Information longer than this is none.
_MAX_META = 1 << 16
_LONG = frozenset({b"OB", b"OW", b"UN", b"UT", b"UC", b"UR", b"SQ"})
_CLASS, _INSTANCE, _SYNTAX, _SOURCE = 0x0002, 0x0003, 0x0010, 0x0016


class FileMeta(NamedTuple):
    """What a file says of itself before its data set."""

    claim: Claim
    #: Where the data set begins.
    offset: int
    #: Source Application Entity Title.
    source: str


def read_meta(raw: bytes) -> FileMeta | None:
    """Return what a file says of itself, or None when more bytes are needed.

    Raises:
        Refused: it is no DICOM file, or one without a transfer syntax that we can read (0xC000).
    """
    if len(raw) < _PREAMBLE + 8:
        return None
    if raw[128:132] != b"DICM":
        raise Refused(Status.UNREADABLE, "This is no DICOM file: it has no 'DICM' after its preamble.")
    found: dict[int, str] = {}
    at = _PREAMBLE
    while at + 8 <= len(raw):
        group, element, vr, length = struct.unpack_from("<HH2sH", raw, at)
        if group != 2:
            return FileMeta(_claim(found), at, clean(found.get(_SOURCE, ""), 16))
        head = 8
        if vr in _LONG:
            if at + 12 > len(raw):
                break
            length, head = struct.unpack_from("<L", raw, at + 8)[0], 12
        if length > _MAX_META:
            raise Refused(Status.UNREADABLE, "The File Meta Information of the file is damaged.")
        found[element] = raw[at + head : at + head + length].decode("latin-1").rstrip("\0 ")
        at += head + length
    if len(raw) > _MAX_META:
        raise Refused(Status.UNREADABLE, "The File Meta Information of the file has no end.")
    return None


def _claim(found: dict[int, str]) -> Claim:
    syntax = found.get(_SYNTAX, "")
    if syntax not in TRANSFER_SYNTAXES:
        raise Refused(
            Status.UNREADABLE, "The file's transfer syntax is missing or none that can be read here."
        )
    return Claim(found.get(_CLASS, ""), found.get(_INSTANCE, ""), syntax)


class FileIntake:
    """One DICOM file on its way into the intake: `feed` its bytes, then `finish` for the answer."""

    def __init__(self, intake: Intake, sender: Sender) -> None:
        """Open nothing before the file has said what it is."""
        self._intake = intake
        self._sender = sender
        self._head = b""
        self._file: SpoolFile | None = None
        self._refused: Refused | None = None
        #: What the file says of itself; None as long as that is unknown.
        self.claim: Claim | None = None

    def feed(self, piece: bytes) -> None:
        """Take the next bytes; after a refusal they are passed over."""
        if self._refused is not None:
            return
        if self._file is not None:
            self._file.write(memoryview(piece))
            return
        self._head += piece
        try:
            known = read_meta(self._head)
        except Refused as refused:
            self._refused, self._head = refused, b""
            return
        if known is None:
            return
        self.claim = known.claim
        self._file = self._intake.open(self.claim, self._sender)
        self._file.write(memoryview(self._head)[known.offset :])
        self._head = b""

    def finish(self) -> Verdict:
        """Return the answer for the whole file."""
        if self._file is not None:
            return self._intake.accept(self._file, self._sender)
        refused = self._refused or Refused(Status.UNREADABLE, "The file ends before its data set begins.")
        return self._intake.refuse(refused.verdict, self._sender)

    def discard(self) -> None:
        """Forget a file that will not be finished."""
        if self._file is not None:
            self._file.discard()
