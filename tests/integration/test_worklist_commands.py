"""`triage worklist` and `triage policy` as a person at a terminal meets them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.reading_room import fill, uid_of
from triage.learn.data import read_films
from triage.store import migrations
from triage.store.database import Database
from triage.worklist import actions


@pytest.fixture
def run(tmp_path, command, monkeypatch):
    config = tmp_path / "triage.toml"
    config.write_text(f'[site]\ndata_dir = "{tmp_path}"\n')
    db = Database(f"sqlite:///{tmp_path / 'triage.db'}")
    migrations.upgrade(db)
    fill(db, datetime.now(UTC), 6)
    db.close()

    monkeypatch.setenv("TRIAGE_CONFIG", str(config))
    monkeypatch.setenv("COLUMNS", "200")
    return command


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_list_as_json_has_stat_first(run):
    code, out, _ = run("worklist", "--json")
    items = json.loads(out)["items"]
    assert code == 0
    assert [item["band"] for item in items] == sorted(item["band"] for item in items)
    assert items[0]["study_instance_uid"] == uid_of(3)


def test_the_table_says_why_each_row_stands_where_it_stands(run):
    _, out, _ = run("worklist")
    assert "tuberculosis 0.93: 240 min ahead" in out
    _, out, _ = run("worklist", "--why", uid_of(1))
    assert "240.00" in out
    assert "a STAT order would make it number" in out


def test_what_people_wrote_is_shown_with_its_brackets(run, tmp_path):
    db = Database(f"sqlite:///{tmp_path / 'triage.db'}")
    reasons = {1: "[left] lung :ok:", 2: "seen on [/ward 3]"}
    with db.write() as session:
        for number, reason in reasons.items():
            actions.pin(session, uid_of(number), "ada", datetime.now(UTC), minutes=30, reason=reason)
    db.close()
    for number, reason in reasons.items():
        code, out, _ = run("worklist", "--why", uid_of(number))
        assert (code, reason in out) == (0, True)
    policy = write(tmp_path / "named.toml", 'name = "[night]"\n[minutes]\ntuberculosis = 10\n')
    code, out, _ = run("policy", "diff", policy, "--all")
    assert code == 0
    assert "What [night]@" in out
    assert all(reason in out for reason in reasons.values())


def test_the_list_of_before_is_empty_and_of_now_is_not(run):
    _, out, _ = run("worklist", "--json", "--at", "2020-01-01T00:00:00Z")
    assert json.loads(out)["items"] == []
    later = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    _, out, _ = run("worklist", "--json", "--at", later)
    assert len(json.loads(out)["items"]) == 6


def test_the_edges_of_the_calendar_are_a_sentence_or_an_empty_list(run, tmp_path):
    code, out, err = run("worklist", "--at", "0001-01-01T00:00:00+14:00")
    assert (code, out) == (2, "")
    assert err.startswith("triage: The time can't be read")
    usual = write(tmp_path / "usual.toml", "")
    assert json.loads(run("policy", "diff", usual, "--json", "--at", "0001-01-01T00:00:00Z")[1]) == []


def test_an_unknown_study_is_one_sentence_on_stderr(run):
    code, out, err = run("worklist", "--why", "1.2.3")
    assert code == 1
    assert out == ""
    assert "No such study" in err


def test_a_policy_is_tried_before_it_is_switched_on_and_switched_back(run, tmp_path):
    fifo = write(tmp_path / "fifo.toml", 'name = "fifo"\nmode = "shadow"\n')
    usual = write(tmp_path / "usual.toml", "")
    _, before, _ = run("worklist", "--json")
    code, out, _ = run("policy", "diff", fifo, "--json")
    moves = json.loads(out)
    assert code == 0
    assert any(move["before"] != move["after"] for move in moves)
    assert all(move["advance_minutes_after"] == 0 for move in moves)

    def order(text):
        return [item["study_instance_uid"] for item in json.loads(text)["items"]]

    assert order(run("worklist", "--json")[1]) == order(before)
    assert run("policy", "activate", fifo)[0] == 0
    assert order(run("worklist", "--json")[1]) != order(before)
    assert "fifo@" in run("policy", "show")[1]
    assert run("policy", "activate", usual)[0] == 0
    assert order(run("worklist", "--json")[1]) == order(before)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[minutes]\ntuberculosis = -1\n", "minutes.tuberculosis"),
        ("[minutes]\nplague = 10\n", "plague"),
        ('name = ""\n', "name"),
        ("[minutes\n", "TOML"),
    ],
)
def test_a_policy_that_can_not_be_is_refused_with_one_sentence(run, tmp_path, text, expected):
    code, out, err = run("policy", "test", write(tmp_path / "bad.toml", text))
    assert code == 2
    assert out == ""
    assert expected in err


def test_confirmed_findings_become_labels_that_evaluation_reads(run, tmp_path):
    db = Database(f"sqlite:///{tmp_path / 'triage.db'}")
    now = datetime.now(UTC)
    said = [
        (1, "ada", "tuberculosis", True),
        (2, "ada", "normal", True),
        (2, "bob", "normal", False),
        (3, "ada", "other", True),
        (3, "ada", "other", False),
        (4, "bob", "covid19", True),
        (4, "bob", "viral_pneumonia", True),
    ]
    with db.write() as session:
        for number, reader, finding, agrees in said:
            actions.feedback(session, uid_of(number), reader, now, finding=finding, agrees=agrees)
    db.close()
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "1.dcm").write_bytes(b"film")
    code, out, _ = run("feedback", "export", "--json")
    assert code == 0
    assert json.loads(out)["films"] == 1
    text = (tmp_path / "spool" / "labels.csv").read_text()
    assert "SYN-" not in text
    assert "SYNTHETIC" not in text
    [film] = read_films(tmp_path / "spool").rows
    assert (film.file, film.label, film.split) == ("1.dcm", "tuberculosis", "test")
