"""Entries of the reading list: each change is one guarded UPDATE and one event row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    Table,
    bindparam,
    literal_column,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.orm import Session

from triage.domain.entry import ENTRY, EntryState, EntryStep, EntryVerb
from triage.domain.policy import Policy
from triage.domain.priority import (
    NEW_AFTER_READ,
    NEW_SINCE_CLAIM,
    Ground,
    Inputs,
    Key,
    Pin,
    Ranking,
    Standing,
    place,
    spot,
    standing_of,
)
from triage.errors import Conflict, RefusedOnce
from triage.store import assessments, orders
from triage.store.database import announce
from triage.store.prepared import Insert, Prepared
from triage.store.studies import Head
from triage.store.tables import Entry, EntryEvent, FilmAssessmentRow, Study
from triage.store.types import from_micros, random_uid, to_micros

_ENTRY = cast("Table", Entry.__table__)
_CREATE, _RECORD = Insert(_ENTRY), Insert(cast("Table", EntryEvent.__table__))
_STATE = Prepared(
    lambda _: select(_ENTRY.c.state).where(
        _ENTRY.c.study_id == bindparam("which", type_=_ENTRY.c.study_id.type)
    )
)
#: What an entry holds of a claim when nobody has it.
UNCLAIMED: dict[str, Any] = {"claimed_by": None, "claimed_at": None, "claim_seen_at": None}
#: What an event keeps of the entry as it is after it.
_KEPT = (
    "study_id",
    "state",
    "band",
    "effective_at",
    "arrived_at",
    "due_at",
    "claimed_by",
    "policy",
)


def pins_of(entry: Entry | Row[Any]) -> tuple[Pin, ...]:
    """Return a reader's shifts of an entry."""
    return tuple(Pin(p["minutes"], p["reason"], p["by"], from_micros(p["at"])) for p in entry.pins)


def pin_to_json(pin: Pin) -> dict[str, Any]:
    """Return a shift as it is stored."""
    return {"minutes": pin.minutes, "reason": pin.reason, "by": pin.by, "at": to_micros(pin.at)}


def inputs_of(session: Session, study: Study, entry: Entry | None) -> tuple[Inputs, FilmAssessmentRow | None]:
    """Return everything that an entry's place depends on, and the film that decides it."""
    said, film = assessments.evaluation(session, study)
    inputs = Inputs(
        study_uid=study.study_uid,
        arrived_at=study.arrived_at,
        urgency=orders.urgency(session, study),
        evaluation=said,
        pins=pins_of(entry) if entry else (),
        aged_out=entry.aged_out if entry else False,
        news=_news_of(entry) if entry else (),
    )
    return inputs, film


def _news_of(entry: Entry | Row[Any]) -> tuple[str, ...]:
    """Return what a reader must know of an entry; what is new since a claim ends with the claim."""
    claimed = entry.state is EntryState.CLAIMED
    return tuple(said for said in entry.standing.get("news", ()) if claimed or said != NEW_SINCE_CLAIM)


def columns(inputs: Inputs, film: FilmAssessmentRow | None, policy: Policy) -> dict[str, Any]:
    """Return what a ranking writes into an entry's row: the key, and what the key was made of."""
    standing = standing_of(inputs)
    key, advance, due_at = spot(standing, policy)
    return {
        "band": key.band,
        "effective_at": key.effective_at,
        "due_at": due_at,
        "urgency": inputs.urgency,
        "advance_micros": advance // timedelta(microseconds=1),
        "standing": {
            "due": standing.due,
            "grounds": [[g.name, g.said, g.share] for g in standing.grounds],
            **({"news": list(standing.news)} if standing.news else {}),
        },
        "answer": _answer(film),
        "policy": policy.version,
    }


def _answer(film: FilmAssessmentRow | None) -> dict[str, Any]:
    if film is None:
        return {}
    shown = ("finding", "probability", "state")
    return {
        "outcome": film.outcome.value,
        "any_disease": film.any_disease,
        "model": film.model,
        "findings": [{name: finding[name] for name in shown} for finding in film.findings],
        "sentence": film.sentence,
    }


def ranking_of(entry: Entry | Row[Any], policy: Policy) -> Ranking:
    """Return the place of a stored entry under a policy; with the entry's own policy it is the stored key."""
    return place(standing_of_row(entry), policy)


def reasons_of(entry: Entry | Row[Any], policy: Policy) -> list[str]:
    """Return the sentences that made the place, most weighty first, as `ranking_of` has them."""
    counting = [ground for ground in entry.standing.get("grounds", ()) if ground[2]]
    if not counting and not entry.pins and not entry.aged_out and not entry.standing.get("news"):
        return []
    return list(place(_standing(entry, counting), policy).reasons)


def standing_of_row(entry: Entry | Row[Any]) -> Standing:
    """Return what a stored entry's place depends on, besides the policy."""
    return _standing(entry, entry.standing.get("grounds", ()))


