"""The way of a result object to one destination."""

from __future__ import annotations

from enum import StrEnum

from triage.domain.lifecycle import Lifecycle


class ResultState(StrEnum):
    """Where a result is on its way to one destination."""

    BUILT = "built"
    QUEUED = "queued"
    SENT = "sent"
    #: The destination said by storage commitment that it keeps the object.
    COMMITTED = "committed"
    DEAD = "dead"


class ResultStep(StrEnum):
    """What moves a result."""

    QUEUE = "queue"
    SEND = "send"
    COMMIT = "commit"
    GIVE_UP = "give_up"
    #: A person asked for another try.
    RETRY = "retry"


RESULT = Lifecycle(
    "result",
    {
        (ResultState.BUILT, ResultStep.QUEUE): ResultState.QUEUED,
        (ResultState.QUEUED, ResultStep.SEND): ResultState.SENT,
        (ResultState.SENT, ResultStep.COMMIT): ResultState.COMMITTED,
        (ResultState.QUEUED, ResultStep.GIVE_UP): ResultState.DEAD,
        (ResultState.SENT, ResultStep.RETRY): ResultState.QUEUED,
        (ResultState.DEAD, ResultStep.RETRY): ResultState.QUEUED,
    },
)
