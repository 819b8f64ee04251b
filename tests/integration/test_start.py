"""A start that ends in a refusal leaves a running service and its database as they were."""

from __future__ import annotations

import json
import re
import socket
from datetime import timedelta

import pytest
import tomli_w
from typer.testing import CliRunner

from triage import checks
from triage.app import Role, Service, utc_now
from triage.cli.main import app as commands
from triage.domain.policy import Policy
from triage.errors import ConfigurationError
from triage.settings import Settings
from triage.store import policies, refusals
from triage.store.database import Database
from triage.store.tables import PolicyRow
from triage.work.queue import Stage
from triage.worklist import policy_change

RECEIVES = frozenset({Role.RECEIVE, Role.DELIVER})
OTHER = Policy(name="other", max_advance=120, minutes=dict.fromkeys(Policy().minutes, 60.0))


def settings(folder, **sections):
    sections = {"site": {"data_dir": folder}, "listener": {"port": 0}, "web": {"port": 0}} | sections
    return Settings.model_validate(sections)


def contents(db):
    """Return every row of the database."""
    with db.engine.connect() as connection:
        return list(connection.connection.driver_connection.iterdump())


@pytest.fixture
def running(tmp_path):
    """A service that receives and delivers; another process has a job of it in hand."""
    service = Service(settings(tmp_path), Policy(), roles=RECEIVES)
    service.start()
    with service.db.write() as session:
        service.queue.put(session, Stage.REPORT, "1/1", {"study_id": 1, "version": 1}, service.clock())
    assert service.queue.take(Stage.REPORT, service.clock() + timedelta(seconds=1))
    yield service
    service.stop()


@pytest.mark.parametrize("role", sorted(RECEIVES))
def test_a_second_service_on_the_same_data_is_refused_before_it_changes_anything(tmp_path, running, role):
    before = contents(running.db)
    second = Service(settings(tmp_path), OTHER, roles=frozenset({role}))
    with pytest.raises(ConfigurationError, match="Another service"):
        second.start()
    assert contents(running.db) == before
    host, port, _ = running.dicom_address()
    socket.create_connection((host, port), 5).close()


def test_what_ended_leaves_the_data_to_the_next(tmp_path, running):
    running.stop()
    following = Service(settings(tmp_path), Policy(), roles=RECEIVES)
    following.start()
    following.stop()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wrong_settings(port):
    spare = free_port()
    half = {"port": 0, "tls": {"certificate": "nowhere.pem"}}
    return {
        "the page's port": ({"web": {"port": port}}, {Role.WEB}, "web.port"),
        "the listener's port": ({"listener": {"port": port}}, {Role.RECEIVE}, "listener.port"),
        "the HL7 port": ({"orders": {"hl7_port": port}}, {Role.WEB}, "orders.hl7_port"),
        "the UPS port": ({"ups": {"port": port}}, {Role.WEB}, "ups.port"),
        "half of a certificate": ({"listener": half}, {Role.RECEIVE}, "listener.tls.key"),
        "no address of ours": ({"web": {"host": "192.0.2.1", "port": 0}}, {Role.WEB}, "web.host"),
        "one port for two": ({"web": {"port": spare}, "ups": {"port": spare}}, {Role.WEB}, "ups.port"),
    }


@pytest.mark.parametrize("case", wrong_settings(0))
def test_what_can_not_listen_has_changed_nothing(tmp_path, case):
    first = Service(settings(tmp_path), Policy(), roles=frozenset({Role.REPORT}))
    first.start()
    first.stop()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        sections, roles, word = wrong_settings(taken.getsockname()[1])[case]
        second = Service(settings(tmp_path, **sections), OTHER, roles=frozenset(roles))
        before = contents(second.db)
        with pytest.raises(ConfigurationError, match=word):
            second.start()
    assert contents(second.db) == before
    second.stop()


def started(folder, policy):
    """Start and stop a service; return the name of the policy in force then, and how many there were."""
    service = Service(settings(folder), policy, roles=frozenset({Role.REPORT}))
    service.start()
    with service.db.read() as session:
        found = policies.active(session).name, session.query(PolicyRow).count()
    service.stop()
    return found


