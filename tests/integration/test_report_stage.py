"""A concluded study becomes objects on disk, rows and jobs, once, whatever is repeated."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from tests.peers import Dcmtk
from tests.pipeline import Site
from tests.reports import answer, no_answer
from tests.validators import assert_valid
from triage.domain.finding import NotEvaluated
from triage.domain.result import ResultState, ResultStep
from triage.receive import retention
from triage.receive.spool import Spool
from triage.report import stage as stage_module
from triage.store import instances, results, studies
from triage.store.tables import Job, Result
from triage.work.queue import Stage
from triage.work.worker import Worker


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


def purge(site: Site, sop_instance_uid: str) -> None:
    """Take a film's file away, as the retention does."""
    with site.db.write() as session:
        (film,) = instances.with_uid(session, sop_instance_uid)
        (site.folder / "spool" / film.path).unlink()
        film.path, film.purged_at = "", site.clock()


def items(ds: Dataset, meaning: str) -> list[Dataset]:
    """Return the content items of that name, wherever they are in the tree."""
    found = []
    for item in ds.get("ContentSequence", ()):
        named = item.get("ConceptNameCodeSequence")
        found += [item] if named and named[0].CodeMeaning == meaning else []
        found += items(item, meaning)
    return found


def test_a_late_film_does_not_take_back_what_was_found_on_one_that_was_purged(
    site: Site, dcmtk: Dcmtk
) -> None:
    name = "Yamada^Tarou=\u5c71\u7530^\u592a\u90ce"
    study = site.study(answer("1.2.3.4.1", tuberculosis=0.9))
    site.film(SOPInstanceUID="1.2.3.4.1", PatientName=name)
    stage = site.reporter(pacs=("sr", "text_sr", "ko"))
    site.run(Stage.REPORT, stage.report_study)
    purge(site, "1.2.3.4.1")
    site.study(answer("1.2.3.4.2"), version=2)
    site.film(SOPInstanceUID="1.2.3.4.2", PatientName=name)
    site.run(Stage.REPORT, stage.report_study)
    paths = {(row.study_version, row.kind): site.folder / "results" / row.path for row in site.results(study)}
    first, second = dcmread(paths[1, "sr"]), dcmread(paths[2, "sr"])
    for meaning in ("Presence of property", "Certainty of Finding", "Priority"):
        assert items(second, meaning)
        assert items(second, meaning) == items(first, meaning)
    key = dcmread(paths[2, "ko"])
    (selected,) = key.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert [one.ReferencedSOPInstanceUID for one in selected.ReferencedSOPSequence] == ["1.2.3.4.1"]
    assert {str(dcmread(path).PatientName) for path in paths.values()} == {name}
    for path in paths.values():
        assert_valid(dcmtk, path)


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


def test_a_film_that_can_not_be_read_for_a_while_is_in_the_report(site: Site) -> None:
    study = site.study(answer("1.2.3.4.1"), answer("1.2.3.4.2"))
    film = site.folder / "spool" / "1.2.3.4.1.dcm"
    kept = film.read_bytes()
    film.unlink()
    film.symlink_to(film)
    worker = Worker(site.db, site.queue, Stage.REPORT, site.reporter(pacs=("sr",)).report_study, site.clock)
    for _ in range(5):
        assert worker.run_one()
        site.clock.advance(600)
    film.unlink()
    film.write_bytes(kept)
    assert worker.run_one()
    (row,) = site.results(study)
    ds = dcmread(site.folder / "results" / row.path)
    (series,) = ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert len(series.ReferencedSOPSequence) == 2


def test_a_film_with_odd_but_ordinary_headers_gets_its_report(site: Site) -> None:
    study = site.study(answer("1.2.3.4.1"))
    odd = {"ViewPosition": ["PA", "AP"], "Modality": ["DX", "CR"], "ImagerPixelSpacing": ["1e400", "1"]}
    site.film(SOPInstanceUID="1.2.3.4.1", **odd)
    site.run(Stage.REPORT, site.reporter(pacs=("sr",)).report_study)
    assert [row.state for row in site.results(study)] == [ResultState.QUEUED]


def purged_a_year_later(site: Site) -> int:
    spool = Spool(site.folder / "spool")
    try:
        return retention.purge(site.db, spool, site.clock() + timedelta(days=365), timedelta(days=7))
    finally:
        spool.close()


def test_a_study_that_can_not_have_a_report_does_not_keep_its_files_for_ever(site: Site) -> None:
    study = site.study(answer("1.02.3.4.1"), study_uid="1.02.3")
    assert purged_a_year_later(site) == 0, "nobody has tried yet"
    site.run(Stage.REPORT, site.reporter(pacs=("sr",)).report_study)
    assert site.results(study) == []
    with site.db.read() as session:
        assert [uid for _, uid in results.unreported(session, 10)] == ["1.02.3"]
    assert purged_a_year_later(site) == 1
    assert not (site.folder / "spool" / "1.02.3.4.1.dcm").exists()


