"""After any end, however sudden: spool and database are joined again before anything listens.

The spool is what a sender was promised, so it is believed. Whatever a power cut, a restored backup or a crash
took from the database is written down again from the files: the name of each proves that its bytes are whole.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from io import BufferedReader

from triage.receive.intake import Arrival, Intake, Sender
from triage.receive.parse import read_header
from triage.receive.part10 import FileMeta, read_meta
from triage.receive.spool import published_name, sync_folder
from triage.receive.verdict import Refused
from triage.store import instances
from triage.store.database import Database

log = logging.getLogger(__name__)

_META = 1 << 12  # bytes that hold the File Meta Information that we write


@dataclass(frozen=True)
class Recovered:
    """What was found at the start."""

    #: Parts of objects whose sender never got an answer.
    temporary: int = 0
    #: Whole objects that no row named, and that have their rows again.
    readmitted: int = 0
    #: Files that no row named and that are not what their name says: their sender never got an answer.
    orphans: int = 0
    #: Whole files that no row names and that can't be read; they stay.
    unreadable: tuple[str, ...] = ()
    #: Instances whose file is gone; each was acknowledged, so somebody must look.
    missing: tuple[int, ...] = ()


def recover(db: Database, intake: Intake) -> Recovered:
    """Write down what no row names, remove what was never whole, and name what was and is gone.

    Nothing is touched while another process writes into the same spool.
    """
    spool = intake.spool
    with spool.alone() as alone:
        if not alone:
            log.warning(
                "another process uses the spool; it is not tidied up", extra={"event": "spool_shared"}
            )
            return Recovered()
        with db.read() as session:
            known = instances.paths(session)
        temporary = spool.sweep()
        lying = set(spool.published())
        strays = lying - known.keys()
        joined = _readmit(intake, strays)
    missing = tuple(sorted(known[relative] for relative in known.keys() - lying))
    if temporary or strays:
        log.warning(
            "spool and database were joined again",
            extra={
                "event": "spool_joined",
                "temporary": temporary,
                "readmitted": joined.readmitted,
                "orphans": joined.orphans,
            },
        )
    for instance_id in missing:
        log.error(
            "the file of a received object is gone; restore it from a backup or have it sent again",
            extra={"event": "file_missing", "instance_id": instance_id},
        )
    return replace(joined, temporary=temporary, missing=missing)


def _readmit(intake: Intake, strays: Collection[str]) -> Recovered:
    """Write down objects that lie in the spool without a row, in the order in which they came.

    A file that is not whole is removed. One that is whole but can't be read any more stays: somebody may have
    been told that it is kept.
    """
    spool, readmitted, orphans, unreadable = intake.spool, 0, 0, []
    for relative in sorted(strays, key=lambda stray: (spool.path(stray).stat().st_mtime_ns, stray)):
        with spool.path(relative).open("rb") as file:
            proven = _proven(file, relative)
            if proven is None:
                spool.remove(relative)
                orphans += 1
                continue
            try:
                arrival = _arrival(file, relative, *proven)
            except Refused as refused:
                unreadable.append(relative)
                said = {"event": "file_unreadable", "path": relative, "sentence": str(refused)}
                log.error("a whole file without a row can't be read; it is kept and not shown", extra=said)
                continue
        sync_folder(spool.path(relative).parent)
        # A database that does not take it now is asked again at the next start: the file stays.
        readmitted += intake.write_down(arrival).stored
    return Recovered(readmitted=readmitted, orphans=orphans, unreadable=tuple(unreadable))


def _proven(file: BufferedReader, relative: str) -> tuple[FileMeta, str] | None:
    """Return what a file says of itself and its digest, or None where its name does not vouch for both."""
    try:
        meta = read_meta(file.read(_META))
    except Refused:
        return None
    if meta is None:
        return None
    file.seek(meta.offset)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    return (meta, digest) if published_name(meta.claim, digest) == relative else None


def _arrival(file: BufferedReader, relative: str, meta: FileMeta, digest: str) -> Arrival:
    """Return the object in a file, made durable as it was when it came, or raise `Refused`."""
    header = read_header(file.fileno(), meta.offset, meta.claim)
    os.fsync(file.fileno())
    found = os.fstat(file.fileno())
    came = datetime.fromtimestamp(found.st_mtime, UTC)
    sender = Sender(meta.source, "", "recovery")
    return Arrival(header, digest, found.st_size - meta.offset, relative, sender, came)
