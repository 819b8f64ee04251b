"""Asking the source how many objects a study has: where it counts, a study is complete when all are here.

It is asked once a study has been still for a moment, and again after its next object. An archive that does
not answer, or does not count, completes nothing: some other evidence does.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Protocol

from sqlalchemy.exc import SQLAlchemyError

from triage.domain.study import CompletedBy
from triage.errors import PeerUnreachable
from triage.receive.admission import PeerRule
from triage.receive.completion import Completion
from triage.receive.intake import Stored
from triage.receive.query import Pacs, find_studies
from triage.store import instances, studies
from triage.store.database import Database

log = logging.getLogger(__name__)

#: So long after its last object the source is asked about a study.
STILL = 1.0  # seconds
_PATIENCE = 10.0  # seconds for an answer; the study's quiet timer goes on meanwhile
#: Studies that wait for a slow archive must not pile up.
_MAX_WAITING = 1000


class CountedPeer(Protocol):
    """A sender as the settings have it; `count_at` is AE@HOST:PORT, or empty."""

    @property
    def ae_title(self) -> str:
        """Its calling AE title; empty for any."""

    @property
    def host(self) -> str:
        """Its address or CIDR; empty for any."""

    @property
    def count_at(self) -> str:
        """The archive that is asked about its studies."""


def sources(peers: Iterable[CountedPeer], calling: str) -> list[tuple[PeerRule, Pacs]]:
    """Return who is asked about whose studies."""
    found = []
    for peer in peers:
        if peer.count_at:
            title, _, address = peer.count_at.partition("@")
            host, _, port = address.rpartition(":")
            pacs = Pacs(title, host, int(port), calling, _PATIENCE)
            found.append((PeerRule(peer.ae_title, peer.host), pacs))
    return found


class Counting:
    """Asks on a thread of its own; nothing waits for the answers."""

    def __init__(
        self,
        db: Database,
        completion: Completion,
        asked: Sequence[tuple[PeerRule, Pacs]],
        still: float = STILL,
    ) -> None:
        """Ask nobody yet; the first rule that speaks of a sender says who is asked."""
        self._db = db
        self._completion = completion
        self._asked = asked
        self._still = still
        self._changed = threading.Condition()
        self._waiting: dict[int, tuple[float, Pacs]] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="counting", daemon=True)

    def start(self) -> None:
        """Begin, if there is anybody to ask."""
        if self._asked:
            self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Ask nobody more."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def stored(self, stored: Stored) -> None:
        """Note that an object of a study was kept just now; an `Intake` calls this."""
        sender = stored.sender
        pacs = next((p for rule, p in self._asked if rule.matches(sender.ae_title, sender.host)), None)
        if pacs is None:
            return
        with self._changed:
            self._waiting.pop(stored.study_id, None)
            if len(self._waiting) < _MAX_WAITING:
                self._waiting[stored.study_id] = (time.monotonic() + self._still, pacs)
            self._changed.notify_all()

    def _next(self) -> tuple[int, Pacs] | None:
        """Return the study that has been still for long enough, or None at the end."""
        with self._changed:
            while not self._stopping:
                # The oldest is due first: whoever gets another object goes to the end.
                first = next(iter(self._waiting.items()), None)
                left = first[1][0] - time.monotonic() if first else None
                if first and left is not None and left <= 0:
                    del self._waiting[first[0]]
                    return first[0], first[1][1]
                self._changed.wait(left)
            return None

    def _run(self) -> None:
        while (due := self._next()) is not None:
            try:
                self._ask(*due)
            except (PeerUnreachable, SQLAlchemyError, OSError, ValueError) as error:
                log.warning(
                    "a source could not be asked how many objects a study has",
                    extra={"event": "count_failed", "study_id": due[0], "error": type(error).__name__},
                )

    def _ask(self, study_id: int, pacs: Pacs) -> None:
        with self._db.read() as session:
            study_uid = studies.uid_of(session, study_id)
        expected = count(pacs, study_uid) if study_uid else None
        if not expected:
            return
        with self._db.read() as session:
            here = len(instances.uids_of_study(session, study_uid))
        if here >= expected:
            self._completion.said(study_uid, CompletedBy.COUNT)


def count(pacs: Pacs, study_uid: str) -> int | None:
    """Return how many objects an archive has of a study; None where it does not say.

    Raises:
        PeerUnreachable: no association, or the archive refuses the query.
    """
    found = find_studies(pacs, {"StudyInstanceUID": study_uid})
    return next((study.objects for study in found if study.study_uid == study_uid), None)