def _standing(entry: Entry | Row[Any], grounds: Iterable[Any]) -> Standing:
    return Standing(
        study_uid=entry.study_uid,
        arrived_at=entry.arrived_at,
        urgency=entry.urgency,
        grounds=tuple(Ground(*ground) for ground in grounds),
        due=entry.standing.get("due", "other"),
        pins=pins_of(entry),
        aged_out=entry.aged_out,
        news=tuple(entry.standing.get("news", ())),
    )


def place_new(
    session: Session, head: Head, arrived_at: datetime, policy: Policy, now: datetime, cause: str
) -> None:
    """Give a study its place in the list; called with its first image, before anything is assessed."""
    # Nothing can have been said of a study before it has a place, so only the orders are asked.
    inputs = Inputs(head.study_uid, arrived_at, orders.urgency_of_head(session, head))
    row = {
        "study_id": head.id,
        "study_uid": head.study_uid,
        "arrived_at": arrived_at,
        "state": EntryState.WAITING,
        **columns(inputs, None, policy),
    }
    _CREATE.add(session, [row])
    said = {name: row[name] for name in _KEPT if name in row}
    _RECORD.add(session, [{"at": now, "verb": EntryVerb.ARRIVED.value, "cause": cause, **said}])
    announce(session, "list")


def state_of(session: Session, study_id: int) -> EntryState | None:
    """Return the state of a study's place in the list, or None where it has none."""
    rows = _STATE.ask(session, {"which": study_id})
    return EntryState(rows[0][0]) if rows else None


def rerank(
    session: Session,
    study: Study,
    policy: Policy,
    now: datetime,
    *,
    verb: EntryVerb,
    cause: str,
    actor: str = "",
) -> bool:
    """Recompute an entry's place after one of its inputs changed; returns whether the row changed.

    A read or withdrawn entry keeps its last key; a claimed one is recomputed, but is listed by its reader,
    so it does not move under the hand.
    """
    entry = session.get(Entry, study.id, populate_existing=True)
    if entry is None or entry.state in (EntryState.READ, EntryState.WITHDRAWN):
        return False
    inputs, film = inputs_of(session, study, entry)
    wanted = columns(inputs, film, policy)
    if all(getattr(entry, name) == value for name, value in wanted.items()):
        return False
    if entry.due_at != wanted["due_at"]:
        # Another due time: whoever was warned of the old one is warned of the new one.
        wanted |= {"due_warned": False, "due_breached": False}
    guarded_update(session, entry, entry.state, wanted)
    record(session, entry, verb, now, cause=cause, actor=actor, model=film.model if film else "")
    return True


def show_new_film(session: Session, study: Study, policy: Policy, now: datetime, *, actor: str) -> None:
    """Bring a film before the readers that came after its study was read, or while a reader has the study.

    A read study waits again in its old place, for anybody; a claimed one stays with its reader, who decides
    anew, since the revision is another. Both say why.
    """
    entry = session.get_one(Entry, study.id, populate_existing=True)
    said = NEW_AFTER_READ if entry.state is EntryState.READ else NEW_SINCE_CLAIM
    news = [*(one for one in _news_of(entry) if one != said), said]
    changes: dict[str, Any] = {"standing": {**entry.standing, "news": news}}
    if entry.state is EntryState.READ:
        changes |= {"read_by": None, "read_at": None, **UNCLAIMED, **_begun_anew(entry, policy, now)}
        step(session, entry, EntryStep.REOPEN, now, actor=actor, cause=said, changes=changes)
        rerank(session, study, policy, now, verb=EntryVerb.RECEIVED, cause="another object", actor=actor)
        return
    guarded_update(session, entry, entry.state, changes)
    if not rerank(session, study, policy, now, verb=EntryVerb.RECEIVED, cause=said, actor=actor):
        record(session, entry, EntryVerb.RECEIVED, now, actor=actor, cause=said)


def restore(session: Session, entry: Entry, policy: Policy, now: datetime, *, actor: str, cause: str) -> None:
    """Bring a withdrawn entry back into the list, in its old place; the caller ranks it anew."""
    changes = _begun_anew(entry, policy, now)
    step(session, entry, EntryStep.RESTORE, now, actor=actor, cause=cause, changes=changes)


def _begun_anew(entry: Entry, policy: Policy, now: datetime) -> dict[str, Any]:
    """Return what an entry that was read or withdrawn comes back with."""
    limit = now - timedelta(minutes=policy.upper_limit_minutes)
    return {
        # To UPS clients a completed or cancelled workitem is final: this is another one.
        "workitem_uid": random_uid(),
        "transaction_uid": "",
        # The policy may have changed meanwhile, which only looks at what is unread.
        "aged_out": entry.aged_out and entry.arrived_at <= limit,
    }


