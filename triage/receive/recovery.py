"""After any end, however sudden: spool and database are joined again before anything listens.

The spool is what a sender was promised, so it is believed. Whatever a power cut, a restored backup or a crash
took from the database is written down again from the files: the name of each proves that its bytes are whole.
"""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from datetime import UTC, datetime

from triage.receive.intake import Arrival, Intake, Sender
from triage.receive.parse import read_header
from triage.receive.part10 import read_meta
from triage.receive.spool import Spool, published_name, sync_folder
from triage.receive.verdict import Refused, Status
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
        strays = sorted(lying - known.keys())
        readmitted = sum(_readmit(intake, relative) for relative in strays)
    missing = tuple(sorted(known[relative] for relative in known.keys() - lying))
    if temporary or strays:
        orphans = len(strays) - readmitted
        log.warning(
            "spool and database were joined again",
            extra={
                "event": "spool_joined",
                "temporary": temporary,
                "readmitted": readmitted,
                "orphans": orphans,
            },
        )
    for instance_id in missing:
        log.error(
            "the file of a received object is gone; restore it from a backup or have it sent again",
            extra={"event": "file_missing", "instance_id": instance_id},
        )
    return Recovered(temporary, readmitted, len(strays) - readmitted, missing)


def _readmit(intake: Intake, relative: str) -> bool:
    """Write down an object that lies in the spool without a row, or remove what is none."""
    try:
        arrival = _arrival(intake.spool, relative)
    except Refused:
        intake.spool.remove(relative)
        return False
    # A database that does not take it now is asked again at the next start: the file stays.
    return intake.write_down(arrival).stored


def _arrival(spool: Spool, relative: str) -> Arrival:
    """Return the object in a file, made durable as it was when it came, or raise `Refused`."""
    path = spool.path(relative)
    with path.open("rb") as file:
        meta = read_meta(file.read(_META))
        if meta is None:
            raise Refused(Status.UNREADABLE, "The file ends before its data set begins.")
        file.seek(meta.offset)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if published_name(meta.claim, digest) != relative:
            raise Refused(Status.UNREADABLE, "The file is not whole.")
        header = read_header(file.fileno(), meta.offset, meta.claim)
        os.fsync(file.fileno())
        found = os.fstat(file.fileno())
    sync_folder(path.parent)
    came = datetime.fromtimestamp(found.st_mtime, UTC)
    sender = Sender(meta.source, "", "recovery")
    return Arrival(header, digest, found.st_size - meta.offset, relative, sender, came)
