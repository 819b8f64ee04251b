"""`triage import` brings films in through this site's own listener, and names what it could not bring."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import tomli_w

from tests.peers import free_port
from tests.receiving import EXPLICIT_LE
from tests.unit.receive.objects import CR, film
from triage.app import Role, Service
from triage.domain.policy import Policy
from triage.receive.parse import Claim
from triage.receive.spool import file_meta
from triage.settings import load
from triage.store import migrations
from triage.store.database import Database


@pytest.fixture
def config(tmp_path):
    """The configuration of a site that lists one sender, on another machine."""
    path = tmp_path / "triage.toml"
    sections = {
        "site": {"data_dir": str(tmp_path / "data")},
        "listener": {"port": free_port()},
        "spool": {"low_water_mb": 0},
        "peer": [{"ae_title": "CT1", "host": "198.51.100.1", "tls_only": True}],
    }
    path.write_text(tomli_w.dumps(sections))
    return path


@pytest.fixture
def site(config):
    service = Service(load(config), Policy(), roles=frozenset({Role.RECEIVE}))
    service.start()
    yield service
    service.stop()


@pytest.fixture
def run(config, command, monkeypatch):
    monkeypatch.setenv("TRIAGE_CONFIG", str(config))
    return partial(command, "import")


def a_film(path: Path, number: int) -> Path:
    uid = f"1.2.3.{number}"
    path.write_bytes(file_meta(Claim(CR, uid, EXPLICIT_LE), "TEST") + film({"SOPInstanceUID": uid}))
    return path


def test_a_site_that_lists_its_senders_takes_its_own_import(site, run, tmp_path):
    film_path = a_film(tmp_path / "film.dcm", 1)
    code, out, err = run(film_path, "--json")
    assert (code, json.loads(out)) == (0, {"files": 1, "sent": 1, "known": 0, "failed": []}), err
    assert json.loads(run(film_path, "--json")[1])["known"] == 1


def test_a_path_that_does_not_exist_is_named_and_the_others_are_imported(site, run, tmp_path):
    here, missing = a_film(tmp_path / "here.dcm", 1), tmp_path / "missing.dcm"
    code, out, err = run(missing, here)
    assert code == 1
    assert out == "imported 1 of 2; 0 were here already, 1 failed\n"
    assert f"triage: {missing}: The file can't be read (No such file or directory).\n" in err
    assert str(here) not in err


def test_nothing_but_missing_paths_needs_no_listener_to_be_named(config, run, tmp_path):
    db = Database(load(config).database_url)
    migrations.upgrade(db)
    db.close()
    code, out, err = run(tmp_path / "gone", "--json")
    assert (code, json.loads(out)["sent"]) == (1, 0)
    assert f"{tmp_path / 'gone'}: The file can't be read" in err
