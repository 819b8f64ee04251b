"""One received object: checked, made durable, written down, and only then acknowledged."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from triage.domain.header import Header
from triage.domain.policy import Policy
from triage.receive.commit import GroupCommit
from triage.receive.parse import Claim, read_header
from triage.receive.record import Recorder
from triage.receive.refusals import RefusalLog
from triage.receive.spool import Spool, SpoolFile
from triage.receive.verdict import Refused, Status, Verdict
from triage.store.database import Database
from triage.work.queue import Queue

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sender:
    """Who brought an object, and how."""

    ae_title: str
    host: str
    #: `c-store`, `stow`, `import`.
    channel: str = "c-store"
    #: Tells the associations of one sender apart; 0 where there is none.
    association: int = 0


@dataclass(frozen=True)
class Stored:
    """What the listeners of an intake are told about an object that is kept."""

    study_id: int
    study_uid: str
    sender: Sender
    at: datetime


@dataclass(frozen=True)
class Arrival:
    """A published object on its way into the database."""

    header: Header
    digest: str
    size: int
    #: The durable file's path below the spool folder.
    path: str
    sender: Sender
    #: When the object came, if that was not just now.
    at: datetime | None = None


class Intake:
    """Takes objects from every door; `accept` answers only for what is durable. Thread-safe."""

    def __init__(
        self,
        db: Database,
        queue: Queue,
        spool: Spool,
        clock: Callable[[], datetime],
        policy: Callable[[Session], Policy],
        refusals: RefusalLog,
    ) -> None:
        """Take nothing yet; `policy` returns the reading policy in force."""
        self.spool = spool
        self.refusals = refusals
        self._clock = clock
        self._commits: GroupCommit[Arrival] = GroupCommit(
            db, Recorder(queue, clock, policy, spool.holds).record
        )
        self._listeners: list[Callable[[Stored], None]] = []

    def on_stored(self, listener: Callable[[Stored], None]) -> None:
        """Call `listener` for each object that a study keeps, on the thread that received it."""
        self._listeners.append(listener)

    def open(self, claim: Claim, sender: Sender, max_bytes: int = 0) -> SpoolFile:
        """Return the file into which the object's data set is to be written."""
        return self.spool.open(claim, sender.ae_title, max_bytes)

    def accept(self, file: SpoolFile, sender: Sender) -> Verdict:
        """Return the answer for an object whose bytes are all written; success means that it can't be lost.

        Every other answer leaves nothing behind and is kept in the list of refusals.
        """
        try:
            if file.refusal is not None:
                raise file.refusal
            file.hasten()
            header = read_header(file.descriptor, file.offset, file.claim, file.begins)
            arrival = Arrival(header, file.digest, file.size, file.publish(), sender)
        except Refused as refused:
            file.discard()
            return self.refuse(refused.verdict, sender)
        except OSError as error:
            file.discard()
            reason = f"The spool can't be read ({os.strerror(error.errno or 0)}); send again later."
            return self.refuse(Verdict(Status.LATER, reason), sender)
        except BaseException:
            file.discard()
            raise
        verdict = self.write_down(arrival)
        if not verdict.stored:
            # The file stays: another association may have committed the same bytes under this very name.
            # What no row names is written down at the next start.
            return self.refuse(verdict, sender)
        if verdict.sentence:
            self.refusals.note(sender, sender.channel, "quarantined", verdict.sentence)
        if verdict.study_id is not None:
            stored = Stored(verdict.study_id, arrival.header.study_uid, sender, self._clock())
            for listener in self._listeners:
                listener(stored)
        return verdict

    def write_down(self, arrival: Arrival) -> Verdict:
        """Commit the rows of an object whose file is durable; the same bytes again change nothing."""
        return self._commits.commit(arrival)

    def refuse(self, verdict: Verdict, sender: Sender) -> Verdict:
        """Note a refusal and return it."""
        self.refusals.note(sender, sender.channel, f"0x{verdict.status:04X}", verdict.sentence)
        return verdict
