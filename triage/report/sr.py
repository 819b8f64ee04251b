"""The result as a Comprehensive 3D SR with TID 1500, for every outcome: silence never means normal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import Comprehensive3DSRStorage

from triage.domain.finding import TECHNICAL, FindingResult, FindingState, NotEvaluated, Outcome
from triage.report import codes, wording
from triage.report.build import MANUFACTURER, MODEL_NAME, ReportInput
from triage.report.codes import dcm
from triage.report.document import document_flags, header, seal
from triage.report.tree import (
    CONTAINS,
    HAS_ACQ_CONTEXT,
    HAS_CONCEPT_MOD,
    HAS_OBS_CONTEXT,
    INFERRED_FROM,
    code,
    container,
    date_and_time,
    image,
    number,
    text,
    uidref,
)

KIND = "sr"
SOP_CLASS_UID = str(Comprehensive3DSRStorage)


def build_sr(inp: ReportInput) -> Dataset:
    """Return the SR of one version of a study, sealed and ready to be written.

    The tree is TID 1500 with image library (TID 1600), one measurement group for each finding (TID 1501,
    TID 4019) and qualitative evaluations. The same input gives the same bytes.
    """
    ds = header(inp, KIND, SOP_CLASS_UID, "SR")
    document_flags(ds, inp, KIND)
    root = container(
        dcm("126000", "Imaging Measurement Report"), _sections(inp), template="1500", relationship=None
    )
    ds.update(root)
    return seal(ds, inp, KIND)


def _sections(inp: ReportInput) -> Iterator[Dataset]:
    yield from observation_context(inp)
    yield container(dcm("111028", "Image Library"), _library(inp.evidence))
    groups = list(_groups(inp))
    if groups:
        yield container(dcm("126010", "Imaging Measurements"), groups)
    yield container(Code("C0034375", "UMLS", "Qualitative Evaluations"), _evaluations(inp))


def observation_context(inp: ReportInput) -> Iterator[Dataset]:
    """Yield language, observer and the procedure that was looked at."""
    yield from observer(inp)
    for procedure in _procedures(inp.evidence[0]):
        yield code(HAS_CONCEPT_MOD, dcm("121058", "Procedure reported"), procedure)


def observer(inp: ReportInput) -> Iterator[Dataset]:
    """Yield the language and the device that observed (TID 1204, 1002, 1004)."""
    language = dcm("121049", "Language of Content Item and Descendants")
    yield code(HAS_CONCEPT_MOD, language, codes.ENGLISH)
    yield code(HAS_OBS_CONTEXT, dcm("121005", "Observer Type"), codes.DEVICE)
    yield uidref(HAS_OBS_CONTEXT, dcm("121012", "Device Observer UID"), inp.device_uid)
    yield text(HAS_OBS_CONTEXT, dcm("121013", "Device Observer Name"), inp.site.ae_title)
    yield text(HAS_OBS_CONTEXT, dcm("121014", "Device Observer Manufacturer"), MANUFACTURER)
    yield text(HAS_OBS_CONTEXT, dcm("121015", "Device Observer Model Name"), MODEL_NAME)
    yield text(HAS_OBS_CONTEXT, dcm("121016", "Device Observer Serial Number"), inp.site.serial_number)


def _procedures(film: Dataset) -> list[Code]:
    stated = film.get("ProcedureCodeSequence", ())
    procedures = [Code(c.CodeValue, c.CodingSchemeDesignator, c.CodeMeaning) for c in stated]
    return procedures or [codes.XRAY]


def _library(evidence: Iterable[Dataset]) -> Iterator[Dataset]:
    """Yield one group for each series (TID 1600, 1602)."""
    series: dict[str, list[Dataset]] = {}
    for film in evidence:
        series.setdefault(str(film.SeriesInstanceUID), []).append(film)
    for films in series.values():
        yield container(dcm("126200", "Image Library Group"), _library_group(films))


def _library_group(films: list[Dataset]) -> Iterator[Dataset]:
    modality = codes.MODALITIES.get(films[0].get("Modality", ""), codes.OTHER_MODALITY)
    yield code(HAS_ACQ_CONTEXT, dcm("121139", "Modality"), modality)
    if _shows_chest(films[0]):
        yield code(HAS_ACQ_CONTEXT, dcm("123014", "Target Region"), codes.CHEST)
    yield from date_and_time(
        HAS_ACQ_CONTEXT, (dcm("111060", "Study Date"), dcm("111061", "Study Time")), films[0]
    )
    for film in films:
        yield image(CONTAINS, None, film, _descriptors(film))


def _shows_chest(film: Dataset) -> bool:
    """Return whether the header says so; the picture is not asked here."""
    regions = film.get("AnatomicRegionSequence", ())
    coded = any(region.CodeValue in codes.CHEST_REGIONS for region in regions)
    return coded or film.get("BodyPartExamined") in ("CHEST", "THORAX")


def _descriptors(film: Dataset) -> Iterator[Dataset]:
    """Yield what the film's header states about itself; nothing is guessed."""
    view = _view(film)
    if view is not None:
        yield code(HAS_ACQ_CONTEXT, dcm("111031", "Image View"), view)
    orientation = film.get("PatientOrientation")
    if orientation and not isinstance(orientation, str) and len(orientation) == 2 and all(orientation):
        yield text(HAS_ACQ_CONTEXT, dcm("111044", "Patient Orientation Row"), orientation[0])
        yield text(HAS_ACQ_CONTEXT, dcm("111043", "Patient Orientation Column"), orientation[1])
    spacing = film.get("PixelSpacing") or film.get("ImagerPixelSpacing")
    if spacing and not isinstance(spacing, str) and len(spacing) == 2 and all(s > 0 for s in spacing):
        horizontal, vertical = (
            dcm("111026", "Horizontal Pixel Spacing"),
            dcm("111066", "Vertical Pixel Spacing"),
        )
        yield number(HAS_ACQ_CONTEXT, horizontal, float(spacing[1]), codes.MILLIMETER)
        yield number(HAS_ACQ_CONTEXT, vertical, float(spacing[0]), codes.MILLIMETER)
    if film.get("Rows") and film.get("Columns"):
        yield number(HAS_ACQ_CONTEXT, dcm("110910", "Pixel Data Rows"), film.Rows, codes.PIXELS)
        yield number(HAS_ACQ_CONTEXT, dcm("110911", "Pixel Data Columns"), film.Columns, codes.PIXELS)


