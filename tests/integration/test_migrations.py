"""The schema can be made, unmade and checked."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, select, text

from triage.domain.priority import Urgency
from triage.errors import DatabaseVersionError
from triage.store import migrations
from triage.store.database import Database
from triage.store.tables import Base, Order
from triage.worklist import orders
from triage.worklist.orders import OrderRequest, Source


@pytest.fixture
def empty(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    yield database
    database.close()


def test_upgrade_makes_every_table_as_the_code_knows_it(db):
    with db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        assert compare_metadata(context, Base.metadata) == []


def test_downgrade_unmakes_everything(db):
    migrations.downgrade(db, "base")
    assert set(inspect(db.engine).get_table_names()) <= {"alembic_version"}


def test_an_order_without_an_urgency_survives_the_way_back_and_forth(db, now):
    with db.write() as session:
        orders.receive(session, OrderRequest(Source.REST, accession_number="A1"), now, "ris")
    migrations.downgrade(db, "0005")
    migrations.upgrade(db)
    with db.read() as session:
        assert session.scalars(select(Order.urgency)).all() == [Urgency.ROUTINE]


def test_the_reading_order_is_served_by_the_partial_index(db):
    with db.engine.connect() as connection:
        plan = connection.execute(
            text(
                "EXPLAIN QUERY PLAN SELECT study_uid FROM entry WHERE entry.state = 'waiting' "
                "ORDER BY band, effective_at, arrived_at, study_uid LIMIT 50"
            )
        ).all()
    assert "ix_entry_waiting" in str(plan)
    assert "TEMP B-TREE" not in str(plan)


def test_an_empty_database_is_named_and_the_command_too(empty):
    with pytest.raises(DatabaseVersionError, match="triage db upgrade"):
        migrations.check(empty)


@pytest.fixture
def schema(db, command, monkeypatch):
    """Run `triage db ARGUMENTS` on the database of the test."""
    monkeypatch.setenv("TRIAGE__DATABASE__URL", str(db.engine.url))
    return lambda *arguments: command("db", *arguments)


def test_a_database_newer_than_the_code_is_refused_and_left_as_it_is(db, schema):
    with db.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    sentence = "The database is at revision 9999, which is newer than this code; install the newer version."
    for arguments in (("check",), ("upgrade",), ("downgrade", "0001"), ("downgrade", "base")):
        assert schema(*arguments) == (2, "", f"triage: {sentence}\n")
    assert migrations.current(db) == "9999"


def test_a_schema_goes_back_and_forth_and_a_wrong_way_is_a_sentence(schema):
    assert schema("downgrade", "0003")[:2] == (0, "The database is at revision 0003.\n")
    assert "older revision 0003; run 'triage db upgrade'" in schema("check")[2]
    for revision in ("9999", "0005", "00", "+1"):
        code, out, err = schema("downgrade", revision)
        assert (code, out) == (2, "")
        sentence = (
            f"triage: The database can't be taken back to '{revision}'; name base or an older one of 0001,"
        )
        assert err.startswith(sentence)
        assert len(err.splitlines()) == 1
    assert schema("upgrade")[0] == 0
    assert schema("check") == (0, "The database is up to date.\n", "")


def test_an_interrupted_upgrade_leaves_nothing(empty, monkeypatch):
    original = migrations.command.upgrade

    def half(config, revision):
        original(config, revision)
        raise KeyboardInterrupt

    monkeypatch.setattr(migrations.command, "upgrade", half)
    with pytest.raises(KeyboardInterrupt):
        migrations.upgrade(empty)
    assert inspect(empty.engine).get_table_names() == []
