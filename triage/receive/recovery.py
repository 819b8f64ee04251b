"""After any end, however sudden: spool and database are joined again before anything listens."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from triage.receive.spool import Spool
from triage.store import instances
from triage.store.database import Database

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recovered:
    """What was found at the start."""

    #: Parts of objects whose sender never got an answer.
    temporary: int = 0
    #: Whole objects without a row: not acknowledged, so their sender still has them.
    orphans: int = 0
    #: Instances whose file is gone; each was acknowledged, so somebody must look.
    missing: tuple[int, ...] = ()


def recover(db: Database, spool: Spool) -> Recovered:
    """Remove what was never acknowledged, and name what was and is gone.

    Nothing is touched while another process writes into the same spool.
    """
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
        orphans = lying - known.keys()
        for relative in orphans:
            spool.remove(relative)
    missing = tuple(sorted(known[relative] for relative in known.keys() - lying))
    if temporary or orphans:
        log.info(
            "unfinished objects were removed",
            extra={"event": "spool_swept", "temporary": temporary, "orphans": len(orphans)},
        )
    for instance_id in missing:
        log.error(
            "the file of a received object is gone; restore it from a backup or have it sent again",
            extra={"event": "file_missing", "instance_id": instance_id},
        )
    return Recovered(temporary, len(orphans), missing)
