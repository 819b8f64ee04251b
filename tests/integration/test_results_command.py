"""`triage results` shows what was built, and brings dead letters back to life."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from tests.pipeline import Site, wall_clock
from tests.reports import answer
from triage import RESEARCH_USE
from triage.cli import results as command
from triage.domain.result import ResultState
from triage.errors import UnknownStudy
from triage.store.tables import Result
from triage.work.queue import Stage


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site with one report, dead because its destination is not configured any more."""
    monkeypatch.setenv("TRIAGE__SITE__DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TRIAGE_CONFIG", str(tmp_path / "triage.toml"))
    (tmp_path / "triage.toml").write_text("")
    site = Site(tmp_path, wall_clock)
    site.study(answer("1.2.3.4.1", tuberculosis=0.9))
    site.run(Stage.REPORT, site.reporter(pacs=("sr",)).report_study)
    site.run(Stage.DELIVER, site.outbox().deliver_result)
    return site


def invoke(*arguments: object) -> tuple[int, str, BaseException | None]:
    app = Typer()
    app.callback()(lambda: None)
    command.register(app)
    result = CliRunner().invoke(app, ["results", *(str(argument) for argument in arguments)])
    return result.exit_code, result.stdout, result.exception


def test_the_list_says_what_is_dead_and_why(site: Site) -> None:
    code, out, _ = invoke("list", "--state", "dead", "--json")
    (item,) = json.loads(out)["items"]
    assert code == 0
    assert (item["state"], item["study_instance_uid"], item["kind"]) == ("dead", "1.2.3", "sr")
    assert "pacs" in item["last_error"]
    assert json.loads(invoke("list", "--state", "sent", "--json")[1])["items"] == []
    assert "dead" in invoke("list")[1]


def test_what_a_peer_said_is_shown_with_its_brackets(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    with site.db.write() as session:
        session.get_one(Result, 1).last_error = "[left] refused at [/node 3]"
    code, out, _ = invoke("list")
    assert (code, "[left] refused at [/node 3]" in out) == (0, True)


def test_one_result_is_shown_as_text(site: Site) -> None:
    code, out, _ = invoke("show", 1)
    assert code == 0
    assert "Finding: Pulmonary tuberculosis" in out
    assert RESEARCH_USE in out


@pytest.mark.parametrize("which", ["1", "--all"])
def test_a_dead_result_is_put_on_its_way_again(site: Site, which: str) -> None:
    code, out, _ = invoke("retry", which, "--json")
    assert (code, json.loads(out)["queued"]) == (0, [1])
    assert site.results(1)[0].state is ResultState.QUEUED
    assert site.queue.take(Stage.DELIVER, site.clock()) is not None


def test_what_is_on_its_way_already_is_refused_by_name(site: Site) -> None:
    invoke("retry", "--all")
    code, out, _ = invoke("retry", 1, "--json")
    assert (code, list(json.loads(out)["refused"])) == (1, ["1"])


def test_a_rebuild_sends_the_same_object_again(site: Site) -> None:
    before = site.results(1)[0].sop_instance_uid
    assert invoke("rebuild", "1.2.3")[0] == 0
    site.run(Stage.REPORT, site.reporter(pacs=("sr",)).report_study)
    (row,) = site.results(1)
    assert (row.sop_instance_uid, row.state) == (before, ResultState.QUEUED)


def test_unknown_numbers_and_studies_are_said_to_be_unknown(site: Site) -> None:
    assert invoke("show", 99)[0] == 2
    assert invoke("retry")[0] == 2
    assert isinstance(invoke("rebuild", "9.9.9")[2], UnknownStudy)
