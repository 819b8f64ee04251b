"""Room on the disk: received files go when nothing needs them any more, and never before."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from sqlalchemy.exc import SQLAlchemyError

from triage.receive.spool import Spool
from triage.store import instances
from triage.store.database import Database

log = logging.getLogger(__name__)

#: Files in one transaction: the writer must not be held up by a long purge.
_BATCH = 200


def purge(db: Database, spool: Spool, now: datetime, keep: timedelta) -> int:
    """Delete the files of objects older than `keep` that are done with; return how many.

    Done with means: the study is settled (or holds no radiograph and is complete), and no result of it waits
    to be sent. Rows stay, and so do quarantined objects, which wait for a person.
    """
    removed = 0
    while True:
        with db.write() as session:
            done = instances.done_with(session, now - keep, _BATCH)
            paths = {row.id: row.path for row in done}
            for row in done:
                row.path, row.purged_at = "", now
        # The rows first: a row that names no file is true, one whose file is gone looks like a loss. After a
        # crash in between, the next start gives the files back to their rows.
        removed += _remove(db, spool, paths)
        if len(paths) < _BATCH:
            break
    if removed:
        log.info("received files were purged", extra={"event": "spool_purged", "files": removed})
    return removed


def _remove(db: Database, spool: Spool, paths: Mapping[int, str]) -> int:
    """Delete files that their rows have given up, but for those of objects that came again meanwhile."""
    with db.write() as session:
        # Whoever takes a file back does it in a transaction of his own: see `record`. To move is quick, and
        # what a crash leaves under its new name is deleted at the next start.
        given_up = instances.without_file(session, paths)
        leaving = [spool.retire(paths[instance_id]) for instance_id in given_up]
    for file in leaving:
        file.unlink(missing_ok=True)
    return len(leaving)


class Retention:
    """Purges from time to time; below the low-water mark everything that is done with goes, however young."""

    def __init__(
        self,
        db: Database,
        spool: Spool,
        clock: Callable[[], datetime],
        keep: timedelta,
        every: timedelta = timedelta(minutes=10),
    ) -> None:
        """Delete nothing yet."""
        self._db = db
        self._spool = spool
        self._clock = clock
        self._keep = keep
        self._every = every.total_seconds()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def start(self) -> None:
        """Begin, with a first purge at once."""
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Delete nothing more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            try:
                keep = self._keep if self._spool.has_room() else timedelta(0)
                purge(self._db, self._spool, self._clock(), keep)
            except (SQLAlchemyError, OSError) as error:
                log.error(
                    "the spool can't be purged",
                    extra={"event": "purge_failed", "error": type(error).__name__},
                )
            if self._stopping.wait(self._every):
                return