def test_a_policy_that_a_person_activated_outlives_restarts_until_the_configured_one_changes(tmp_path):
    assert started(tmp_path, Policy()) == ("default", 1)
    assert started(tmp_path, Policy()) == ("default", 1)
    db = Database(settings(tmp_path).database_url)
    with db.write() as session:
        policy_change.switch(session, OTHER, utc_now(), "ada")
    db.close()
    assert started(tmp_path, Policy()) == ("other", 2)
    assert started(tmp_path, Policy(name="newer")) == ("newer", 3)
    assert started(tmp_path, Policy(name="newer")) == ("newer", 3)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("foo", "no SQLAlchemy URL"),
        ("postgresql://reader:secret@host/triage", "SQLite only"),
        ("sqlite://", "names no file"),
        ("sqlite:///{data_dir}/noise", "file is not a database"),
        ("sqlite:///{data_dir}/noise/triage.db", "can't be made"),
    ],
)
def test_a_database_that_can_not_be_is_one_sentence_for_service_and_doctor(tmp_path, url, sentence):
    (tmp_path / "noise").write_bytes(b"no database" * 400)
    wrong = settings(tmp_path, database={"url": url})
    with pytest.raises(ConfigurationError, match=sentence) as error:
        Service(wrong, Policy(), roles=RECEIVES).start()
    assert "secret" not in str(error.value)
    found = {check.name: check for check in checks.run(wrong)}
    assert not found["database"].ok
    assert sentence in found["database"].sentence


def test_a_data_folder_that_is_a_file_is_one_sentence(tmp_path):
    (tmp_path / "data").write_text("not a folder")
    separate = {"url": f"sqlite:///{tmp_path}/triage.db"}
    with pytest.raises(ConfigurationError, match=r"site\.data_dir"):
        Service(settings(tmp_path / "data", database=separate), Policy(), roles=RECEIVES).start()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::", "own"])
def test_the_doctor_reaches_the_own_listener_whatever_peers_are_listed(tmp_path, host):
    if host == "own":
        with socket.socket(type=socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(("192.0.2.1", 9))  # sends nothing: says by which address of ours one leaves
            except OSError:
                pytest.skip("this machine has no address but loopback")
            host = probe.getsockname()[0]
    port = free_port()
    wanted = settings(
        tmp_path, listener={"host": host, "port": port}, peer=[{"ae_title": "CT1", "host": "198.51.100.1"}]
    )
    service = Service(wanted, Policy(), roles=frozenset({Role.RECEIVE}))
    service.start()
    try:
        doctor = [check for check in checks.run(wanted) if check.name == "listener"]
        ready = checks.attempt("listener", lambda: checks.listener(wanted, service.dicom_address()[:2]))
    finally:
        service.stop()
    assert [check.ok for check in (*doctor, ready)] == [True, True], (doctor, ready)
    db = Database(wanted.database_url)
    with db.read() as session:
        assert refusals.newest(session) == []
    db.close()


@pytest.mark.parametrize(
    ("sections", "files", "name", "sentence"),
    [
        ({"policy": {"file": "gone.toml"}}, {}, "policy", r"gone\.toml can't be read"),
        (
            {"policy": {"file": "p.toml"}},
            {"p.toml": "[minutes]\nurgent = -5\n"},
            "policy",
            r"minutes\.urgent",
        ),
        ({"listener": {"tls": {"certificate": "gone.pem"}}}, {}, "settings", r"listener\.tls\.key"),
        (
            {"listener": {"tls": {"certificate": "gone.pem", "key": "gone.key"}}},
            {},
            "settings",
            r"gone\.pem is no file",
        ),
        (
            {"listener": {"tls": {"certificate": "c.pem", "key": "c.pem"}}},
            {"c.pem": "no certificate"},
            "settings",
            "certificates .* can't be used",
        ),
    ],
)
def test_the_doctor_says_what_would_keep_the_service_from_starting(
    tmp_path, monkeypatch, sections, files, name, sentence
):
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "triage.toml"
    config.write_text(tomli_w.dumps(sections | {"site": {"data_dir": "data"}}))
    for file, content in files.items():
        (tmp_path / file).write_text(content)
    done = CliRunner().invoke(commands, ["doctor", "--config", str(config), "--json"])
    found = {check["name"]: check for check in json.loads(done.stdout)}
    assert done.exit_code == 1
    assert not found[name]["ok"]
    assert re.search(sentence, found[name]["sentence"])
    other = {"settings", "policy"} - {name}
    assert all(found[one]["ok"] for one in other)


def test_the_doctor_finds_a_listener_on_ipv6(tmp_path):
    try:
        probe = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    port = probe.getsockname()[1]
    probe.close()
    wanted = settings(tmp_path, listener={"host": "::1", "port": port})
    service = Service(wanted, Policy(), roles=frozenset({Role.RECEIVE}))
    service.start()
    try:
        (listener,) = [check for check in checks.run(wanted) if check.name == "listener"]
    finally:
        service.stop()
    assert listener.ok, listener.sentence
    (listener,) = [check for check in checks.run(wanted) if check.name == "listener"]
    assert "the port is free" in listener.sentence
