"""Factories for the tests of reports: a film's header, its answer, and the input of a report."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from pydicom.dataset import Dataset

from triage.domain.assessment import FilmAssessment, conclude
from triage.domain.finding import Finding, FindingResult, NotEvaluated, Outcome, finding_state
from triage.report.build import ReportInput, Site
from triage.report.evidence import normalise

NOW = datetime(2026, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)
NAMESPACE = uuid.UUID("7d444840-9dc0-11d1-b245-5ffdce74fad2")
SITE = Site(namespace=NAMESPACE, ae_title="TRIAGE", software="0.1.0", institution="Test Hospital")
MODEL = "chest/3"
DIGEST = "ab" * 32
LOW, HIGH = 0.3, 0.6


def film_header(number: int = 1, **attributes: object) -> Dataset:
    """Return the header of a plain DX film of study 1.2.3."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    ds.SOPInstanceUID = f"1.2.3.4.{number}"
    ds.StudyInstanceUID = "1.2.3"
    ds.SeriesInstanceUID = "1.2.3.4"
    ds.Modality = "DX"
    ds.PatientName = "SYNTHETIC^Films"
    ds.PatientID = "SYN-1"
    ds.PatientBirthDate = "19500102"
    ds.PatientSex = "F"
    ds.StudyDate = "20260304"
    ds.StudyTime = "050000"
    ds.AccessionNumber = "A-17"
    ds.ReferringPhysicianName = ""
    ds.StudyID = "1"
    ds.ViewPosition = "PA"
    ds.PatientOrientation = ["L", "F"]
    ds.ImagerPixelSpacing = ["0.14", "0.15"]
    ds.Rows, ds.Columns = 2500, 2000
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def answer(uid: str = "1.2.3.4.1", **probabilities: float) -> FilmAssessment:
    """Return an evaluated film; findings that are not given have probability .01."""
    findings = tuple(
        FindingResult(f, p, finding_state(p, LOW, HIGH), LOW, HIGH)
        for f in Finding
        for p in (probabilities.get(f.value, 0.01),)
    )
    disease = max(f.probability for f in findings)
    outcome = (
        Outcome.POSITIVE if disease >= HIGH else Outcome.UNDETERMINED if disease >= LOW else Outcome.NEGATIVE
    )
    return FilmAssessment(
        sop_instance_uid=uid,
        outcome=outcome,
        reason=None,
        sentence="a sentence",
        frontal=0.99,
        any_disease=disease,
        findings=findings,
        model=MODEL,
        model_digest=DIGEST,
        started_at=NOW,
        finished_at=NOW + timedelta(seconds=1),
    )


def no_answer(reason: NotEvaluated, uid: str = "1.2.3.4.1") -> FilmAssessment:
    """Return a film that was not evaluated."""
    return replace(
        answer(uid), outcome=Outcome.NOT_EVALUATED, reason=reason, any_disease=None, findings=(), frontal=0.1
    )


def report_input(
    *films: FilmAssessment, evidence: list[Dataset] | None = None, **changes: object
) -> ReportInput:
    """Return the input of a report on study 1.2.3; one film header for each answer unless given."""
    if evidence is None:
        evidence = [normalise(film_header(SOPInstanceUID=film.sop_instance_uid)) for film in films]
    inp = ReportInput(
        site=SITE,
        evidence=evidence or [normalise(film_header())],
        films=films,
        conclusion=conclude(films),
        model=MODEL,
        model_digest=DIGEST,
        version=1,
        started_at=NOW,
        finished_at=NOW + timedelta(seconds=1),
    )
    return replace(inp, **changes)  # type: ignore[arg-type]


#: One input for each thing that a report may have to say.
CASES: dict[str, tuple[FilmAssessment, ...]] = {
    "positive": (answer(tuberculosis=0.91, bacterial_pneumonia=0.4),),
    "undetermined": (answer(covid19=0.45),),
    "negative": (answer(),),
    "not evaluated": (no_answer(NotEvaluated.LATERAL_ONLY),),
    "failed": (no_answer(NotEvaluated.MODEL_FAILURE),),
    "two films, one undecodable": (
        answer(viral_pneumonia=0.8),
        no_answer(NotEvaluated.UNDECODABLE, "1.2.3.4.2"),
    ),
    "no film at all": (),
}
