"""What a sender is told: a DIMSE status and one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from triage.errors import TriageError


class Status(IntEnum):
    """The C-STORE statuses that we send (PS3.4 B.2.3); no other ever leaves this house."""

    #: The bytes are durable and their row is committed.
    SUCCESS = 0x0000
    #: Out of resources: the same object may be sent again later.
    LATER = 0xA700
    #: The data set does not match its SOP class or the command.
    MISMATCH = 0xA900
    #: The bytes can't be understood; sending them again changes nothing.
    UNREADABLE = 0xC000


@dataclass(frozen=True)
class Verdict:
    """The answer for one object; `sentence` names no patient."""

    status: Status
    sentence: str = ""
    #: The study that the object belongs to, once it is stored there.
    study_id: int | None = None

    @property
    def stored(self) -> bool:
        """Whether the object is kept safely."""
        return self.status is Status.SUCCESS


class Refused(TriageError):
    """An object that is not taken; `status` is what the sender gets."""

    code = "refused"

    def __init__(self, status: Status, sentence: str) -> None:
        """Say in one sentence what happened, without patient data."""
        super().__init__(sentence)
        self.status = status

    @property
    def verdict(self) -> Verdict:
        """The answer that this refusal stands for."""
        return Verdict(self.status, str(self))
