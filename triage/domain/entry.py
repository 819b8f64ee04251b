"""The reading state of a worklist entry, independent of the pipeline: nothing must be assessed to be read."""

from __future__ import annotations

from enum import StrEnum

from triage.domain.lifecycle import Lifecycle


class EntryState(StrEnum):
    """Where an entry stands for the readers."""

    WAITING = "waiting"
    CLAIMED = "claimed"
    READ = "read"
    WITHDRAWN = "withdrawn"


class EntryStep(StrEnum):
    """What moves an entry."""

    CLAIM = "claim"
    RELEASE = "release"
    #: The claim was idle for too long.
    EXPIRE = "expire"
    COMPLETE = "complete"
    WITHDRAW = "withdraw"
    #: A withdrawn study has new images or a new order.
    RESTORE = "restore"
    #: A film came after the study was read.
    REOPEN = "reopen"


class EntryVerb(StrEnum):
    """What else is written down of an entry, besides its steps."""

    ARRIVED = "arrived"
    #: Another object of the study came.
    RECEIVED = "received"
    #: A film was judged.
    ASSESSED = "assessed"
    #: All of the study was judged.
    CONCLUDED = "concluded"
    ORDERED = "ordered"
    PATIENT_CHANGED = "patient_changed"
    RERANKED = "reranked"
    #: Another policy is in force.
    POLICY = "policy"
    PINNED = "pinned"
    LOWERED = "lowered"
    NOTED = "noted"
    #: A done was refused, since a film had come that its reader may not have seen.
    REFUSED = "refused"
    #: It waited longer than the policy's upper limit.
    AGED_OUT = "aged_out"
    DUE_WARNED = "due_warned"
    DUE_BREACHED = "due_breached"


ENTRY = Lifecycle(
    "worklist entry",
    {
        (EntryState.WAITING, EntryStep.CLAIM): EntryState.CLAIMED,
        (EntryState.CLAIMED, EntryStep.RELEASE): EntryState.WAITING,
        (EntryState.CLAIMED, EntryStep.EXPIRE): EntryState.WAITING,
        (EntryState.CLAIMED, EntryStep.COMPLETE): EntryState.READ,
        (EntryState.WAITING, EntryStep.WITHDRAW): EntryState.WITHDRAWN,
        (EntryState.CLAIMED, EntryStep.WITHDRAW): EntryState.WITHDRAWN,
        (EntryState.WITHDRAWN, EntryStep.RESTORE): EntryState.WAITING,
        (EntryState.READ, EntryStep.REOPEN): EntryState.WAITING,
    },
)
