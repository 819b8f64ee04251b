"""Room on the disk: received files go when nothing needs them any more, and never before."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from triage.receive.spool import Spool
from triage.store import instances
from triage.store.database import Database

log = logging.getLogger(__name__)

#: Files in one transaction: the writer must not be held up by a long purge.
_BATCH = 200


def purge(db: Database, spool: Spool, now: datetime, keep: timedelta) -> int:
    """Delete the files of objects older than `keep` that are done with; return how many.

    Done with means: the study is settled (or holds no radiograph and is complete), and no result of it waits
    to be sent. Rows stay, and so do quarantined objects, which wait for a person. Below the low-water mark
    nothing more is deleted: then senders are told to come later.
    """
    removed = 0
    while True:
        with db.write() as session:
            done = instances.done_with(session, now - keep, _BATCH)
            paths = [row.path for row in done]
            for row in done:
                row.path, row.purged_at = "", now
        # The rows first: a file without a row is removed at the next start, a row without a file is a loss.
        for path in paths:
            spool.remove(path)
        removed += len(paths)
        if len(paths) < _BATCH:
            break
    if removed:
        log.info("received files were purged", extra={"event": "spool_purged", "files": removed})
    return removed