def refuse_unseen_film(session: Session, entry: Entry, now: datetime, *, actor: str) -> None:
    """Refuse what its reader decided before a film came, and remember that this was said.

    Raises:
        RefusedOnce: a film came since the entry was claimed, and its reader was not told so by a refusal yet.
    """
    news = _news_of(entry)
    if NEW_SINCE_CLAIM not in news:
        return
    rest = [said for said in news if said != NEW_SINCE_CLAIM]
    standing = {name: value for name, value in entry.standing.items() if name != "news"}
    guarded_update(
        session, entry, entry.state, {"standing": {**standing, **({"news": rest} if rest else {})}}
    )
    record(session, entry, EntryVerb.REFUSED, now, actor=actor, cause=NEW_SINCE_CLAIM)
    msg = "A film came since the study was claimed; look at it, then mark the study as read once more."
    raise RefusedOnce(msg)


def guarded_update(session: Session, entry: Entry, state: EntryState, values: dict[str, Any]) -> None:
    """Change a row only if nobody did since it was read, and count its revision up.

    Raises:
        Conflict: the row has another state or revision by now.
    """
    done = session.execute(
        update(Entry)
        .where(Entry.study_id == entry.study_id, Entry.state == state, Entry.revision == entry.revision)
        .values({**values, "revision": entry.revision + 1})
        .execution_options(synchronize_session=False)
    )
    if done.rowcount != 1:  # type: ignore[attr-defined]
        msg = "Somebody else changed this entry first; read it again and decide anew."
        raise Conflict(msg)
    session.refresh(entry)
    announce(session, "list")


def step(
    session: Session,
    entry: Entry,
    event: EntryStep,
    now: datetime,
    *,
    actor: str,
    cause: str = "",
    changes: dict[str, Any] | None = None,
) -> None:
    """Take one step of the reading life cycle: table, guarded UPDATE, event row.

    Raises:
        IllegalTransition: the table has no such step from the entry's state.
        Conflict: the entry changed since it was read.
    """
    after = ENTRY.after(entry.state, event)
    guarded_update(session, entry, entry.state, {**(changes or {}), "state": after})
    record(session, entry, event, now, actor=actor, cause=cause)


def record(
    session: Session,
    entry: Entry,
    verb: EntryStep | EntryVerb,
    now: datetime,
    *,
    actor: str = "",
    cause: str = "",
    model: str = "",
) -> None:
    """Append what just happened to an entry, with its key and state after it."""
    said = {name: getattr(entry, name) for name in _KEPT}
    session.add(EntryEvent(at=now, verb=verb.value, actor=actor, cause=cause, model=model, **said))
    announce(session, "list")


def in_state(state: EntryState) -> ColumnElement[bool]:
    """Return the condition written out, not bound: a partial index is only certain to serve a literal."""
    return literal_column(f"entry.state = '{state.value}'")


WAITING = in_state(EntryState.WAITING)


Place = tuple[int, datetime, datetime, str]
Q = TypeVar("Q", bound="Select[*tuple[Any, ...]]")


def in_reading_order(query: Q, limit: int, after: Place | None = None) -> Q:
    """Return a query of entries narrowed to a page of the waiting list, from `after` on (exclusive)."""
    query = query.where(WAITING)
    if after is not None:
        key = tuple_(Entry.band, Entry.effective_at, Entry.arrived_at, Entry.study_uid)
        query = query.where(key > tuple_(*(_bound(part) for part in after)))
    return query.order_by(Entry.band, Entry.effective_at, Entry.arrived_at, Entry.study_uid).limit(limit)


def waiting(session: Session, limit: int, after: Place | None = None) -> Sequence[tuple[Entry, Study]]:
    """Return a page of the reading order, from the key `after` on (exclusive)."""
    query = in_reading_order(select(Entry, Study).join(Study, Study.id == Entry.study_id), limit, after)
    return [(row[0], row[1]) for row in session.execute(query)]


def _bound(part: int | datetime | str) -> Any:
    return literal_column(str(to_micros(part))) if isinstance(part, datetime) else part


def position(session: Session, entry: Entry | Row[Any]) -> int | None:
    """Return an entry's place, 1 for the first; None when it does not wait."""
    if entry.state is not EntryState.WAITING:
        return None
    return place_at(session, Key(entry.band, entry.effective_at, entry.arrived_at, entry.study_uid))


#: Three ranges of one index: compared as rows, the same count takes twice as long.
_WAITS = "(SELECT count(*) FROM entry WHERE entry.state = 'waiting' AND "
AHEAD = text(
    f"SELECT {_WAITS} band < :band) + {_WAITS} band = :band AND effective_at < :effective)"
    f" + {_WAITS} band = :band AND effective_at = :effective AND (arrived_at, study_uid) < (:arrived, :uid))"
)


def place_at(session: Session, own: Key) -> int:
    """Return the place that a waiting entry with this key has, or would have if it moved ahead to it."""
    parts = {
        "band": own.band,
        "effective": to_micros(own.effective_at),
        "arrived": to_micros(own.arrived_at),
        "uid": own.study_uid,
    }
    return int(session.connection().execute(AHEAD, parts).scalar_one()) + 1
