"""Who may enter: accounts with a password, and secrets (tokens, sessions, one-time logins) kept as hashes."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import and_, bindparam, delete, select, update
from sqlalchemy.orm import Session

from triage.errors import TriageError
from triage.store.tables import Account, Credential

SESSION_LASTS = timedelta(hours=12)
LOGIN_LASTS = timedelta(minutes=15)
PASSWORD_LENGTH = range(10, 257)
NAME_LENGTH = range(1, 65)


class Role(StrEnum):
    """What a person or program may do; each role includes the ones before it."""

    VIEWER = "viewer"
    RADIOLOGIST = "radiologist"
    ADMINISTRATOR = "administrator"

    def allows(self, needed: Role) -> bool:
        """Return whether this role is enough where `needed` is asked for."""
        order = tuple(Role)
        return order.index(self) >= order.index(needed)


class AccountError(TriageError):
    """An account or token that can't be made or taken back as asked."""

    code = "account"
    exit_code = 2


@dataclass(frozen=True)
class Principal:
    """Who sends a request; `csrf` is set for browser sessions only."""

    name: str
    role: Role
    csrf: str = ""
    credential_id: int = 0


def _hash(secret: str) -> str:
    # 256 bits of randomness need no slow hash; a stolen table must not let anybody in.
    return hashlib.sha256(secret.encode()).hexdigest()


def _check_name(name: str) -> None:
    if len(name) not in NAME_LENGTH or not all(c.isalnum() or c in "._-@" for c in name):
        msg = "A name has 1 to 64 letters, digits or . _ - @; choose another."
        raise AccountError(msg)


def create_account(session: Session, name: str, password: str, role: Role, now: datetime) -> Account:
    """Make an account that can log in with a password (argon2id); one that was removed comes back by it.

    Raises:
        AccountError: the name is taken or malformed, or the password is too short or too long.
    """
    _check_name(name)
    if len(password) not in PASSWORD_LENGTH:
        most = PASSWORD_LENGTH.stop - 1
        msg = f"A password has {PASSWORD_LENGTH.start} to {most} characters; choose another."
        raise AccountError(msg)
    account = session.scalars(select(Account).where(Account.name == name)).first()
    if account is not None and not account.disabled:
        msg = f"The account '{name}' exists already; choose another name, or remove it first."
        raise AccountError(msg)
    account = account or Account(name=name)
    account.password_hash, account.role = PasswordHasher().hash(password), role.value
    account.disabled, account.created_at = False, now
    session.add(account)
    session.flush()
    return account


def remove_account(session: Session, name: str, now: datetime) -> None:
    """Let an account log in no more, and end its sessions at once; what it did stays under its name.

    Raises:
        AccountError: there is no such account.
    """
    account = by_name(session, name)
    if account is None:
        msg = f"There is no account '{name}'; `triage user list` shows those that there are."
        raise AccountError(msg)
    account.disabled = True
    _end(session, ("session", "login"), name, now)


def revoke_tokens(session: Session, name: str, now: datetime) -> int:
    """End all tokens of a name at once; return how many there were.

    Raises:
        AccountError: there is none.
    """
    ended = _end(session, ("token",), name, now)
    if not ended:
        msg = f"There is no token of '{name}'; `triage token list` shows those that there are."
        raise AccountError(msg)
    return ended


def _end(session: Session, kinds: tuple[str, ...], name: str, now: datetime) -> int:
    ended = session.execute(
        update(Credential)
        .where(Credential.kind.in_(kinds), Credential.name == name, Credential.revoked_at.is_(None))
        .values(revoked_at=now)
    )
    return int(ended.rowcount)  # type: ignore[attr-defined]


def everybody(session: Session) -> list[Account]:
    """Return the accounts that may log in, by name."""
    return list(session.scalars(select(Account).where(~Account.disabled).order_by(Account.name)))


def tokens(session: Session) -> list[Credential]:
    """Return the tokens that let somebody in, by name; their secrets are not kept."""
    asked = select(Credential).where(Credential.kind == "token", Credential.revoked_at.is_(None))
    return list(session.scalars(asked.order_by(Credential.name, Credential.id)))


