"""What a reader does with an entry: each is one transaction, one guarded UPDATE and one event row.

Every function takes the `revision` that the reader saw (the ETag); another one in the database raises
`Conflict`, so that of two readers who claim at once exactly one wins.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from triage.domain.entry import EntryState, EntryStep, EntryVerb
from triage.domain.finding import CLASSES
from triage.domain.priority import Pin
from triage.errors import Conflict, IllegalTransition, TriageError, UnknownStudy
from triage.store import assessments, entries, policies, studies
from triage.store.tables import Entry, Feedback, Study

#: A note, reason or comment longer than this is a paste by mistake.
MAX_TEXT = 2000


class BadRequest(TriageError):
    """An action with a value that can't be."""

    code = "bad-request"
    exit_code = 2


def _entry(session: Session, study_uid: str, revision: int | None) -> tuple[Entry, Study]:
    study = studies.by_uid(session, study_uid)
    entry = session.get(Entry, study.id)
    if entry is None:
        msg = "This study has no radiograph and so no place in the reading list."
        raise UnknownStudy(msg)
    if revision is not None and entry.revision != revision:
        msg = "The entry changed since you read it; read it again and decide anew."
        raise Conflict(msg)
    return entry, study


def claim(session: Session, study_uid: str, actor: str, now: datetime, revision: int | None = None) -> None:
    """Give a waiting entry to `actor`; nobody else can claim it until it is released or expires."""
    entry, _ = _entry(session, study_uid, revision)
    if entry.state is EntryState.CLAIMED and entry.claimed_by == actor:
        seen(session, study_uid, actor, now)
        return
    if entry.state is EntryState.CLAIMED:
        msg = f"The study is claimed by {entry.claimed_by}; choose another or ask for its release."
        raise Conflict(msg)
    # A UPS client's key to an earlier claim opens this one no more.
    changes = {"claimed_by": actor, "claimed_at": now, "claim_seen_at": now, "transaction_uid": ""}
    entries.step(session, entry, EntryStep.CLAIM, now, actor=actor, changes=changes)


def release(
    session: Session,
    study_uid: str,
    actor: str,
    now: datetime,
    revision: int | None = None,
    *,
    anyone: bool = False,
) -> None:
    """Give a claimed entry back to its old place; `anyone` lets an administrator break a claim."""
    entry, study = _entry(session, study_uid, revision)
    _own(entry, actor, anyone)
    cause = "" if entry.claimed_by == actor else f"claim of {entry.claimed_by} broken"
    _back(session, entry, study, EntryStep.RELEASE, now, actor, cause)


def expire(session: Session, entry: Entry, study: Study, now: datetime) -> None:
    """Return an idle claim to the list."""
    cause = f"claim of {entry.claimed_by} was idle"
    _back(session, entry, study, EntryStep.EXPIRE, now, "scheduler", cause)


def _back(
    session: Session, entry: Entry, study: Study, step: EntryStep, now: datetime, actor: str, cause: str
) -> None:
    entries.step(session, entry, step, now, actor=actor, cause=cause, changes=entries.UNCLAIMED)
    entries.rerank(
        session, study, policies.active(session), now, verb=EntryVerb.RERANKED, cause="back in the list"
    )


def complete(
    session: Session,
    study_uid: str,
    actor: str,
    now: datetime,
    revision: int | None = None,
    *,
    anyone: bool = False,
) -> None:
    """Mark a claimed entry as read; it leaves the list for the history.

    Raises:
        RefusedOnce: a film came since the claim. A page or client that renews itself may know the newest
            revision without its reader having seen the film, so the reader is told and decides once more.
    """
    entry, _ = _entry(session, study_uid, revision)
    _own(entry, actor, anyone)
    entries.refuse_unseen_film(session, entry, now, actor=actor)
    changes = {"read_by": actor, "read_at": now}
    entries.step(session, entry, EntryStep.COMPLETE, now, actor=actor, changes=changes)


