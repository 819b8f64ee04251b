"""`triage db`: the schema."""

from __future__ import annotations

import typer

from triage.cli.options import Config


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="The database's schema.")
    group.command("upgrade")(upgrade)
    group.command("downgrade")(downgrade)
    group.command("check")(check)
    app.add_typer(group, name="db")


def upgrade(config: Config = None) -> None:
    """Bring the schema up to this version's."""
    from triage import settings
    from triage.store import migrations
    from triage.store.database import Database

    db = Database(settings.load(config).database_url)
    migrations.upgrade(db)
    print(f"The database is at revision {migrations.current(db)}.")


def downgrade(revision: str, config: Config = None) -> None:
    """Take the schema back to REVISION ('base' removes every table and all data)."""
    from triage import settings
    from triage.store import migrations
    from triage.store.database import Database

    db = Database(settings.load(config).database_url)
    migrations.downgrade(db, revision)
    print(f"The database is at revision {migrations.current(db) or 'base'}.")


def check(config: Config = None) -> None:
    """Say whether the schema is the one of this version (exit code 2 if not)."""
    from triage import settings
    from triage.store import migrations
    from triage.store.database import Database

    migrations.check(Database(settings.load(config).database_url))
    print("The database is up to date.")
