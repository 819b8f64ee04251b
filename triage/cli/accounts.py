"""`triage user` and `triage token`: who may enter."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from triage.cli.options import Config, Json, print_json
from triage.store.accounts import Role

if TYPE_CHECKING:
    from triage.store.tables import Account, Credential

_Role = Annotated[Role, typer.Option("--role", help="viewer, radiologist or administrator.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    user = typer.Typer(no_args_is_help=True, help="People who log in.")
    user.command("add")(add_user)
    user.command("list")(list_users)
    user.command("remove")(remove_user)
    app.add_typer(user, name="user")
    token = typer.Typer(no_args_is_help=True, help="Secrets of programs.")
    token.command("create")(create_token)
    token.command("list")(list_tokens)
    token.command("revoke")(revoke_token)
    app.add_typer(token, name="token")


def add_user(name: str, role: _Role, config: Config = None) -> None:
    """Make the account NAME; asks for the password, or reads one line of standard input."""
    from triage.cli.worklist import open_database
    from triage.store import accounts

    db = open_database(config)
    password = _password()
    with db.write() as session:
        accounts.create_account(session, name, password, role, datetime.now(UTC))
    print(f"The account '{name}' may log in as {role}.")


def _password() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\n")


def list_users(as_json: Json = False, config: Config = None) -> None:
    """List the accounts that may log in."""
    from triage.cli.worklist import open_database
    from triage.store import accounts

    with open_database(config).read() as session:
        _show(accounts.everybody(session), as_json)


def remove_user(name: str, config: Config = None) -> None:
    """Let NAME log in no more and end its sessions; add it again for another password or role."""
    from triage.cli.worklist import open_database
    from triage.store import accounts

    with open_database(config).write() as session:
        accounts.remove_account(session, name, datetime.now(UTC))
    print(f"The account '{name}' may not log in any more.")


def create_token(name: str, role: _Role, config: Config = None) -> None:
    """Print a new API token for NAME, once; send it as `Authorization: Bearer …`."""
    from triage.cli.worklist import open_database
    from triage.store import accounts

    with open_database(config).write() as session:
        secret = accounts.create_token(session, name, role, datetime.now(UTC))
    print(secret)


def list_tokens(as_json: Json = False, config: Config = None) -> None:
    """List the tokens that let a program in, without their secrets, which are not kept."""
    from triage.cli.worklist import open_database
    from triage.store import accounts

    with open_database(config).read() as session:
        _show(accounts.tokens(session), as_json)


def revoke_token(name: str, config: Config = None) -> None:
    """End every token of NAME at once."""
    from triage.cli.worklist import open_database
    from triage.store import accounts

    with open_database(config).write() as session:
        ended = accounts.revoke_tokens(session, name, datetime.now(UTC))
    print(f"{ended} token(s) of '{name}' let nobody in any more.")


def _show(rows: Iterable[Account | Credential], as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    found = [
        {"name": row.name, "role": row.role, "created_at": row.created_at.isoformat(timespec="seconds")}
        for row in rows
    ]
    if as_json:
        print_json({"items": found})
        return
    table = Table("name", "role", "since", box=None)
    for row in found:
        table.add_row(row["name"], row["role"], row["created_at"])
    Console().print(table)
