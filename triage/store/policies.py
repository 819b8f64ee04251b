"""The policies that were ever in force; the newest activation is the one that orders the list."""

from __future__ import annotations

from datetime import datetime
from typing import cast

from sqlalchemy import Table, func, select
from sqlalchemy.orm import Session

from triage.domain.policy import Policy
from triage.store.database import announce
from triage.store.prepared import Prepared
from triage.store.tables import PolicyRow

#: The policy that was read last, by name and digest: it is asked for with every film.
_read: dict[tuple[str, str], Policy] = {}
_BUILT_IN = Policy()
#: Policies by version; its digest says what a version is, so none of them is ever outdated.
_versions: dict[str, Policy] = {}
_MOST_VERSIONS = 64
_POLICY = cast("Table", PolicyRow.__table__)
_NEWEST = Prepared(
    lambda _: select(_POLICY.c.id, _POLICY.c.version, _POLICY.c.digest).where(
        _POLICY.c.id == select(func.max(_POLICY.c.id)).scalar_subquery()
    )
)


def active(session: Session) -> Policy:
    """Return the policy in force; the built-in default before any was activated."""
    newest = _NEWEST.ask(session, {})
    if not newest:
        return _BUILT_IN
    number, version, digest = newest[0]
    known = _read.get((version, digest))
    if known is None:
        content = session.scalar(select(PolicyRow.content).where(PolicyRow.id == number))
        known = Policy.from_mapping(content or {})
        _read.clear()
        _read[version, digest] = known
    return known


def last_by(session: Session, who: str) -> PolicyRow | None:
    """Return the newest activation by `who`, or None."""
    query = select(PolicyRow).where(PolicyRow.activated_by == who).order_by(PolicyRow.id.desc()).limit(1)
    return session.scalars(query).first()


def by_version(session: Session, version: str) -> Policy:
    """Return the policy that was in force under a version, as entries name it; else the one in force now."""
    if version == _BUILT_IN.version:
        return _BUILT_IN
    known = _versions.get(version)
    if known is not None:
        return known
    query = select(PolicyRow).where(PolicyRow.version == version).order_by(PolicyRow.id.desc()).limit(1)
    row = session.scalars(query).first()
    if row is None:
        return active(session)
    if len(_versions) >= _MOST_VERSIONS:
        _versions.clear()
    return _versions.setdefault(version, Policy.from_mapping(row.content))


def activate(session: Session, policy: Policy, now: datetime, by: str) -> PolicyRow:
    """Record that `policy` is in force from now on; the caller re-ranks in the same transaction."""
    row = PolicyRow(
        version=policy.version,
        digest=policy.digest,
        content=policy.to_mapping(),
        activated_at=now,
        activated_by=by,
    )
    session.add(row)
    session.flush()
    announce(session, "list")
    return row
