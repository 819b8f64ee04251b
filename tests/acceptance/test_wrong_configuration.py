"""A wrong configuration is one clear sentence and exit code 2, before anything listens."""

from __future__ import annotations

import shutil
import socket
import sqlite3

import pytest

from tests.site import ROOT, Site, triage
from triage import folder


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path / "site")


def _refused(site, *words):
    done = triage("serve", "--config", site.config, timeout=120)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    sentence = done.stderr.strip().splitlines()[-1]
    assert sentence.startswith("triage: ")
    for word in words:
        assert word in sentence
    assert "Traceback" not in done.stderr


def test_an_unknown_key(site):
    site.config.write_text("[listener]\nprot = 1\n")
    _refused(site, "listener.prot", "Did you mean 'port'")


def test_a_bad_ae_title(site):
    site.config.write_text("[listener]\nae_title = 'THIS TITLE IS TOO LONG'\n")
    _refused(site, "listener.ae_title")


@pytest.mark.parametrize("section", ["listener", "web"])
def test_a_port_in_use(tmp_path, section):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        _refused(Site(tmp_path / "site", **{section: {"port": port}}), str(port))


def test_a_second_service_on_the_same_data(site):
    data = site.folder / "data"
    folder.make(data)
    end = folder.hold(data, "receive")
    _refused(site, "Another service", str(data))
    assert not (data / "triage.db").exists()
    end()


def test_a_database_newer_than_the_code(site):
    assert triage("db", "upgrade", config=site.config).returncode == 0
    with sqlite3.connect(site.folder / "data" / "triage.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    _refused(site, "newer than this code")


def test_weights_that_do_not_match(tmp_path):
    models = tmp_path / "models"
    shutil.copytree(ROOT / "models", models)
    for weights in models.rglob("weights.safetensors"):
        with weights.open("r+b") as file:
            file.seek(-1, 2)
            last = file.read(1)
            file.seek(-1, 2)
            file.write(bytes([last[0] ^ 1]))
    _refused(Site(tmp_path / "site", model={"folder": str(models)}), "do not match")