@cache
def _nobody() -> str:
    return PasswordHasher().hash(secrets.token_hex(16))


def by_name(session: Session, name: str) -> Account | None:
    """Return the account that may log in under a name, or None."""
    return session.scalars(select(Account).where(Account.name == name, ~Account.disabled)).first()


def password_fits(account: Account | None, password: str) -> bool:
    """Return whether the password is the account's; an unknown account takes as long as a wrong password."""
    stored = account.password_hash if account else _nobody()
    try:
        PasswordHasher().verify(stored, password[: PASSWORD_LENGTH.stop])
    except (VerificationError, InvalidHashError):
        return False
    return account is not None


def _issue(
    session: Session, kind: str, name: str, role: Role, *, now: datetime, lasts: timedelta | None
) -> tuple[str, Credential]:
    _check_name(name)
    secret = secrets.token_urlsafe(32)
    row = Credential(
        kind=kind,
        secret_hash=_hash(secret),
        name=name,
        role=role.value,
        csrf=secrets.token_urlsafe(24) if kind == "session" else "",
        created_at=now,
        expires_at=now + lasts if lasts else None,
    )
    session.add(row)
    session.flush()
    return secret, row


def create_token(session: Session, name: str, role: Role, now: datetime) -> str:
    """Return a new API token, sent as `Authorization: Bearer …`; only its hash is kept."""
    return _issue(session, "token", name, role, now=now, lasts=None)[0]


def create_login(session: Session, name: str, role: Role, now: datetime) -> str:
    """Return the secret of a one-time login address, good for one use within a quarter of an hour."""
    return _issue(session, "login", name, role, now=now, lasts=LOGIN_LASTS)[0]


def create_session(session: Session, name: str, role: Role, now: datetime) -> str:
    """Return the secret of a new browser session; expired sessions are forgotten on the way."""
    session.execute(
        delete(Credential).where(Credential.kind.in_(("session", "login")), Credential.expires_at < now)
    )
    return _issue(session, "session", name, role, now=now, lasts=SESSION_LASTS)[0]


def redeem_login(session: Session, secret: str, now: datetime) -> Principal | None:
    """Spend a one-time login; None when it is unknown, spent or too old."""
    spent = session.execute(
        update(Credential)
        .where(
            Credential.secret_hash == _hash(secret),
            Credential.kind == "login",
            Credential.revoked_at.is_(None),
            Credential.expires_at > now,
        )
        .values(revoked_at=now)
        .execution_options(synchronize_session=False)
    )
    if spent.rowcount != 1:  # type: ignore[attr-defined]
        return None
    row = session.scalars(select(Credential).where(Credential.secret_hash == _hash(secret))).one()
    return Principal(row.name, Role(row.role), credential_id=row.id)


#: Asked with every request, so it is put together once.
_WHO = (
    select(
        Credential.id,
        Credential.name,
        Credential.role,
        Credential.csrf,
        Credential.expires_at,
        Account.role,
        Account.disabled,
    )
    .outerjoin(Account, and_(Account.name == Credential.name, Credential.kind == "session"))
    .where(
        Credential.secret_hash == bindparam("secret"),
        Credential.kind == bindparam("kind"),
        Credential.revoked_at.is_(None),
    )
)


def principal(session: Session, kind: str, secret: str, now: datetime) -> Principal | None:
    """Return who a token or session stands for; None when it is unknown, revoked or expired.

    The role of a session is the account's present one, and a disabled account has no sessions.
    """
    row = session.connection().execute(_WHO, {"kind": kind, "secret": _hash(secret)}).first()
    if row is None:
        return None
    credential_id, name, role, csrf, expires_at, account_role, disabled = row
    if disabled or (expires_at is not None and expires_at <= now):
        return None
    return Principal(name, Role(account_role or role), csrf, credential_id)


def revoke(session: Session, credential_id: int, now: datetime) -> None:
    """End a session or token at once."""
    session.execute(update(Credential).where(Credential.id == credential_id).values(revoked_at=now))