def _view(film: Dataset) -> Code | None:
    known = {codes.key(view): view for view in codes.VIEWS.values()}
    for stated in film.get("ViewCodeSequence", ()):
        if (stated.CodeValue, stated.CodingSchemeDesignator) in known:
            return known[(stated.CodeValue, stated.CodingSchemeDesignator)]
    return codes.VIEWS.get(film.get("ViewPosition", ""))


def _groups(inp: ReportInput) -> Iterator[Dataset]:
    """Yield the measurement groups of the film that decided; none when no film was evaluated."""
    said = inp.conclusion
    if said.film is None or said.outcome is Outcome.NOT_EVALUATED:
        return
    source = next((f for f in inp.evidence if f.SOPInstanceUID == said.film.sop_instance_uid), None)
    if source is None:
        return
    for result in said.film.findings:
        yield container(dcm("125007", "Measurement Group"), _finding(inp, result, source), template="1501")
    if said.film.any_disease is not None:
        priority = _priority(inp, said.film.any_disease, source)
        yield container(dcm("125007", "Measurement Group"), priority, template="1501")


def _tracking(inp: ReportInput, name: str) -> Iterator[Dataset]:
    yield text(HAS_OBS_CONTEXT, dcm("112039", "Tracking Identifier"), f"triage/{name}")
    yield uidref(HAS_OBS_CONTEXT, dcm("112040", "Tracking Unique Identifier"), inp.tracking_uid(name))


