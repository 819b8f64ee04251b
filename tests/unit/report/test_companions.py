"""The companions say the same as the report, to programs that can read nothing better."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.peers import Dcmtk
from tests.reports import CASES, report_input
from tests.validators import assert_valid
from triage import RESEARCH_USE
from triage.report.document import file_bytes
from triage.report.kinds import KINDS
from triage.report.ko import build_ko
from triage.report.sr import build_sr
from triage.report.text_sr import build_text_sr


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_validators_find_no_error_in_any_kind(kind: str, case: str, dcmtk: Dcmtk, tmp_path: Path) -> None:
    ds = KINDS[kind](report_input(*CASES[case]))
    if ds is None:
        assert kind == "ko"
        return
    path = tmp_path / "object.dcm"
    path.write_bytes(file_bytes(ds))
    assert RESEARCH_USE in assert_valid(dcmtk, path)


def test_the_kinds_of_one_study_are_three_series_of_it() -> None:
    inp = report_input(*CASES["positive"])
    objects = [build(inp) for build in KINDS.values()]
    assert all(ds is not None and ds.StudyInstanceUID == "1.2.3" for ds in objects)
    for keyword in ("SeriesInstanceUID", "SOPInstanceUID", "SeriesNumber"):
        assert len({ds[keyword].value for ds in objects if ds is not None}) == 3


def test_the_text_says_each_finding_and_the_conclusion_of_the_report() -> None:
    inp = report_input(*CASES["positive"])
    findings, conclusions = build_text_sr(inp).ContentSequence[-2:]
    lines = [item.TextValue for item in findings.ContentSequence]
    assert "Appearance resembling tuberculosis: present (probability 0.91)." in lines
    assert len(lines) == 5
    structured = build_sr(inp).ContentSequence[-1].ContentSequence[-1].TextValue
    assert conclusions.ContentSequence[0].TextValue == structured


@pytest.mark.parametrize("case", ["undetermined", "negative", "not evaluated", "failed", "no film at all"])
def test_only_a_flagged_study_has_a_key_image(case: str) -> None:
    assert build_ko(report_input(*CASES[case])) is None


def test_the_key_image_is_the_film_that_decided_and_no_other() -> None:
    ds = build_ko(report_input(*CASES["two films, one undecodable"]))
    assert ds is not None
    evidence = (
        ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    )
    assert [item.ReferencedSOPInstanceUID for item in evidence] == ["1.2.3.4.1"]
    assert ds.ContentSequence[-1].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3.4.1"
