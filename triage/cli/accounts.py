"""`triage user` and `triage token`: who may enter."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from triage.cli.options import Config
from triage.store.accounts import Role

_Role = Annotated[Role, typer.Option("--role", help="viewer, radiologist or administrator.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    user = typer.Typer(no_args_is_help=True, help="People who log in.")
    user.command("add")(add_user)
    user.callback()(_group)
    app.add_typer(user, name="user")
    token = typer.Typer(no_args_is_help=True, help="Secrets of programs.")
    token.command("create")(create_token)
    token.callback()(_group)
    app.add_typer(token, name="token")


def _group() -> None:
    """Keep the group a group although it has one command."""


def add_user(name: str, role: _Role, config: Config = None) -> None:
    """Make the account NAME; asks for the password, or reads one line of standard input."""
    from datetime import UTC, datetime

    from triage import settings
    from triage.store import accounts, migrations
    from triage.store.database import Database

    db = Database(settings.load(config).database_url)
    migrations.check(db)
    password = _password()
    with db.write() as session:
        accounts.create_account(session, name, password, role, datetime.now(UTC))
    print(f"The account '{name}' may log in as {role}.")


def _password() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\n")


def create_token(name: str, role: _Role, config: Config = None) -> None:
    """Print a new API token for NAME, once; send it as `Authorization: Bearer …`."""
    from datetime import UTC, datetime

    from triage import settings
    from triage.store import accounts, migrations
    from triage.store.database import Database

    db = Database(settings.load(config).database_url)
    migrations.check(db)
    with db.write() as session:
        secret = accounts.create_token(session, name, role, datetime.now(UTC))
    print(secret)