def test_a_study_for_which_nothing_is_wanted_does_not_keep_its_files_for_ever(site: Site) -> None:
    study = site.study(answer("1.2.3.4.1"))
    stage = site.reporter(viewer=("ko",))
    site.run(Stage.REPORT, stage.report_study)
    assert site.results(study) == []
    with site.db.read() as session:
        assert studies.events(session, study)[-1].step == "nothing_to_write"
        assert results.unreported(session, 10) == []
    # A late film needs them again, until it was looked at too.
    site.study(answer("1.2.3.4.1"), answer("1.2.3.4.2"), version=2)
    assert purged_a_year_later(site) == 0
    site.run(Stage.REPORT, stage.report_study)
    assert purged_a_year_later(site) == 2


def test_a_rebuild_that_finds_nothing_to_write_is_no_problem_any_more(site: Site) -> None:
    study = site.study(answer("1.2.3.4.1"))
    film = site.folder / "spool" / "1.2.3.4.1.dcm"
    kept = film.read_bytes()
    film.unlink()
    stage = site.reporter(viewer=("ko",))
    site.run(Stage.REPORT, stage.report_study)
    film.write_bytes(kept)
    with site.db.write() as session:
        assert len(results.unreported(session, 10)) == 1
        payload = {"study_id": study, "version": 1, "rebuild": True}
        site.queue.put(session, Stage.REPORT, "again", payload, site.clock())
    site.run(Stage.REPORT, stage.report_study)
    with site.db.read() as session:
        assert results.unreported(session, 10) == []


def test_a_report_that_can_not_be_built_is_a_problem_after_some_tries(site: Site, monkeypatch) -> None:
    def fails(_inp):
        raise TypeError("unhashable")

    study = site.study(answer("1.2.3.4.1"))
    with monkeypatch.context() as broken:
        broken.setitem(stage_module.KINDS, "sr", fails)
        worker = Worker(
            site.db, site.queue, Stage.REPORT, site.reporter(pacs=("sr",)).report_study, site.clock
        )
        while worker.run_one():
            site.clock.advance(600)
    assert worker.failures == stage_module.MAX_ATTEMPTS - 1
    with site.db.read() as session:
        ((event, uid),) = results.unreported(session, 10)
        assert session.query(Job).count() == 0
    assert (uid, "TypeError" in event.cause) == ("1.2.3", True)
    with site.db.write() as session:
        payload = {"study_id": study, "version": 1, "rebuild": True}
        site.queue.put(session, Stage.REPORT, "again", payload, site.clock())
    site.run(Stage.REPORT, site.reporter(pacs=("sr",)).report_study)
    with site.db.read() as session:
        assert results.unreported(session, 10) == []


def test_a_disk_that_is_full_is_no_fault_of_the_report(site: Site, monkeypatch) -> None:
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    study = site.study(answer("1.2.3.4.1"))
    worker = Worker(site.db, site.queue, Stage.REPORT, site.reporter(pacs=("sr",)).report_study, site.clock)
    with monkeypatch.context() as broken:
        broken.setattr(stage_module, "_write_durably", full)
        for _ in range(6):
            assert worker.run_one()
            site.clock.advance(600)
    assert worker.run_one()
    assert len(site.results(study)) == 1


@pytest.mark.parametrize("left", [b"", bytes(4000)])
def test_a_rebuild_writes_a_broken_report_anew_and_begins_its_tries_anew(site: Site, left: bytes) -> None:
    study = site.study(answer("1.2.3.4.1"))
    stage = site.reporter(pacs=("sr",))
    job = site.queue.take(Stage.REPORT, site.clock())
    assert job is not None
    stage.report_study(job)
    (row,) = site.results(study)
    path = site.folder / "results" / row.path
    whole = path.read_bytes()
    path.write_bytes(left)
    with site.db.write() as session:
        spent = {"attempts": 5, "refusals": 2, "last_error": "refused"}
        results.step(session, session.get_one(Result, row.id), ResultStep.GIVE_UP, site.clock(), spent)
    stage.report_study(replace(job, payload={**job.payload, "rebuild": True}))
    (again,) = site.results(study)
    assert path.read_bytes() == whole
    assert (again.id, again.state) == (row.id, ResultState.QUEUED)
    assert (again.attempts, again.refusals, again.last_error) == (0, 0, "")


def test_a_rebuild_that_says_something_else_names_what_it_replaces(site: Site) -> None:
    study = site.study(answer("1.2.3.4.1"))
    stage = site.reporter(pacs=("sr", "text_sr"))
    job = site.queue.take(Stage.REPORT, site.clock())
    assert job is not None
    stage.report_study(job)
    again = replace(job, payload={**job.payload, "rebuild": True})
    site.film(SOPInstanceUID="1.2.3.4.1", AccessionNumber="CORRECTED")
    for _ in range(2):
        stage.report_study(again)
    rows = site.results(study)
    assert [row.kind for row in rows] == ["sr", "text_sr"] * 2
    for first, second in zip(rows[:2], rows[2:], strict=True):
        ds = dcmread(site.folder / "results" / second.path)
        assert (ds.AccessionNumber, ds.InstanceNumber) == ("CORRECTED", 1)
        (series,) = ds.PredecessorDocumentsSequence[0].ReferencedSeriesSequence
        assert [item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence] == [
            first.sop_instance_uid
        ]