def _algorithm(inp: ReportInput, parameters: Iterable[str]) -> Iterator[Dataset]:
    """Yield TID 4019: a number is never without the model and calibration that it came from."""
    yield text(HAS_CONCEPT_MOD, dcm("111001", "Algorithm Name"), inp.model.partition("/")[0] or MODEL_NAME)
    yield text(HAS_CONCEPT_MOD, dcm("111003", "Algorithm Version"), inp.model or inp.site.software)
    for parameter in parameters:
        yield text(HAS_CONCEPT_MOD, dcm("111002", "Algorithm Parameters"), parameter)
    yield code(HAS_CONCEPT_MOD, dcm("111000", "Algorithm Family"), codes.ARTIFICIAL_INTELLIGENCE)


def _finding(inp: ReportInput, result: FindingResult, source: Dataset) -> Iterator[Dataset]:
    yield from _tracking(inp, result.finding.value)
    yield code(CONTAINS, codes.FINDING, codes.FINDINGS[result.finding])
    if result.finding in codes.LUNG_FINDINGS:
        yield code(HAS_CONCEPT_MOD, codes.sct("363698007", "Finding Site"), codes.LUNG)
    yield from _algorithm(
        inp,
        (
            f"weights sha256 {inp.model_digest}",
            f"thresholds: undetermined from {result.low:.6g}, present from {result.high:.6g}",
            f"calibration {inp.model}",
        ),
    )
    inferred = image(INFERRED_FROM, codes.SOURCE_OF_MEASUREMENT, source)
    yield number(CONTAINS, codes.CERTAINTY, result.probability, codes.NO_UNITS, [inferred])
    yield code(CONTAINS, codes.PRESENCE, codes.STATES[result.state])
    yield image(CONTAINS, codes.SOURCE_OF_MEASUREMENT, source)


def _priority(inp: ReportInput, score: float, source: Dataset) -> Iterator[Dataset]:
    """Yield the priority group: the pooled probability of disease, and what it asks of the reading list."""
    flagged = inp.conclusion.outcome is Outcome.POSITIVE
    yield from _tracking(inp, "priority")
    yield code(CONTAINS, codes.FINDING, codes.PRIORITY)
    yield from _algorithm(inp, (f"weights sha256 {inp.model_digest}", f"calibration {inp.model}"))
    yield number(CONTAINS, codes.SCORE, score, codes.NO_UNITS)
    yield code(CONTAINS, codes.PRIORITY, codes.HIGH_PRIORITY if flagged else codes.NORMAL_PRIORITY)
    yield image(CONTAINS, codes.SOURCE_OF_MEASUREMENT, source)


def _evaluations(inp: ReportInput) -> Iterator[Dataset]:
    """Yield summary, reasons and conclusion; this container is in every report."""
    reasons = _reasons(inp)
    yield code(CONTAINS, codes.SUMMARY, _summary(inp, reasons))
    written: set[tuple[str, str]] = set()
    for reason in reasons:
        standard = codes.STANDARD_REASONS.get(reason)
        for value in (codes.reason_code(reason), *([standard] if standard else [])):
            if codes.key(value) not in written:
                written.add(codes.key(value))
                yield code(CONTAINS, codes.REASON, value)
    yield text(CONTAINS, codes.CONCLUSION, wording.conclusion(inp.conclusion))


def _reasons(inp: ReportInput) -> list[NotEvaluated]:
    """Return why the study, or some film that could have mattered, was not evaluated; in a fixed order."""
    stated = {film.reason for film in inp.films}
    found = stated & TECHNICAL
    if inp.conclusion.outcome is Outcome.NOT_EVALUATED:
        found = stated | {inp.conclusion.reason}
    return [reason for reason in NotEvaluated if reason in found]


def _summary(inp: ReportInput, reasons: list[NotEvaluated]) -> Code:
    """Return the code of CID 6047; what is undetermined counts as a finding, never as none."""
    if inp.conclusion.outcome is Outcome.NOT_EVALUATED:
        return codes.NONE_SUCCEEDED
    states = {f.state for f in inp.conclusion.film.findings} if inp.conclusion.film else set()
    found = bool(states & {FindingState.PRESENT, FindingState.UNDETERMINED})
    found = found or inp.conclusion.outcome is not Outcome.NEGATIVE
    return codes.SUMMARIES[(not reasons, found)]
