"""The structured report says what was found, to people, to validators and to other programs."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import highdicom as hd
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from tests.peers import Dcmtk
from tests.reports import CASES, DIGEST, NAMESPACE, SITE, answer, film_header, no_answer, report_input
from tests.validators import assert_valid
from triage import RESEARCH_USE
from triage.domain.finding import Finding, NotEvaluated
from triage.report import codes
from triage.report.build import Predecessor
from triage.report.document import file_bytes
from triage.report.evidence import normalise
from triage.report.sr import build_sr
from triage.report.uids import derive, is_valid


def items(ds: Dataset) -> Iterator[Dataset]:
    for item in ds.get("ContentSequence", ()):
        yield item
        yield from items(item)


def named(ds: Dataset, value: str) -> list[Dataset]:
    return [
        i
        for i in items(ds)
        if "ConceptNameCodeSequence" in i and i.ConceptNameCodeSequence[0].CodeValue == value
    ]


def coded(ds: Dataset, value: str) -> list[str]:
    return [item.ConceptCodeSequence[0].CodeValue for item in named(ds, value)]


def texts(ds: Dataset, value: str) -> list[str]:
    return [item.TextValue for item in named(ds, value)]


def test_a_later_version_names_its_predecessors_and_is_valid(dcmtk: Dcmtk, tmp_path: Path) -> None:
    first = build_sr(report_input(answer()))
    predecessor = Predecessor("sr", first.SeriesInstanceUID, first.SOPClassUID, first.SOPInstanceUID)
    second = build_sr(report_input(answer(), version=2, predecessors=(predecessor,)))
    assert second.SOPInstanceUID != first.SOPInstanceUID
    assert second.SeriesInstanceUID == first.SeriesInstanceUID
    assert second.InstanceNumber == 2
    series = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID
    path = tmp_path / "sr.dcm"
    path.write_bytes(file_bytes(second))
    assert_valid(dcmtk, path)


def test_highdicom_reads_every_group_back() -> None:
    written = file_bytes(build_sr(report_input(*CASES["positive"])))
    read = hd.sr.Comprehensive3DSR.from_dataset(dcmread(BytesIO(written)))
    groups = read.content.get_image_measurement_groups()
    assert [g.tracking_identifier for g in groups] == [
        "triage/bacterial_pneumonia",
        "triage/viral_pneumonia",
        "triage/covid19",
        "triage/tuberculosis",
        "triage/other",
        "triage/priority",
    ]
    tuberculosis = groups[3]
    assert tuberculosis.finding_type.value == "154283005"
    assert tuberculosis.get_measurements()[0].value == 0.91
    assert tuberculosis.source_images[0].referenced_sop_instance_uid == "1.2.3.4.1"


@pytest.mark.parametrize(
    ("case", "summary", "present"),
    [
        ("positive", "111242", ["373068000", "272519000", "272519000", "52101004", "272519000"]),
        ("undetermined", "111242", ["272519000", "272519000", "373068000", "272519000", "272519000"]),
        ("negative", "111241", ["272519000"] * 5),
        ("not evaluated", "111245", []),
        ("failed", "111245", []),
        ("two films, one undecodable", "111244", ["272519000", "52101004"] + ["272519000"] * 3),
        ("no film at all", "111245", []),
    ],
)
def test_summary_and_presence_follow_the_outcome(case: str, summary: str, present: list[str]) -> None:
    ds = build_sr(report_input(*CASES[case]))
    assert coded(ds, "111017") == [summary]
    assert coded(ds, "121052") == present


@pytest.mark.parametrize(
    ("case", "reasons"),
    [
        ("positive", []),
        ("negative", []),
        ("not evaluated", ["lateral-only", "111209"]),
        ("failed", ["model-failure", "111218"]),
        ("two films, one undecodable", ["undecodable", "111235"]),
        ("no film at all", ["not-cr-dx"]),
    ],
)
def test_reasons_are_coded_by_us_and_by_the_standard(case: str, reasons: list[str]) -> None:
    assert coded(build_sr(report_input(*CASES[case])), "notevalreason") == reasons


@pytest.mark.parametrize("reason", NotEvaluated)
def test_every_reason_fits_a_code_value(reason: NotEvaluated) -> None:
    ds = build_sr(report_input(no_answer(reason)))
    assert coded(ds, "notevalreason")[0] == reason.value
    assert len(reason.value) <= 16


def test_the_conclusion_flags_and_never_judges() -> None:
    conclusions = {case: texts(build_sr(report_input(*films)), "121077") for case, films in CASES.items()}
    for case, said in conclusions.items():
        assert len(said) == 1, case
        assert said[0].endswith(RESEARCH_USE), case
    assert "appearance resembling tuberculosis (probability 0.91)" in conclusions["positive"][0]
    assert "bacterial" not in conclusions["positive"][0]
    assert "appearance resembling COVID-19" in conclusions["undetermined"][0]
    assert "does not mean that the films are normal" in conclusions["negative"][0]
    assert "the model failed" in conclusions["failed"][0]


def test_priority_is_high_only_when_something_was_found() -> None:
    assert coded(build_sr(report_input(*CASES["positive"])), "260870009") == ["394849002"]
    assert coded(build_sr(report_input(*CASES["undetermined"])), "260870009") == ["394848005"]
    assert coded(build_sr(report_input(*CASES["failed"])), "260870009") == []


def test_numbers_carry_model_weights_thresholds_and_calibration() -> None:
    ds = build_sr(report_input(*CASES["positive"]))
    parameters = texts(ds, "111002")
    assert f"weights sha256 {DIGEST}" in parameters
    assert "thresholds: undetermined from 0.3, present from 0.6" in parameters
    assert "calibration chest/3" in parameters
    measured = named(ds, "111012")[3].MeasuredValueSequence[0]
    assert measured.NumericValue == 0.91
    assert measured.FloatingPointValue == 0.91
    long = build_sr(report_input(answer(other=0.123456789012345678)))
    assert str(named(long, "111012")[4].MeasuredValueSequence[0].NumericValue) == "0.123457"


def test_it_lies_in_the_study_of_the_films_and_is_the_same_patient() -> None:
    ds = build_sr(report_input(*CASES["positive"]))
    film = film_header()
    for keyword in (
        "StudyInstanceUID",
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyDate",
    ):
        assert ds[keyword].value == film[keyword].value
    assert ds.SeriesInstanceUID != film.SeriesInstanceUID
    assert ds.Modality == "SR"
    assert ds.SeriesDescription == "AI TRIAGE - RESEARCH USE ONLY"
    assert (ds.CompletionFlag, ds.PreliminaryFlag, ds.VerificationFlag) == (
        "COMPLETE",
        "PRELIMINARY",
        "UNVERIFIED",
    )
    evidence = ds.CurrentRequestedProcedureEvidenceSequence[0]
    assert evidence.StudyInstanceUID == "1.2.3"
    assert (
        evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3.4.1"
    )
    assert ds.ReferencedRequestSequence[0].AccessionNumber == "A-17"
    assert ds.ContributingEquipmentSequence[0].SoftwareVersions == ["0.1.0", "chest/3"]


def test_views_are_not_swapped() -> None:
    for position, value in (("PA", "272479007"), ("AP", "399348003")):
        ds = build_sr(report_input(answer(), evidence=[normalise(film_header(ViewPosition=position))]))
        assert coded(ds, "111031") == [value]


@pytest.mark.parametrize(("part", "regions"), [("CHEST", ["816094009"]), ("", []), ("HIP", [])])
def test_the_target_region_is_what_the_film_states(part: str, regions: list[str]) -> None:
    ds = build_sr(report_input(answer(), evidence=[normalise(film_header(BodyPartExamined=part))]))
    assert coded(ds, "123014") == regions


def test_a_finding_site_is_written_for_findings_of_the_lung_only() -> None:
    groups = [item for item in items(build_sr(report_input(answer()))) if "ContentTemplateSequence" in item]
    sited = [group for group in groups if any(i in group.ContentSequence for i in named(group, "363698007"))]
    assert {coded(group, "121071")[0] for group in sited} == {
        codes.FINDINGS[finding].value for finding in Finding if finding is not Finding.OTHER
    }


def test_an_offset_is_written_only_where_the_film_states_one() -> None:
    assert "TimezoneOffsetFromUTC" not in build_sr(report_input(answer()))
    film = normalise(film_header(TimezoneOffsetFromUTC="+0530"))
    assert build_sr(report_input(answer(), evidence=[film])).TimezoneOffsetFromUTC == "+0530"


def test_list_and_report_have_one_word_for_what_is_not_named() -> None:
    said = texts(build_sr(report_input(answer(other=0.9))), "121077")[0]
    assert "another disease" in said


def test_the_same_input_gives_the_same_bytes() -> None:
    assert file_bytes(build_sr(report_input(answer()))) == file_bytes(build_sr(report_input(answer())))


def test_whatever_differs_gives_another_object() -> None:
    base = report_input(answer())
    variants = [
        base,
        report_input(answer(tuberculosis=0.0100001)),
        replace(base, version=2),
        replace(base, model_digest="cd" * 32),
        replace(base, site=replace(SITE, namespace=uuid.uuid4())),
        replace(base, site=replace(SITE, software="0.2.0")),
        report_input(answer(), evidence=[normalise(film_header(PatientName="Other^Name"))]),
    ]
    uids = [build_sr(inp).SOPInstanceUID for inp in variants]
    assert len(set(uids)) == len(uids)
    assert all(is_valid(uid) for uid in uids)


def test_tracking_follows_a_finding_through_versions_but_not_to_another_study() -> None:
    first, second = build_sr(report_input(answer())), build_sr(report_input(answer(), version=2))
    other = build_sr(report_input(answer(), evidence=[normalise(film_header(StudyInstanceUID="1.2.4"))]))
    tracked = [[item.UID for item in named(ds, "112040")] for ds in (first, second, other)]
    assert tracked[0] == tracked[1]
    assert not set(tracked[0]) & set(tracked[2])
    assert len(set(tracked[0])) == 6


def test_derived_uids_follow_the_standard() -> None:
    assert derive(uuid.NAMESPACE_DNS, "www.example.com") == "2.25.62257697832880430461588949038000940706"
    assert derive(NAMESPACE, "1.2.3", "model", "series") == "2.25.176521883570617160395617470785574918200"


@pytest.mark.parametrize("uid", ["1.2.3", "2.25.0", "1." + "2" * 62])
def test_valid_uids_are_accepted(uid: str) -> None:
    assert is_valid(uid)


@pytest.mark.parametrize("uid", ["", "1", "1.02", "1..2", "../etc/passwd", "1." + "2" * 63, "1.2.3\n"])
def test_invalid_uids_are_refused(uid: str) -> None:
    assert not is_valid(uid)
