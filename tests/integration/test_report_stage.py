"""A concluded study becomes objects on disk, rows and jobs, once, whatever is repeated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.pipeline import Site
from tests.reports import answer, no_answer
from triage.domain.finding import NotEvaluated
from triage.domain.result import ResultState
from triage.errors import ConfigurationError
from triage.store import studies
from triage.store.tables import Job
from triage.work.queue import Stage


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def files(site: Site) -> list[Path]:
    return sorted(path for path in (site.folder / "results").rglob("*") if path.is_file())


def test_a_study_is_written_down_and_queued_for_every_destination(site: Site) -> None:
    study = site.study(answer("1.2.3.4.1", tuberculosis=0.9))
    stage = site.reporter(pacs=("sr",), archive=("sr",))
    assert site.run(Stage.REPORT, stage.report_study) == 1
    rows = site.results(study)
    assert [(row.destination, row.state, row.kind) for row in rows] == [
        ("pacs", ResultState.QUEUED, "sr"),
        ("archive", ResultState.QUEUED, "sr"),
    ]
    assert len(files(site)) == 1
    ds = dcmread(site.folder / "results" / rows[0].path)
    assert ds.StudyInstanceUID == "1.2.3"
    assert ds.SOPInstanceUID == rows[0].sop_instance_uid
    assert ds.InstitutionName == "Test Hospital"


def test_a_repeat_after_a_crash_adds_nothing(site: Site) -> None:
    study = site.study(answer("1.2.3.4.1"))
    stage = site.reporter(pacs=("sr",))
    job = site.queue.take(Stage.REPORT, site.clock())
    assert job is not None
    stage.report_study(job)
    before = files(site)[0].read_bytes()
    stage.report_study(job)
    site.reporter(pacs=("sr",)).report_study(replace(job, payload={**job.payload, "rebuild": True}))
    assert len(site.results(study)) == 1
    assert [path.read_bytes() for path in files(site)] == [before]
    with site.db.read() as session:
        assert session.query(Job).filter_by(stage="deliver").count() == 1


def test_a_late_film_makes_version_two_that_names_version_one(site: Site) -> None:
    study = site.study(answer("1.2.3.4.1"))
    stage = site.reporter(pacs=("sr",))
    site.run(Stage.REPORT, stage.report_study)
    site.study(answer("1.2.3.4.1"), answer("1.2.3.4.2", covid19=0.8), version=2)
    site.run(Stage.REPORT, stage.report_study)
    first, second = site.results(study)
    ds = dcmread(site.folder / "results" / second.path)
    series = ds.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.sop_instance_uid
    evidence = ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert len(evidence.ReferencedSOPSequence) == 2


def test_a_version_that_was_overtaken_is_not_written(site: Site) -> None:
    study = site.study(answer("1.2.3.4.1"))
    with site.db.write() as session:
        studies.by_uid(session, "1.2.3").version = 2
    assert site.run(Stage.REPORT, site.reporter(pacs=("sr",)).report_study) == 1
    assert site.results(study) == []


def test_a_study_that_was_not_evaluated_is_reported_too(site: Site) -> None:
    study = site.study(no_answer(NotEvaluated.UNDECODABLE, "1.2.3.4.1"))
    site.run(Stage.REPORT, site.reporter(pacs=("sr",)).report_study)
    assert len(site.results(study)) == 1


def test_without_a_destination_the_report_is_kept(site: Site) -> None:
    study = site.study(answer("1.2.3.4.1"))
    site.run(Stage.REPORT, site.reporter().report_study)
    assert [(row.destination, row.state) for row in site.results(study)] == [("", ResultState.BUILT)]
    assert len(files(site)) == 1


def test_a_study_whose_films_are_gone_says_so_in_its_history(site: Site) -> None:
    study = site.study(answer("1.2.3.4.1"))
    (site.folder / "spool" / "1.2.3.4.1.dcm").unlink()
    assert site.run(Stage.REPORT, site.reporter(pacs=("sr",)).report_study) == 1
    assert site.results(study) == []
    with site.db.read() as session:
        last = studies.events(session, study)[-1]
    assert last.step == "no_report"
    assert "can't be" in last.cause


def test_unknown_kinds_are_refused_by_name(site: Site) -> None:
    with pytest.raises(ConfigurationError, match="'gsps'"):
        site.reporter(pacs=("sr", "gsps"))