def _own(entry: Entry, actor: str, anyone: bool) -> None:
    if entry.state is not EntryState.CLAIMED:
        msg = f"The study is {entry.state.value}, not claimed; claim it first."
        raise IllegalTransition(msg)
    if entry.claimed_by != actor and not anyone:
        msg = f"The study is claimed by {entry.claimed_by}, not by you."
        raise Conflict(msg)


def seen(session: Session, study_uid: str, actor: str, now: datetime) -> None:
    """Record a sign of life of the reader who holds the claim."""
    entry, _ = _entry(session, study_uid, None)
    if entry.state is EntryState.CLAIMED and entry.claimed_by == actor:
        entries.guarded_update(session, entry, entry.state, {"claim_seen_at": now})


def pin(
    session: Session,
    study_uid: str,
    actor: str,
    now: datetime,
    revision: int | None = None,
    *,
    minutes: float,
    reason: str,
) -> None:
    """Move an entry ahead (positive) or back (negative) by a term that `why` shows with name and reason.

    The bounds of the order still hold: no advance exceeds the policy's limit, none is below 0.
    """
    entry, study = _entry(session, study_uid, revision)
    if entry.state not in (EntryState.WAITING, EntryState.CLAIMED):
        msg = f"The study is {entry.state.value}; only what waits or is claimed can be moved."
        raise IllegalTransition(msg)
    text = _text("reason", reason, required=True)
    policy = policies.active(session)
    if not abs(minutes) <= policy.max_advance or minutes == 0:
        msg = f"Minutes must be between 1 and {policy.max_advance:g}, ahead or back."
        raise BadRequest(msg)
    pins = [*entry.pins, entries.pin_to_json(Pin(minutes, text, actor, now))]
    entries.guarded_update(session, entry, entry.state, {"pins": pins})
    verb = EntryVerb.PINNED if minutes > 0 else EntryVerb.LOWERED
    if not entries.rerank(session, study, policy, now, verb=verb, cause=text, actor=actor):
        entries.record(session, entry, verb, now, actor=actor, cause=text)


def note(
    session: Session, study_uid: str, actor: str, now: datetime, revision: int | None = None, *, text: str
) -> None:
    """Replace the free-text note of an entry."""
    entry, _ = _entry(session, study_uid, revision)
    entries.guarded_update(session, entry, entry.state, {"note": _text("note", text, required=False)})
    entries.record(session, entry, EntryVerb.NOTED, now, actor=actor)


def feedback(
    session: Session,
    study_uid: str,
    actor: str,
    now: datetime,
    *,
    finding: str,
    agrees: bool,
    comment: str = "",
) -> None:
    """Keep a reader's word on one finding, with the model and version that was judged."""
    _, study = _entry(session, study_uid, None)
    if finding not in CLASSES:
        msg = f"The finding '{finding[:40]}' is not known; known: {', '.join(CLASSES)}."
        raise BadRequest(msg)
    _, film = assessments.evaluation(session, study)
    if film is None:
        msg = "No model has judged this study, so there is nothing to agree with."
        raise IllegalTransition(msg)
    probability = next((f["probability"] for f in film.findings if f["finding"] == finding), None)
    if finding == "normal" and film.any_disease is not None:
        probability = 1 - film.any_disease
    session.add(
        Feedback(
            study_id=study.id,
            at=now,
            by=actor,
            finding=finding,
            agrees=agrees,
            model=film.model,
            model_digest=film.model_digest,
            probability=probability,
            comment=_text("comment", comment, required=False),
        )
    )


def _text(name: str, value: Any, *, required: bool) -> str:
    text = str(value).strip()
    if required and not text:
        msg = f"A {name} is needed: it is shown to everybody who asks why."
        raise BadRequest(msg)
    if len(text) > MAX_TEXT:
        msg = f"The {name} is longer than {MAX_TEXT} characters."
        raise BadRequest(msg)
    return text
