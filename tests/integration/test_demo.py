"""The demonstration: every run is a new day, and a film that was not taken is not counted as sent."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from rich.console import Console

from tests.reading_room import arrive, uid_of
from tests.receiving import clock, receiving
from tests.reports import film_header
from triage import demo
from triage import folder as data_folder
from triage.app import Role
from triage.errors import ConfigurationError, TriageError
from triage.store import migrations
from triage.store.database import Database
from triage.worklist import listing


@pytest.fixture
def film(tmp_path):
    header = film_header(ImageComments="x" * 4000)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = tmp_path / "film.dcm"
    FileDataset(path, header, file_meta=meta, preamble=b"\0" * 128).save_as(path, enforce_file_format=True)
    return path


def listed(settings):
    db = Database(settings.database_url)
    migrations.upgrade(db)
    with db.read() as session:
        shown = [item["study_instance_uid"] for item in listing.page(session, clock())["items"]]
    return db, shown


def test_a_second_day_begins_with_an_empty_list_and_the_drawings_of_the_first(tmp_path):
    settings = demo.demo_settings(tmp_path, 0, 0)
    end = demo.begin_day(tmp_path, settings)
    db, _ = listed(settings)
    arrive(db, 1, clock() - timedelta(days=1))
    assert listed(settings)[1] == [uid_of(1)]
    db.close()
    kept = [tmp_path / "samples" / "1.dcm", tmp_path / "site" / "engines" / "model", tmp_path / "triage.db"]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("kept")
    (tmp_path / "site" / "spool" / "yesterday").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="Another service"):
        demo.begin_day(tmp_path, settings)
    assert listed(settings)[1] == [uid_of(1)], "a running demonstration keeps its list"
    end()
    end = demo.begin_day(tmp_path, settings)
    assert listed(settings)[1] == []
    assert not (tmp_path / "site" / "spool").exists()
    assert all(path.read_text() == "kept" for path in kept)
    end()


def test_the_settings_of_a_real_site_do_not_lead_the_demonstration_there(tmp_path, monkeypatch):
    real = tmp_path / "real"
    kept = [real / "spool" / "film.dcm", real / "results" / "1.dcm", real / "triage.db"]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("kept")
    monkeypatch.setenv("TRIAGE__SITE__DATA_DIR", str(real))
    monkeypatch.setenv("TRIAGE__DATABASE__URL", f"sqlite:///{real / 'triage.db'}")
    monkeypatch.setenv("TRIAGE__LISTENER__HOST", "0.0.0.0")
    settings = demo.demo_settings(tmp_path / "demo", 0, 0)
    demo.begin_day(tmp_path / "demo", settings)()
    assert all(path.read_text() == "kept" for path in kept)
    assert settings.database_url == f"sqlite:///{tmp_path / 'demo' / 'site' / 'triage.db'}"
    assert settings.listener.host == "127.0.0.1"


def test_a_service_that_works_on_the_folder_keeps_its_data(tmp_path):
    settings = demo.demo_settings(tmp_path, 0, 0)
    demo.begin_day(tmp_path, settings)()
    film = settings.data_dir / "spool" / "film.dcm"
    film.parent.mkdir()
    film.write_text("kept")
    data_folder.make(settings.data_dir)
    end = data_folder.hold(settings.data_dir, Role.RECEIVE)
    with pytest.raises(ConfigurationError, match="Another service"):
        demo.begin_day(tmp_path, settings)
    assert film.read_text() == "kept"
    end()


def test_the_list_shows_a_name_with_its_brackets(tmp_path):
    settings = demo.demo_settings(tmp_path, 0, 0)
    end = demo.begin_day(tmp_path, settings)
    db, _ = listed(settings)
    arrive(db, 1, clock(), name="SYNTHETIC[/x]^[ADA]")
    console = Console(width=200, file=io.StringIO())
    console.print(demo._table(db))
    assert "SYNTHETIC[/x]^[ADA]" in console.file.getvalue()
    db.close()
    end()


def test_a_film_that_is_refused_ends_the_demonstration_with_a_sentence(tmp_path, film):
    with (
        receiving(tmp_path / "room", max_object_bytes=2000) as room,
        pytest.raises(TriageError, match=r"film\.dcm with status 0xC000 .*; see the log"),
    ):
        demo._send((*room.address, "TRIAGE"), film)


def test_a_film_that_is_taken_is_sent(tmp_path, film):
    with receiving(tmp_path / "room") as room:
        demo._send((*room.address, "TRIAGE"), film)
        assert [row.sop_instance_uid for row in room.instances()] == ["1.2.3.4.1"]
